"""Peak memory of this process: on a GPU torch's own count of allocated bytes, on Linux resident
memory (``VmHWM``, reset through ``/proc/self/clear_refs``), elsewhere nothing.

glibc keeps much of what is freed, in pieces that the next tensor may not fit into: after the
backward pass of a deep model several times what is alive. ``return_freed_memory`` ends that.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Optional

import torch

M_MMAP_THRESHOLD = -3  # mallopt's name for it, in glibc's malloc.h
OWN_MAPPING_FROM = 2**16  # bytes; every tensor of a size that counts


def return_freed_memory() -> None:
    """Have glibc give every larger tensor back the moment it is freed; elsewhere nothing.

    Resident memory then is what is alive. It costs time, as new memory has to be cleared.
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_FROM)
    except (AttributeError, OSError, TypeError):
        return


def reset_peak(on_gpu: bool) -> Optional[int]:
    """Let the peak begin anew; returns the bytes in use now, None where that is not known."""
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory, which would hide new
    except (AttributeError, OSError, TypeError):
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak(on_gpu: bool) -> int:
    """Bytes in use at most since ``reset_peak``; only where that gave a number."""
    return torch.cuda.max_memory_allocated() if on_gpu else _status("VmHWM") or 0


def grown(before: Optional[int], on_gpu: bool) -> Optional[int]:
    """What was needed at most beyond ``before``, which ``reset_peak`` gave; None if unknown.

    A tiny model may fit into what the process has already, which tells nothing.
    """
    if before is None:
        return None
    most = peak(on_gpu)
    return most - before if most > before else None


def _status(name: str) -> Optional[int]:
    """A memory line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
