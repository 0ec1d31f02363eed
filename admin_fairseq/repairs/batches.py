"""A run resumed in a later epoch makes the same batches as an uninterrupted one.

Seen in fairseq-fixed 0.12.3.1 (``FairseqTask.get_batch_iterator``): sentences are batched
once, with a random seed of --seed plus the epoch in which the process starts, and the batches are
used in all epochs. fairseq 0.12.2 does so with --update-ordered-indices-seed.
"""

from __future__ import annotations

import functools
from typing import Any

from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterating
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig


def apply(task: FairseqTask, run: DictConfig) -> None:
    """Let ``task`` make batches that are used in all epochs as if the run started in the first.

    ``run`` is the whole run's configuration.
    """
    make = task.get_batch_iterator

    @functools.wraps(make)
    def get_batch_iterator(dataset: FairseqDataset, **options: Any) -> EpochBatchIterating:
        epoch = options.get("epoch", 1)
        if dataset in task.dataset_to_epoch_iter or not _serve_for_all(task, dataset, options):
            return make(dataset, **options)
        if run.dataset.update_ordered_indices_seed:
            options["seed"] -= epoch - 1  # the trainer has added the epoch
        iterator = make(dataset, **{**options, "epoch": 1})
        dataset.set_epoch(epoch)
        iterator.epoch = epoch
        return iterator

    task.get_batch_iterator = get_batch_iterator


def _serve_for_all(task: FairseqTask, dataset: FairseqDataset, options: dict[str, Any]) -> bool:
    """Whether ``get_batch_iterator`` would keep these batches for all epochs."""
    made_anew = options.get("disable_iterator_cache") or options.get("update_epoch_batch_itr")
    return not made_anew and task.can_reuse_epoch_itr(dataset)
