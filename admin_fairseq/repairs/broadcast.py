"""Send the checkpoint that worker 0 has read to the other workers, under torch 2.6 and later.

fairseq (0.12.2 and fairseq-fixed 0.12.3.1, distributed/utils.py) packs a checkpoint with
``torch.save`` and unpacks it with a plain ``torch.load``. Since torch 2.6 ``torch.load`` refuses
the options in a checkpoint ("Weights only load failed"), so that no run with several workers can
resume. The bytes come from worker 0 of the same run, which has checked the file, so that refusing
them protects nobody.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.distributed as dist

from admin_fairseq.repairs import private


def apply() -> None:
    """Patch fairseq to send Python objects with torch's own function, which refuses no types."""
    private.send_objects_with(broadcast_object)


def broadcast_object(
    obj: Any,
    src_rank: int,
    group: Optional[dist.ProcessGroup],
    dist_device: torch.device,
) -> Any:
    """Send ``obj`` from worker ``src_rank`` to all workers of ``group``; return it in each."""
    objects = [obj]
    dist.broadcast_object_list(objects, src=src_rank, group=group, device=dist_device)
    return objects[0]
