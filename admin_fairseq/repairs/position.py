"""Resume within an epoch with another number of workers (distributed processes).

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, data/iterators.py) stores how many batches each worker
has used, and each of the new workers skips as many: with more workers, batches are left out or the
run fails ("Cannot resume training due to dataloader mismatch"); with fewer, some batches are used
twice. Batches are distributed to the workers in turn, so that the used ones are always the first of
the epoch.
"""

from __future__ import annotations

from typing import Any

from fairseq.data.iterators import EpochBatchIterator

fairseqs_state_dict = EpochBatchIterator.state_dict
fairseqs_load_state_dict = EpochBatchIterator.load_state_dict


def apply() -> None:
    """Patch fairseq so that a run can be resumed in mid-epoch with another number of workers.

    Checkpoints record the number of workers (GPUs), from which the number of batches that each has
    had is converted. One without that number is taken to be from as many workers as now.
    """
    EpochBatchIterator.state_dict = state_dict
    EpochBatchIterator.load_state_dict = load_state_dict


def state_dict(self: EpochBatchIterator) -> dict[str, Any]:
    """Return fairseq's state of the batch iterator, and the number of workers as "num_shards"."""
    return {**fairseqs_state_dict(self), "num_shards": self.num_shards}


def load_state_dict(self: EpochBatchIterator, state: dict[str, Any]) -> None:
    """Restore the position within the epoch, converted to the present number of workers.

    If the batches used so far cannot be divided evenly among these workers, the last few are used
    again.
    """
    seen = state.get("iterations_in_epoch", 0) * state.get("num_shards", self.num_shards)
    fairseqs_load_state_dict(self, {**state, "iterations_in_epoch": seen // self.num_shards})
