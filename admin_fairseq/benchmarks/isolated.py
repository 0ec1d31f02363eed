"""Measure the peak memory of training a model, in a separate process with fresh memory."""

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
    """Peak memory and time of a few updates; ``error`` says why the peak is missing."""

    peak_memory: Optional[int] = None  # bytes beyond what the process held before the model
    parameters: Optional[int] = None
    seconds_per_update: Optional[float] = None  # including the first
    error: Optional[str] = None


def peak_of(side: Side, updates: int) -> Peak:
    """Train ``side`` for some updates in a separate process, and measure its peak memory.

    At least two updates are needed for everything to be in memory at once, as the optimiser
    allocates its state at the end of the first. A one-layer model is trained for one update before,
    to load libraries. Failures are reported in ``Peak.error``.
    """
    try:
        return apart(_peak_here, side, updates, torch.get_num_threads(), method="spawn")
    except BrokenProcessPool:
        return Peak(error="the measuring process was killed, most likely for lack of memory")


def _peak_here(side: Side, updates: int, threads: int) -> Peak:
    """Measure the peak memory of training ``side``, within the process that ``peak_of`` starts."""
    peaks.return_freed_memory()
    torch.set_num_threads(threads)
    with quiet(), metrics.aggregate(new_root=True):
        run = side.run
        task = tasks.setup_task(run.task)
        batches = first_batches(task, run, updates)
        try:
            train(new_trainer(side.with_options(*ONE_LAYER).run, task), batches[:1])
            block = fresh_block(run, task, batches, warmup=0)
        except OutOfMemory:
            return Peak(error="out of memory")
    error = None if block.peak_memory is not None else "cannot be measured here"
    return Peak(block.peak_memory, block.parameters, block.seconds / updates, error)
