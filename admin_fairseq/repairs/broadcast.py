"""Sending a checkpoint that rank 0 has read to the other workers.

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, distributed/utils.py) packs it with ``torch.save`` and
unpacks it with a plain ``torch.load``. Since torch 2.6 that refuses the options in it, "Weights
only load failed", so that no run with several workers can resume. The bytes come from the run's
own rank 0, which has checked the file, so there is nothing to refuse.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.distributed as dist

from admin_fairseq.repairs import private


def apply() -> None:
    """Let fairseq send objects with torch's own function, which has no such refusals."""
    private.send_objects_with(broadcast_object)


def broadcast_object(
    obj: Any,
    src_rank: int,
    group: Optional[dist.ProcessGroup],
    dist_device: torch.device,
) -> Any:
    """``obj`` of the worker ``src_rank``, in all workers."""
    objects = [obj]
    dist.broadcast_object_list(objects, src=src_rank, group=group, device=dist_device)
    return objects[0]
