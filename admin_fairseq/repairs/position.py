"""Resuming within an epoch with another number of workers.

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, data/iterators.py) stores how many batches each worker
has had, and lets each of the new workers skip as many: with more workers, batches are left out or
the run fails ("Cannot resume training due to dataloader mismatch"); with fewer, some are seen
twice. Batches are dealt to workers in turn, so that those seen are always the first of the epoch.
"""

from __future__ import annotations

from typing import Any

from fairseq.data.iterators import EpochBatchIterator

fairseqs_state_dict = EpochBatchIterator.state_dict
fairseqs_load_state_dict = EpochBatchIterator.load_state_dict


def apply() -> None:
    """Let checkpoints record the number of workers; without it, the present number is assumed."""
    EpochBatchIterator.state_dict = state_dict
    EpochBatchIterator.load_state_dict = load_state_dict


def state_dict(self: EpochBatchIterator) -> dict[str, Any]:
    """fairseq's state, and the number of workers."""
    return {**fairseqs_state_dict(self), "num_shards": self.num_shards}


def load_state_dict(self: EpochBatchIterator, state: dict[str, Any]) -> None:
    """Load the state for these workers; batches that they cannot share evenly are seen again."""
    seen = state.get("iterations_in_epoch", 0) * state.get("num_shards", self.num_shards)
    fairseqs_load_state_dict(self, {**state, "iterations_in_epoch": seen // self.num_shards})
