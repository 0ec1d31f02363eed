"""Many runs that are trained and scored in the same way, in one table."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from dataclasses import asdict, dataclass
from itertools import chain, product
from typing import Iterator, Optional

from admin_fairseq.results.runs import find_runs
from admin_fairseq.results.table import FORMATS, rows_of
from admin_fairseq.running.processes import output_file, run_beside
from admin_fairseq.running.runs import Runs
from admin_fairseq.running.training import TrainOptions, train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableOptions:
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
    words: list[str]  # passed on to fairseq-train


def table(asked: TableOptions) -> Iterator[str]:
    """Train and score the runs, ``jobs`` at a time, then yield their table.

    Runs that have a score are skipped. With ``dry_run``, yields the commands that train instead.
    Raises SystemExit at the end if a run failed.
    """
    runs = list(_runs(asked))
    if asked.dry_run:
        yield from chain.from_iterable(map(train, runs))
        return
    done = asyncio.run(_all(runs, asked.jobs))
    yield FORMATS["markdown"][1](rows_of(find_runs([Runs(runs[0]).save_dir])))
    if not all(done):
        raise SystemExit(1)


def _runs(asked: TableOptions) -> Iterator[TrainOptions]:
    """Every run, seed by seed, so that each row of the table soon has its first run."""
    shared = asdict(asked)
    for name in ("schemes", "depths", "seeds", "jobs"):
        del shared[name]
    for seed, (encoder, decoder), scheme in product(asked.seeds, asked.depths, asked.schemes):
        yield TrainOptions(
            **shared, scheme=scheme, encoder_layers=encoder, decoder_layers=decoder, seeds=[seed]
        )


async def _all(runs: list[TrainOptions], at_once: int) -> list[bool]:
    """Whether each run could be trained and scored."""
    free = asyncio.Semaphore(at_once)
    # more threads would compete for the same cores
    threads = {} if at_once == 1 else {"OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **threads}
    return await asyncio.gather(*(_one(run, free, environment) for run in runs))


async def _one(run: TrainOptions, free: asyncio.Semaphore, environment: dict[str, str]) -> bool:
    """Whether a run could be trained and scored."""
    [folder] = Runs(run).folders
    if os.path.exists(os.path.join(folder, "evaluation.json")):
        return True
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
    """The subcommand that trains or evaluates one run."""
    runs = Runs(run)
    options = {
        "--recipe": run.recipe,
        "--scheme": run.scheme,
        "--encoder-layers": run.encoder_layers,
        "--decoder-layers": run.decoder_layers,
        "--seeds": runs.seeds[0],
        "--precision": run.precision,
        "--data-dir": runs.data_dir,
        "--save-dir": runs.save_dir,
    }
    words = ["admin-fairseq", command, run.dataset, *(["--cpu"] if run.cpu else [])]
    for option, value in options.items():
        words += [option, str(value)] if value is not None else []
    if command == "evaluate":
        return words
    return [*words, *(["--gpus", str(run.gpus)] if run.gpus else []), "--", *run.words]
