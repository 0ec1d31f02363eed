"""How fairseq starts workers, on machines with and without GPUs; nothing is really started."""

import os
from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.configs import DistributedTrainingConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import cpu_workers

LAUNCHERS = ("MASTER_", "WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_")
TORCHRUN = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
SLURM = {"SLURM_STEP_NODELIST": "node[0-1]", "SLURM_JOB_ID": "7"}


def options(**distributed):
    distributed = DistributedTrainingConfig(**{"distributed_world_size": 1, **distributed})
    return OmegaConf.create(
        {"common": {"cpu": True, "tpu": False}, "distributed_training": distributed}
    )


@pytest.fixture(params=[0, 4], ids=["no GPU", "4 GPUs"])
def gpus(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: pytest.fail("a GPU was chosen"))
    return request.param


@pytest.fixture
def launch(gpus, monkeypatch, tmp_path):
    """Runs fairseq's call_main under a launcher's variables; returns what would be started."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 127.0.0.1\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)
    started = []

    def spawn(fn, args, nprocs, join):
        started.append((nprocs, args[2][1].distributed_training))

    def run(i, main, cfg, kwargs):
        assert not distributed_utils.torch.cuda.is_available()
        started.append((1, cfg.distributed_training))

    monkeypatch.setattr(torch.multiprocessing, "spawn", spawn)
    monkeypatch.setattr(cpu_workers, "fairseqs_distributed_main", run)

    def launch(cfg, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        distributed_utils.call_main(cfg, lambda cfg: started.append((0, cfg.distributed_training)))
        return started.pop()

    return launch


def test_workers_of_one_machine(launch):
    number, chosen = launch(options(distributed_world_size=6))
    assert (number, chosen.distributed_backend) == (6, "gloo")
    assert chosen.distributed_init_method.startswith("tcp://localhost:")


def test_workers_that_are_told_where_to_meet(launch):
    where = "tcp://127.0.0.1:29500"
    number, _ = launch(options(distributed_world_size=6, distributed_init_method=where))
    assert number == 6


def test_one_worker_is_none(launch):
    assert launch(options())[0] == 0


def test_another_backend_is_kept(launch):
    _, chosen = launch(options(distributed_world_size=2, distributed_backend="mpi"))
    assert chosen.distributed_backend == "mpi"


def test_torchrun_says_how_many_there_are(launch):
    number, chosen = launch(options(), **TORCHRUN, WORLD_SIZE="6", RANK="5", LOCAL_RANK="1")
    assert (number, chosen.distributed_no_spawn) == (1, True)
    assert (chosen.distributed_world_size, chosen.distributed_rank) == (6, 5)
    assert (chosen.distributed_init_method, chosen.distributed_backend) == ("env://", "gloo")


def test_tasks_of_slurm_are_workers(launch):
    tasks = {"SLURM_NNODES": "2", "SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3"}
    here = {"SLURM_NODEID": "1", "SLURM_PROCID": "5", "SLURM_LOCALID": "2"}
    number, chosen = launch(
        options(distributed_world_size=6, distributed_port=29500), **SLURM, **tasks, **here
    )
    assert (number, chosen.distributed_no_spawn) == (1, True)
    assert (chosen.distributed_world_size, chosen.distributed_rank) == (6, 5)
    assert chosen.distributed_init_method == "tcp://127.0.0.1:29500"


def test_a_task_of_slurm_starts_the_workers_of_its_node(launch):
    tasks = {"SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    here = {"SLURM_NODEID": "1", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    cfg = options(distributed_world_size=6, distributed_port=29500)
    number, chosen = launch(cfg, **SLURM, **tasks, **here)
    assert number == 3
    assert chosen.distributed_world_size == 6


def test_more_tasks_than_workers_are_refused(launch):
    tasks = {"SLURM_NNODES": "1", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
    with pytest.raises(AdminError, match=r"--distributed-world-size 2 .* nodes x tasks per node"):
        launch(options(distributed_world_size=2, distributed_port=29500), **SLURM, **tasks)


@pytest.mark.parametrize("gpus", [4], ids=["4 GPUs"], indirect=True)
def test_more_workers_than_gpus_are_refused(launch):
    cfg = options(distributed_world_size=6)
    cfg.common.cpu = False
    with pytest.raises(AdminError, match=r"--distributed-world-size 6 .* at most as many"):
        launch(cfg)


@pytest.mark.parametrize("gpus", [4], ids=["4 GPUs"], indirect=True)
def test_workers_on_gpus_are_started_as_ever(launch):
    cfg = options(distributed_world_size=3)
    cfg.common.cpu = False
    number, chosen = launch(cfg)
    assert (number, chosen.distributed_backend) == (3, "nccl")


def test_fairseq_sees_the_machine_as_it_is_afterwards(launch, gpus):
    gather = distributed_utils.all_gather_list
    launch(options(distributed_world_size=6))
    assert distributed_utils.torch.cuda.device_count() == gpus
    assert distributed_utils.all_gather_list is gather


@pytest.mark.parametrize(
    ("cores", "workers", "by_user", "threads"),
    [(8, 2, None, "4"), (8, 3, None, "2"), (2, 4, None, "1"), (8, 2, "8", "8")],
)
def test_workers_share_cores(cores, workers, by_user, threads, launch, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", by_user or "")
    if by_user is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    launch(options(distributed_world_size=workers))
    assert os.environ["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize(("is_cuda", "devices"), [(False, None), (True, [1])])
def test_only_models_on_gpus_have_device_numbers(is_cuda, devices, monkeypatch):
    monkeypatch.setattr(cpu_workers, "DistributedDataParallel", lambda module, **given: given)
    model = SimpleNamespace(parameters=lambda: [SimpleNamespace(is_cuda=is_cuda)])
    wrap = distributed_fairseq_model.DistributedDataParallel
    given = wrap(model, device_ids=[1], output_device=1, bucket_cap_mb=25)
    assert given["device_ids"] == devices
    assert given["bucket_cap_mb"] == 25
