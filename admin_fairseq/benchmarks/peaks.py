"""Measure the peak memory of this process.

On a GPU, the peak is in bytes allocated by torch; on Linux, in resident memory (``VmHWM``, reset
through ``/proc/self/clear_refs``); elsewhere it is unknown.

glibc keeps much freed memory in pieces that can be too small for the next tensor: after the
backward pass of a deep model, several times what is in use. ``return_freed_memory`` prevents this.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Optional

import torch

M_MMAP_THRESHOLD = -3  # mallopt's name for it, in glibc's malloc.h
OWN_MAPPING_FROM = 2**16  # bytes; includes all tensors of a relevant size


def return_freed_memory() -> None:
    """Make glibc return larger tensors to the system as soon as they are freed.

    Resident memory then equals the memory in use. Training gets slower, as the system clears new
    memory. The function has no effect with other C libraries.
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_FROM)
    except (AttributeError, OSError, TypeError):
        return


def reset_peak(on_gpu: bool) -> Optional[int]:
    """Reset the peak of memory; returns the bytes in use now, None if they are unknown."""
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
    """Return the most bytes in use since ``reset_peak``.

    The number has a meaning only if ``reset_peak`` did not return None.
    """
    return torch.cuda.max_memory_allocated() if on_gpu else _status("VmHWM") or 0


def grown(before: Optional[int], on_gpu: bool) -> Optional[int]:
    """Return by how many bytes the peak of memory exceeds ``before``, what ``reset_peak`` returned.

    Returns None if no growth can be seen, as with a tiny model that fits into memory that the
    process already had.
    """
    if before is None:
        return None
    most = peak(on_gpu)
    return most - before if most > before else None


def _status(name: str) -> Optional[int]:
    """Read the entry ``name`` of /proc/self/status in bytes; None if it is missing."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
