"""The end of a run whose workers fairseq started itself: one line where one line says it all.

Where every worker ends with the same error, or one of them is killed, the process that started
them (``torch.multiprocessing.spawn``, seen in torch 2.1 to 2.13) adds a traceback of its own.
"""

from __future__ import annotations

from multiprocessing.synchronize import Semaphore
from typing import Any, Callable

import torch
from fairseq.distributed import utils as distributed_utils
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.stand_in import StandIn
from admin_fairseq.workers import safe_path


def apply() -> None:
    """Let fairseq start its workers with ``spawn``."""
    multiprocessing = StandIn(torch.multiprocessing, spawn=spawn)
    distributed_utils.torch = StandIn(distributed_utils.torch, multiprocessing=multiprocessing)


def spawn(fn: Callable[..., None], args: tuple[Any, ...], nprocs: int, join: bool = True) -> None:
    """Run ``fn(i, *args)`` in ``nprocs`` processes, and wait for them.

    A process that ends with a line (SystemExit) prints it unless another one has printed its own.
    Raises AdminError where a signal ended one; other exceptions come as torch's own report.
    """
    unsaid = torch.multiprocessing.get_context("spawn").Semaphore()
    try:
        with safe_path():
            torch.multiprocessing.spawn(run_worker, (unsaid, fn, args), nprocs, join)
    except (ProcessExitedException, ProcessRaisedException) as ended:
        if not unsaid.acquire(block=False):
            raise SystemExit(1) from None
        if getattr(ended, "signal_name", None):
            raise AdminError(
                f"worker {ended.error_index} was ended by {ended.signal_name}; the same command "
                "goes on from the last checkpoint"
            ) from None
        raise


def run_worker(i: int, unsaid: Semaphore, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
    """``fn(i, *args)``, whose last line is left out if another worker has said it."""
    try:
        fn(i, *args)
    except SystemExit as end:
        if isinstance(end.code, str) and not unsaid.acquire(block=False):
            raise SystemExit(1) from None
        raise
