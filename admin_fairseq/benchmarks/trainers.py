"""Train on given batches with fairseq's own ``Trainer``, as ``fairseq-train`` does.

Admin's residual scales ω stay 1: the model is built outside of a training run, so it neither reads
nor measures a profile (the variances that give ω). Multiplying by ω takes the same time whatever
its value.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from functools import partial
from typing import Callable, Mapping, NamedTuple, Optional, TypeVar

import torch
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import DictConfig

from admin_fairseq.benchmarks import peaks
from admin_fairseq.benchmarks.sides import Side
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.storage import Weights
from admin_fairseq.errors import blaming
from admin_fairseq.fairseq_runs import Batch, build_model, naming_out_of_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")


class TrainingBlock(NamedTuple):
    """Measurements of one model in one block of consecutive updates; words are target tokens."""

    target_words: int
    seconds: float
    skipped_updates: int  # gradients beyond float16's range
    parameters: int
    peak_memory: Optional[int] = None  # bytes; None if not measured

    @property
    def words_per_second(self) -> float:
        """Return the target tokens per second, as in fairseq's ``wps``."""
        return self.target_words / self.seconds


def new_trainer(run: DictConfig, task: FairseqTask, weights: Optional[Weights] = None) -> Trainer:
    """Build a model and its ``Trainer``, with ``weights`` or random weights for the run's seed.

    Raises AdminError if the weights do not fit the model, or the model does not fit in memory.
    """
    torch.manual_seed(run.common.seed)
    with naming_out_of_memory():
        model = build_model(run, task)
        if weights is not None:
            with blaming("weights to start from"):
                building.load_weights(model, weights)
        trainer = Trainer(run, task, model, task.build_criterion(run.criterion))
    trainer.cuda_env = None  # with it, fairseq resets torch's peak memory at every update
    trainer.save_checkpoint = lambda *args, **kwargs: None  # would write crash.pt
    return trainer


def compiled_graphs() -> int:
    """Return how many graphs torch.compile has made in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0


def train(trainer: Trainer, batches: list[Batch]) -> int:
    """Make one update per batch; returns how many updates fairseq skipped.

    Raises OutOfMemory if the model and a batch do not fit.
    """
    done = trainer.get_num_updates()
    with naming_out_of_memory():
        for batch in batches:
            trainer.train_step([batch], raise_oom=True)
        if trainer.cuda:
            torch.cuda.synchronize()
    return done + len(batches) - trainer.get_num_updates()


def warmed_up(
    sides: Mapping[str, Side], task: FairseqTask, batches: list[Batch]
) -> dict[str, Trainer]:
    """Build a trainer for each side (stock fairseq, ours), and train it untimed.

    Each trainer makes one update on each of ``batches``. Returns the trainers by name.
    """
    trainers = {name: new_trainer(side.run, task) for name, side in sides.items()}
    for name, trainer in trainers.items():
        with blaming(name):
            train(trainer, batches)
    return trainers


def alternate(
    trainers: Mapping[str, Trainer],
    batches: list[Batch],
    updates: int,
    measure: Callable[[Trainer, list[Batch]], T],
    describe: Callable[[str, int, T], str],
) -> dict[str, list[T]]:
    """Measure every trainer on blocks of ``updates`` batches, in alternating order.

    ``describe`` returns the log message for a trainer's name, a block's number and a measurement.
    Returns the measurements by name, one per block.
    """

    def block_of(name: str, i: int) -> T:
        found = measure(trainers[name], batches[i * updates : (i + 1) * updates])
        logger.info(describe(name, i, found))
        return found

    turns = {name: partial(block_of, name) for name in trainers}
    return take_turns(turns, len(batches) // updates)


def timed_block(trainer: Trainer, batches: list[Batch]) -> TrainingBlock:
    """Train on the batches, one update each, and measure the time."""
    gc.collect()  # now, not during the block
    start = time.perf_counter()
    skipped = train(trainer, batches)
    seconds = time.perf_counter() - start
    return TrainingBlock(
        target_words=sum(int(batch["ntokens"]) for batch in batches),
        seconds=seconds,
        skipped_updates=skipped,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
    )


def fresh_block(
    run: DictConfig, task: FairseqTask, batches: list[Batch], warmup: int
) -> TrainingBlock:
    """Build a new model, train it on the batches, and measure its time and peak memory.

    The first ``warmup`` batches are not timed.
    """
    on_gpu = torch.cuda.is_available() and not run.common.cpu
    before = peaks.reset_peak(on_gpu)
    trainer = new_trainer(run, task)
    train(trainer, batches[:warmup])
    block = timed_block(trainer, batches[warmup:])
    return block._replace(peak_memory=peaks.grown(before, on_gpu))


def losses(
    run: DictConfig, task: FairseqTask, batches: list[Batch], weights: Optional[Weights] = None
) -> list[float]:
    """Train a new model on the batches; returns the loss of every update that was not skipped.

    Losses are in bits per token and not rounded. ``weights``: as in ``new_trainer``.
    """
    trainer, seen = new_trainer(run, task, weights), []
    for batch in batches:
        with metrics.aggregate() as meters:
            train(trainer, [batch])
        if "loss" in meters:
            seen.append(float(meters["loss"].avg))
    return seen


def initial_weights(run: DictConfig, task: FairseqTask) -> Weights:
    """Build the run's model, and return a copy of the weights with which it starts."""
    return {name: w.clone() for name, w in new_trainer(run, task).model.state_dict().items()}
