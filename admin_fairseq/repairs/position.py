"""Going on within an epoch with another number of workers.

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, data/iterators.py) keeps how many batches each worker
has had, and lets each of the new workers pass over as many: with more of them batches are left
out, or the epoch ends before its beginning ("Cannot resume training due to dataloader mismatch");
with fewer, some are seen twice. Workers are dealt the batches of an epoch in turns, so that what
has been seen is a number of batches at its beginning, whoever has seen them.
"""

from __future__ import annotations

from typing import Any

from fairseq.data.iterators import EpochBatchIterator

fairseqs_state_dict = EpochBatchIterator.state_dict
fairseqs_load_state_dict = EpochBatchIterator.load_state_dict


def apply() -> None:
    """Let checkpoints say how many workers there were; one that does not has had as many as now."""
    EpochBatchIterator.state_dict = state_dict
    EpochBatchIterator.load_state_dict = load_state_dict


def state_dict(self: EpochBatchIterator) -> dict[str, Any]:
    """fairseq's own, and the number of workers."""
    return {**fairseqs_state_dict(self), "num_shards": self.num_shards}


def load_state_dict(self: EpochBatchIterator, state: dict[str, Any]) -> None:
    """fairseq's own, for these workers; what they cannot share evenly is seen again."""
    seen = state.get("iterations_in_epoch", 0) * state.get("num_shards", self.num_shards)
    fairseqs_load_state_dict(self, {**state, "iterations_in_epoch": seen // self.num_shards})
