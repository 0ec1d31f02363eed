"""Sending what rank 0 read from a checkpoint to the other workers.

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, distributed/utils.py) packs it with ``torch.save`` and
unpacks it with a plain ``torch.load``. Since torch 2.6 that refuses the options in it, "Weights
only load failed", so that no run of several workers can go on from a checkpoint. The bytes are
those of the run's own rank 0, which has checked the file: nothing is left to be refused.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.distributed as dist

from admin_fairseq.repairs import private


def apply() -> None:
    """Let fairseq send objects with torch's own function, whatever else torch refuses to load."""
    private.send_objects_with(broadcast_object)


def broadcast_object(
    obj: Any,
    src_rank: int,
    group: Optional[dist.ProcessGroup],
    dist_device: torch.device,
) -> Any:
    """``obj`` of the worker ``src_rank``; what the others hand in is ignored."""
    objects = [obj]
    dist.broadcast_object_list(objects, src=src_rank, group=group, device=dist_device)
    return objects[0]
