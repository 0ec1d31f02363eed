"""Report errors of workers that fairseq has spawned in one line, if they are AdminErrors.

If a worker fails or is killed, the process that started it raises the worker's traceback as text
(``torch.multiprocessing.spawn``, seen in torch 2.1 to 2.13).
"""

from __future__ import annotations

from multiprocessing.queues import SimpleQueue
from typing import Any, Callable

import torch
from fairseq.distributed import utils as distributed_utils
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.stand_in import StandIn
from admin_fairseq.workers import safe_path


def apply() -> None:
    """Patch fairseq to start its workers with ``spawn`` of this module."""
    multiprocessing = StandIn(torch.multiprocessing, spawn=spawn)
    distributed_utils.torch = StandIn(distributed_utils.torch, multiprocessing=multiprocessing)


def spawn(fn: Callable[..., None], args: tuple[Any, ...], nprocs: int, join: bool = True) -> None:
    """Run ``fn(i, *args)`` in ``nprocs`` processes (i = 0, 1, …), and wait for them.

    Raises the AdminError that a process raised, or an AdminError that names the signal that killed
    it; other exceptions are raised as torch reports them.
    """
    refused = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        with safe_path():
            torch.multiprocessing.spawn(run_worker, (refused, fn, args), nprocs, join)
    except (ProcessExitedException, ProcessRaisedException) as ended:
        if not refused.empty():
            raise AdminError(refused.get()) from None
        if isinstance(ended, ProcessExitedException) and ended.signal_name:
            raise AdminError(
                f"worker {ended.error_index} was ended by {ended.signal_name}; the same command "
                "continues from the last checkpoint"
            ) from None
        raise


def run_worker(
    i: int, refused: SimpleQueue, fn: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """Run ``fn(i, *args)`` in a spawned process; put the text of an AdminError into ``refused``.

    The process then exits with status 1 and without a traceback; its starter reads ``refused``.
    """
    try:
        fn(i, *args)
    except AdminError as error:
        refused.put(str(error))  # not the whole message: a pipe holds some KiB until it is read
        raise SystemExit(1) from None
