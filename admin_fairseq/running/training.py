"""``admin-fairseq train``: build the fairseq-train command of each run from the published settings,
and run it."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from argparse import ArgumentParser
from dataclasses import dataclass
from typing import Callable, Iterator, NamedTuple, Optional, Sequence

import torch
from fairseq.registry import REGISTRIES

from admin_fairseq.bounds import spelled
from admin_fairseq.corpora.prepared import read_prepared
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_text, replacing
from admin_fairseq.recipes.recipe import Settings
from admin_fairseq.recipes.settings import (
    CRITERION,
    LOG,
    START,
    kept,
    languages_of,
    model_of,
    options,
)
from admin_fairseq.running.processes import as_line, found, run
from admin_fairseq.running.runs import RunOptions, Runs

logger = logging.getLogger(__name__)

PORT = 29500  # the port on which the workers of a Slurm job meet
FREE = (
    *("--max-update", "--max-epoch"),  # the length of a run
    *("--distributed-world-size", "--distributed-port", "--update-freq"),  # the division of work
    *("--log-interval", "--log-format", "--log-dynamics"),  # what is written of it
)
"""Options, each with a value, that the user can change when a run is resumed."""


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """The options of ``admin-fairseq train``, under the same names."""

    gpus: Optional[int]
    nodes: int = 1
    launcher: str = "torchrun"
    endpoint: Optional[str] = None
    update_freq: Optional[int] = None


def train(asked: TrainOptions) -> Iterator[str]:
    """Train the run of every seed by running fairseq-train; an existing run is resumed.

    Admin's runs profile their first batch, write profile.json and then train. With ``dry_run``,
    yields the commands, one a line, and runs none. Raises AdminError if the data are not prepared
    or a folder has a run with other settings, and SystemExit with the exit status of a command that
    fails.
    """
    runs = Runs(asked)
    commands = _commands(asked, runs)
    if not asked.dry_run:
        _require_data(runs)
    for seed, words in commands.items():
        if asked.dry_run:
            yield as_line(words)
            continue
        folder = runs.folder(seed)
        logger.info("Training %s", folder)
        _record_settings(folder, words)
        status = run(words, stderr=subprocess.STDOUT)
        if status:
            raise SystemExit(status)


def _commands(asked: TrainOptions, runs: Runs) -> dict[int, list[str]]:
    """Return seed → the command that trains its run."""
    workers = _workers(asked, runs)
    return {
        seed: [
            *(*workers.launch, runs.data_bin),
            *(*options(_kept(_settings(runs, seed, workers), asked.words)), *asked.words),
        ]
        for seed in runs.seeds
    }


def limits(asked: TrainOptions) -> dict[str, int]:
    """Return the runs' max_update and max_epoch, 0 for no limit.

    Raises AdminError if the folder of one of them has a run with other settings.
    """
    runs = Runs(asked)
    commands = _commands(asked, runs)
    for seed, words in commands.items():
        _check_settings(runs.folder(seed), words)
    given = {name: _value(words, spelled(name)) or "" for name in ("max_update", "max_epoch")}
    return {name: int(value) if value.isdigit() else 0 for name, value in given.items()}


def _value(words: Sequence[str], option: str) -> Optional[str]:
    """Return the last value of ``option`` among ``words``; None without one."""
    found = None
    for word, value in zip(words, [*words[1:], ""]):
        name, _, own = word.partition("=")
        if name == option:
            found = own or value
    return found


def _kept(settings: Settings, words: Sequence[str]) -> Settings:
    """Return ``settings`` without those that an optimiser, schedule or loss among ``words`` lacks.

    ``--optimizer sgd``, for example, has no ``--adam-betas``.
    """
    found = settings
    for section in ("optimizer", "lr_scheduler", "criterion"):
        chosen = _value(words, spelled(section))
        kind = REGISTRIES[section]["registry"].get(chosen)
        if kind is not None:
            parser = ArgumentParser()
            kind.add_args(parser)
            known = {"_name", *vars(parser.parse_args([]))}
            found = {
                key: value
                for key, value in found.items()
                if key.split(".")[0] != section or key.split(".")[1] in known
            }
    return found


def _require_data(runs: Runs) -> None:
    """Raise AdminError unless ``admin-fairseq prepare`` has completed the data folder."""
    if read_prepared(runs.data_dir) is None or not os.path.isdir(runs.data_bin):
        raise AdminError(
            f"{runs.data_dir}: not prepared, or not completely; first run: admin-fairseq prepare "
            f"{runs.options.dataset} --data-dir {runs.data_dir}"
        )


class Workers(NamedTuple):
    """How a run's workers (processes, one per GPU) are started, so that together they train with
    the published batch."""

    launch: list[str]  # the command up to fairseq-train's options
    settings: Settings  # device, precision, number of workers, port
    update_freq: int  # batches that each worker processes for an update


def _settings(runs: Runs, seed: int, workers: Workers) -> Settings:
    """Return all settings of the run with this seed, in the order of the command line."""
    recipe = runs.recipe
    return {
        **START,
        **model_of(runs.options.scheme, runs.published.size, runs.layers),
        "checkpoint.save_dir": runs.folder(seed),
        "common.seed": seed,
        "dataset.max_tokens": recipe.batch.max_tokens,
        "optimization.update_freq": workers.update_freq,
        **CRITERION,
        **kept(recipe.decoding),
        **LOG,
        **workers.settings,
        **languages_of(runs.options.dataset),
        **recipe.settings,
    }


def _workers(asked: TrainOptions, runs: Runs) -> Workers:
    """Decide how many workers train, how they are started and how they share the batch."""
    precision = _precision(asked, runs)
    if asked.cpu and asked.nodes > 1:
        raise AdminError(f"--nodes {asked.nodes}: with --cpu, a run uses one node only")
    gpus = 1 if asked.cpu else asked.gpus or _visible_gpus(asked, runs)
    workers = gpus * asked.nodes
    launch, port = _launch(asked, gpus)
    settings = {
        **precision,
        "distributed_training.distributed_world_size": workers,
        "distributed_training.distributed_port": port,
    }
    return Workers(launch, settings, asked.update_freq or _update_freq(runs, workers))


def _visible_gpus(asked: TrainOptions, runs: Runs) -> int:
    """Count this node's GPUs; without any, raise AdminError, or use the published number of GPUs
    per node if the command is only printed."""
    published = max(1, runs.recipe.batch.gpus // asked.nodes)
    count = torch.cuda.device_count() or (published if asked.dry_run else 0)
    if not count:
        raise AdminError("no GPU is visible; give --gpus N, or --cpu")
    return count


def _update_freq(runs: Runs, workers: int) -> int:
    """Compute --update-freq so that ``workers`` GPUs train with the published batch; raise
    AdminError if they cannot share its batches equally."""
    batches = runs.recipe.batch.update_freq * runs.recipe.batch.gpus
    if batches % workers:
        raise AdminError(
            f"{workers} GPUs cannot share the published batch ({batches} x --max-tokens); use "
            "fewer (--gpus), or train with another batch (--update-freq)"
        )
    return batches // workers


def _precision(asked: TrainOptions, runs: Runs) -> Settings:
    """Return fairseq's settings for the device and the precision."""
    settings = {
        "fp16": {**runs.recipe.half, "common.fp16": True},
        "bf16": {"common.bf16": True},
        "fp32": {},
    }
    return {"common.cpu": asked.cpu, **settings[runs.precision(asked.cpu)]}


def _launch(asked: TrainOptions, gpus: int) -> tuple[list[str], Optional[int]]:
    """Return the command up to fairseq-train's options, and the port on which the workers meet
    (None if fairseq or torchrun chooses the port)."""
    if asked.nodes == 1:
        return ["fairseq-train"], None
    launcher, port = LAUNCHERS[asked.launcher]
    return launcher(asked, gpus), port


def _torchrun(asked: TrainOptions, gpus: int) -> list[str]:
    """Return the torchrun command that starts this node's workers; raise AdminError without
    --endpoint."""
    if not asked.endpoint:
        raise AdminError("--endpoint HOST:PORT of the first node is needed (see --help)")
    return [
        *("torchrun", "--nnodes", str(asked.nodes), "--nproc_per_node", str(gpus)),
        *("--rdzv_backend", "c10d", "--rdzv_endpoint", asked.endpoint),
        found("fairseq-train") or "fairseq-train",
    ]


def _srun(asked: TrainOptions, gpus: int) -> list[str]:
    """Return the srun command that starts the workers of all nodes."""
    return [
        # without the first option, workers wait for one that has failed; each must see all GPUs of
        # its node (not --gpus-per-task), as fairseq takes the one of its local rank
        *("srun", "--kill-on-bad-exit=1", "--nodes", str(asked.nodes)),
        *("--ntasks-per-node", str(gpus), "--gpus-per-node", str(gpus), "fairseq-train"),
    ]


LAUNCHERS: dict[str, tuple[Callable[[TrainOptions, int], list[str]], Optional[int]]] = {
    "torchrun": (_torchrun, None),
    "slurm": (_srun, PORT),
}
"""The values of --launcher: value → (function that returns the command, port of the workers)."""


def _check_settings(folder: str, words: list[str]) -> None:
    """Raise AdminError if the folder has a run with other settings than the command ``words``.

    fairseq-train would go on from its checkpoint.
    """
    path = os.path.join(folder, "settings")
    if not os.path.exists(path):
        return
    try:
        before = _by_option(shlex.split(read_text(path)))
    except ValueError as error:
        raise AdminError(f"{path}: is not a command line ({error})") from None
    asked = _by_option(_fixed_arguments(words))
    changed = [
        f"{option} {before.get(option, 'not given')}, now {asked.get(option, 'not given')}"
        for option in {**before, **asked}
        if before.get(option) != asked.get(option)
    ]
    if changed:
        raise AdminError(
            f"{folder}: has a run with other settings ({'; '.join(changed)}); choose another "
            "--save-dir"
        )


def _by_option(words: Sequence[str]) -> dict[str, str]:
    """Return option → its values, or "given" for one without; "data" → what precedes the first."""
    found: dict[str, list[str]] = {"data": []}
    values = found["data"]
    for word in words[1:]:
        if word.startswith("--"):
            option, *own = word.split("=", 1)
            values = found[option] = own
        else:
            values.append(word)
    return {option: " ".join(values) or "given" for option, values in found.items()}


def _record_settings(folder: str, words: list[str]) -> None:
    """Write the settings of the command ``words`` to the file ``settings`` in the run's folder."""
    _check_settings(folder, words)
    settings = _fixed_arguments(words)
    with replacing(os.path.join(folder, "settings")) as file:  # other nodes may be reading it
        file.write(f"{as_line(settings)}\n".encode())


def _fixed_arguments(words: list[str]) -> list[str]:
    """Return the arguments of the command ``words`` that must stay the same when a run is resumed.

    The program that launches fairseq-train is left out, and the options in ``FREE`` with their
    values.
    """
    start = next(i for i, word in enumerate(words) if os.path.basename(word) == "fairseq-train")
    kept, rest = ["fairseq-train"], iter(words[start + 1 :])
    for word in rest:
        name, _, value = word.partition("=")
        if name not in FREE:
            kept.append(word)
        elif not value:
            next(rest, None)
    return kept
