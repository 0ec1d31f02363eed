"""Peak memory of a model in a process of its own, which nothing else has fragmented or filled."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Optional

import torch
from fairseq import tasks
from fairseq.logging import metrics

from admin_fairseq.benchmarks import peaks
from admin_fairseq.benchmarks.sides import Side
from admin_fairseq.benchmarks.trainers import fresh_block, new_trainer, train
from admin_fairseq.fairseq_runs import OutOfMemory, first_batches, quiet
from admin_fairseq.workers import apart

MIB = 2**20
ONE_LAYER = ("--encoder-layers", "1", "--decoder-layers", "1")


@dataclass(frozen=True)
class Peak:
    """What a few updates of a model came to; ``error`` says why there is no number."""

    peak_memory: Optional[int] = None  # bytes beyond what the process held before the model
    parameters: Optional[int] = None
    seconds_per_update: Optional[float] = None  # the first one's among them
    error: Optional[str] = None


def peak_of(side: Side, updates: int) -> Peak:
    """Train ``side`` for some updates in a process of its own.

    Two updates at least have everything alive at once: the optimiser makes its averages at the
    end of the first. Before, one update of one layer loads what only a first one loads.
    """
    try:
        return apart(_peak_here, side, updates, torch.get_num_threads(), method="spawn")
    except BrokenProcessPool:
        return Peak(error="its process was killed: most likely the memory did not suffice")


def _peak_here(side: Side, updates: int, threads: int) -> Peak:
    peaks.return_freed_memory()
    torch.set_num_threads(threads)
    with quiet(), metrics.aggregate(new_root=True):
        run = side.run
        task = tasks.setup_task(run.task)
        batches = first_batches(task, run, updates)
        try:
            train(new_trainer(side.but(*ONE_LAYER).run, task), batches[:1])
            block = fresh_block(run, task, batches, warmup=0)
        except OutOfMemory:
            return Peak(error="out of memory")
    error = None if block.peak_memory is not None else "cannot be measured here"
    return Peak(block.peak_memory, block.parameters, block.seconds / updates, error)
