"""Make a run that resumes in a later epoch use the same batches as an uninterrupted run.

Seen in fairseq-fixed 0.12.3.1 (``FairseqTask.get_batch_iterator``): sentences are grouped into
batches once, with the random seed --seed plus the epoch in which the process starts, and all epochs
use these batches. fairseq 0.12.2 does so with --update-ordered-indices-seed.
"""

from __future__ import annotations

import functools
from typing import Any

from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterating
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig


def apply(task: FairseqTask, run: DictConfig) -> None:
    """Patch ``task`` so that a run resumed in a later epoch gets the batches of an unbroken run.

    The patched ``task.get_batch_iterator`` makes batches that all epochs reuse as in epoch 1, then
    sets the iterator to the requested epoch. ``run`` is the configuration of the whole run.
    """
    make = task.get_batch_iterator

    @functools.wraps(make)
    def get_batch_iterator(dataset: FairseqDataset, **options: Any) -> EpochBatchIterating:
        """Like the original, but make batches that all epochs reuse as in epoch 1."""
        epoch = options.get("epoch", 1)
        if dataset in task.dataset_to_epoch_iter or not _in_all_epochs(task, dataset, options):
            return make(dataset, **options)
        if run.dataset.update_ordered_indices_seed:
            options["seed"] -= epoch - 1  # the trainer has added the epoch
        iterator = make(dataset, **{**options, "epoch": 1})
        dataset.set_epoch(epoch)
        iterator.epoch = epoch
        return iterator

    task.get_batch_iterator = get_batch_iterator


def _in_all_epochs(task: FairseqTask, dataset: FairseqDataset, options: dict[str, Any]) -> bool:
    """Return whether ``task`` makes the batches of ``dataset`` once and reuses them in all epochs.

    ``options`` are the keyword arguments of ``task.get_batch_iterator``.
    """
    made_anew = options.get("disable_iterator_cache") or options.get("update_epoch_batch_itr")
    return not made_anew and task.can_reuse_epoch_itr(dataset)
