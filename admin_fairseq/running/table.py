"""``admin-fairseq table``: train and evaluate a run for every scheme, depth and seed, several at a
time, and print one table of their scores."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from dataclasses import asdict, dataclass
from itertools import product
from typing import Iterator, Optional

from admin_fairseq.results.logs import read_log
from admin_fairseq.results.runs import find_runs
from admin_fairseq.results.table import FORMATS, rows_of
from admin_fairseq.running.processes import as_line, output_file, run_beside
from admin_fairseq.running.runs import Runs
from admin_fairseq.running.training import TrainOptions, limits, train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableOptions:
    """The options of ``admin-fairseq table``, under the same names."""

    dataset: str
    recipe: Optional[str]
    schemes: list[str]
    depths: list[tuple[int, int]]
    seeds: list[int]
    jobs: int
    gpus: Optional[int]
    precision: str
    data_dir: Optional[str]
    save_dir: Optional[str]
    cpu: bool
    dry_run: bool
    words: list[str]  # the arguments after --, passed on to fairseq-train


def table(asked: TableOptions) -> Iterator[str]:
    """Train and evaluate the runs, ``asked.jobs`` at a time, then yield the table of their scores.

    Runs that are trained to their end and have an evaluation.json are skipped. With ``dry_run``,
    yields the commands and runs none. Raises AdminError if a folder has a run with other settings,
    and SystemExit after the table if a run failed.
    """
    runs = list(_runs(asked))
    if asked.dry_run:
        for run in runs:
            yield from train(run)
            yield as_line(_words("evaluate", run))
        return
    remaining = [run for run in runs if not _is_done(run)]
    done = asyncio.run(_all(remaining, asked.jobs))
    yield FORMATS["markdown"][1](rows_of(find_runs([Runs(runs[0]).save_dir])))
    if not all(done):
        raise SystemExit(1)


def _runs(asked: TableOptions) -> Iterator[TrainOptions]:
    """Yield the training options of every run, a scheme with a depth and a seed.

    All runs of the first seed come first, so that every row of the table soon has a score.
    """
    shared = asdict(asked)
    for name in ("schemes", "depths", "seeds", "jobs"):
        del shared[name]
    for seed, (encoder, decoder), scheme in product(asked.seeds, asked.depths, asked.schemes):
        yield TrainOptions(
            **shared, scheme=scheme, encoder_layers=encoder, decoder_layers=decoder, seeds=[seed]
        )


def _is_done(run: TrainOptions) -> bool:
    """Return whether the run is trained for as many updates or epochs as it is to be, then scored.

    Raises AdminError if its folder has a run with other settings.
    """
    [folder] = Runs(run).folders
    wanted = limits(run)
    path, scores = (os.path.join(folder, name) for name in ("train.log", "evaluation.json"))
    if not os.path.exists(scores):
        return False
    log = read_log(path)
    if os.path.getmtime(scores) < os.path.getmtime(path):  # trained further since
        return False
    given = log.config.get("optimization", {})
    same = all(given.get(name, limit) == limit for name, limit in wanted.items())
    return log.reached(wanted) or (log.done and same)


async def _all(runs: list[TrainOptions], at_once: int) -> list[bool]:
    """Train and evaluate all runs, ``at_once`` at a time; return for each run whether both
    succeeded."""
    free = asyncio.Semaphore(at_once)
    # with several runs at a time, more threads would compete for the same cores
    threads = {} if at_once == 1 else {"OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **threads}
    return await asyncio.gather(*(_one(run, free, environment) for run in runs))


async def _one(run: TrainOptions, free: asyncio.Semaphore, environment: dict[str, str]) -> bool:
    """Train and evaluate one run when the semaphore ``free`` allows; return whether both succeeded.

    Its output goes to the file FOLDER.log.
    """
    [folder] = Runs(run).folders
    async with free:
        logger.info("%s ...", folder)
        with output_file(f"{folder}.log") as log:
            how = {"stdout": log, "stderr": subprocess.STDOUT, "env": environment}
            for command in ("train", "evaluate"):
                status = await run_beside(_words(command, run), **how)
                if status:
                    logger.warning("%s: %s failed, see %s.log", folder, command, folder)
                    return False
    return True


def _words(command: str, run: TrainOptions) -> list[str]:
    """Return the arguments of ``admin-fairseq train`` or ``evaluate`` (``command``) for one run."""
    runs = Runs(run)
    words = runs.words(command, runs.seeds[0])
    if command == "evaluate":
        return words
    return [*words, *(["--gpus", str(run.gpus)] if run.gpus else []), "--", *run.words]
