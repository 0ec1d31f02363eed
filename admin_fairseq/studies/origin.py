"""Describe what a measurement was made with: package versions, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Optional

import torch

from admin_fairseq.provenance import installed_versions

PACKAGES = ("torch", "fairseq", "fairseq-fixed", "numpy", "triton", "admin-fairseq")
ROOT = Path(__file__).resolve().parents[2]


def origin(on_gpu: bool) -> dict[str, Any]:
    """Return package versions, commit and machine, as the JSON files of studies record them.

    ``on_gpu``: whether the measurement runs on a GPU.
    """
    return {
        "versions": installed_versions(*PACKAGES),
        "source": _source(),
        "machine": {
            "device": torch.cuda.get_device_name() if on_gpu else "CPU",
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_bytes": _memory(),
            "cuda": torch.version.cuda,
        },
    }


def _source() -> Optional[dict[str, Any]]:
    """Return the commit of this package's git repository, and whether files changed since.

    Returns None if the package is not in a repository.
    """
    if _git("ls-files", "--error-unmatch", "admin_fairseq/__init__.py") is None:
        return None
    changes = _git("status", "--porcelain", "--", "admin_fairseq")
    return {"commit": _git("rev-parse", "HEAD"), "changed_since": bool(changes)}


def _git(*words: str) -> Optional[str]:
    """Run git in this package's repository; returns its output, None if it fails or is missing."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _memory() -> Optional[int]:
    """Return the machine's memory in bytes; None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _cpu() -> str:
    """Return the processor's model on Linux, its type elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
