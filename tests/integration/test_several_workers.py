"""Workers on CPUs, as fairseq, torchrun and Slurm start them, and going on where they end."""

import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from admin_fairseq.checkpoints.storage import read_checkpoint
from admin_fairseq.results.runs import read_run

from . import slurm
from .conftest import TRAIN, WARMUP, Output
from .shims import BIN, LONGEST, captured
from .test_run_log import statistics
from .test_workers import free_port

DLCL = [
    *("--arch", "dlcl_transformer_tiny", "--checkpoint-activations"),
    *("--criterion", "label_smoothed_cross_entropy_chunked", "--save-interval-updates", 5),
]
KILL = """
import os, signal
import admin_fairseq
from fairseq.trainer import Trainer

train_step = Trainer.train_step

def killed(self, *arguments):
    if self.data_parallel_rank == 1 and self.get_num_updates() == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(self, *arguments)

Trainer.train_step = killed
"""

FAIL = """
from torch import distributed as dist

import admin_fairseq
from admin_fairseq.errors import AdminError
from admin_fairseq.profiling import run

check_batch = run.check_batch

def failing(*arguments):
    if dist.get_rank() == 1:
        raise AdminError("a batch of worker 1 alone is damaged")
    check_batch(*arguments)

run.check_batch = failing
"""


def user_dir(folder, code):
    """A folder for --user-dir: the plugin, and some code of its own."""
    folder.mkdir()
    (folder / "__init__.py").write_text(code)
    return folder


def options(data, folder, *words, updates=10):
    """Words for ``fairseq-train`` or what starts it; the later ones count."""
    saving = ["--disable-validation", "--save-dir", folder, "--max-update", updates]
    return [data, *TRAIN, *WARMUP, *DLCL, *saving, *words]


def positions(output):
    """Which batches of the epoch the updates were made on, and how many it has."""
    return re.findall(r"epoch 001: +(\d+ / \d+) loss", output)


def together(run, command, *environments):
    """What a command prints in warm processes, one for each environment, at the same time."""

    def start(environment):
        environment = {**run.environment, **environment}
        return captured(run.folder, environment, BIN / "fairseq-train", *command)

    with ThreadPoolExecutor(len(environments)) as pool:
        found = list(pool.map(start, environments))
    assert not any(status for status, _, _ in found), found
    return Output("".join(output for _, output, _ in found), "")


@pytest.fixture(scope="module")
def two(run, data, tmp_path_factory):
    """Two workers under fairseq's default --ddp-backend; their folder and their losses.

    They have the variables that torchrun sets; fairseq spawns those of the first test.
    """
    folder = tmp_path_factory.mktemp("two")
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    workers = ({**job, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(2))
    return folder, together(run, options(data, folder), *workers).losses()


def test_the_first_worker_logs(two):
    folder, losses = two
    assert len(losses) == len(statistics(folder)) == 10
    assert read_run(str(folder)).log.starts == 1


@pytest.fixture
def stopped(two, tmp_path):
    """A --save-dir whose last checkpoint is that of two workers after five updates."""
    shutil.copy(two[0] / "checkpoint_1_5.pt", tmp_path / "checkpoint_last.pt")
    return tmp_path


def test_a_run_with_a_killed_worker_ends_and_goes_on_as_if_it_had_not(run, data, two, tmp_path):
    command = ["fairseq-train", *options(data, tmp_path, "--distributed-world-size", 2)]
    killed = run(*command, "--user-dir", user_dir(tmp_path / "killing", KILL), status=1)
    line = "worker 1 was ended by SIGKILL; the same command continues from the last checkpoint"
    assert killed.errors.strip().splitlines()[-1] == f"admin-fairseq: error: {line}"
    assert "Traceback" not in killed.errors
    folder, losses = two
    assert run(*command).losses() == losses[5:]
    updates = re.findall(r"num_updates=(\d+)", "".join(statistics(tmp_path)))
    assert updates[-5:] == ["6", "7", "8", "9", "10"]  # the first worker's alone
    saved = [read_checkpoint(each / "checkpoint_last.pt") for each in (folder, tmp_path)]
    whole, resumed = (checkpoint["model"] for checkpoint in saved)
    for name, weight in whole.items():
        # fairseq 0.12.2 leaves what _float_tensor holds to chance
        assert name.endswith("_float_tensor") or torch.equal(weight, resumed[name]), name


@pytest.mark.parametrize(
    "start", [[], ["torchrun", "--nproc_per_node", 2]], ids=["spawn", "torchrun"]
)
def test_a_worker_that_fails_in_the_profile_ends_the_others(start, run, data, tmp_path):
    """They would wait for its variances."""
    port = ["--master_port", free_port()] if start else []
    words = options(data, tmp_path / "run", "--arch", "admin_transformer_tiny")
    words += ["--init-type", "adaptive-profiling", "--distributed-world-size", 2]
    words += ["--user-dir", user_dir(tmp_path / "failing", FAIL)]
    program = BIN / "fairseq-train" if start else "fairseq-train"
    began = time.monotonic()
    _, _, errors = run.captured(*start, *port, program, *words)
    said = [line.partition("admin-fairseq: error: ")[2] for line in errors.splitlines()]
    assert "a batch of worker 1 alone is damaged" in said
    assert not start or any(line.startswith("profiling: the workers' variances") for line in said)
    assert "rank0]: Traceback" not in errors and "rank1]: Traceback" not in errors
    assert time.monotonic() - began < 60
    assert not (tmp_path / "run" / "profile.json").exists()


def test_one_worker_goes_on_for_two_and_two_agents_for_one(run, data, stopped):
    alone = run("fairseq-train", *options(data, stopped, updates=8))
    assert positions(alone) == ["11 / 60", "12 / 60", "13 / 60"]
    legacy = options(data, stopped, "--ddp-backend", "legacy_ddp")
    meet = ["--nnodes", 2, "--master_addr", "127.0.0.1", "--master_port", free_port()]
    agents = [
        run.start("torchrun", *meet, "--node_rank", i, BIN / "fairseq-train", *legacy)
        for i in range(2)
    ]
    printed = ["\n".join(agent.communicate(timeout=300)) for agent in agents]
    assert not any(agent.returncode for agent in agents), printed
    assert positions("".join(printed)) == ["7 / 30", "8 / 30"]


def test_tasks_of_slurm_finetune(run, data, two, tmp_path):
    """The variables that srun sets; scontrol names the one node that there is."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 127.0.0.1\n")
    scontrol.chmod(0o755)
    job = {"SLURM_STEP_NODELIST": "node", "SLURM_NNODES": "1", "SLURM_NTASKS": "2"}
    job["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    meet = ["--distributed-world-size", 2, "--distributed-port", free_port()]
    model = ["--finetune-from-model", two[0] / "checkpoint_last.pt"]
    command = options(data, tmp_path, *meet, *model, "--arch", "dlcl_transformer_tiny", updates=2)
    tasks = ({**job, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2))
    output = together(run, command, *tasks)
    assert positions(output) == ["1 / 30", "2 / 30"]
    assert "(epoch 1 @ 0 updates)" in output


@pytest.mark.skipif(not slurm.available(), reason=f"Slurm: {slurm.WHY_NOT}")
def test_two_nodes_of_slurm_compute_what_two_workers_do(run, data, two, tmp_path):
    """With the options of srun that docs/training.md and --launcher slurm have, but for GPUs."""
    meet = ["--distributed-world-size", 2, "--distributed-port", free_port()]
    start = ["srun", "--kill-on-bad-exit=1", "--nodes", 2, "--ntasks-per-node", 1]
    words = [*start, BIN / "fairseq-train", *options(data, tmp_path, *meet)]
    with slurm.cluster() as variables:
        done = subprocess.run(
            [str(word) for word in words],
            env={**run.environment, **variables},
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Output(done.stdout, done.stderr).losses() == two[1]
