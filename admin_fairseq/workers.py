"""Run functions in worker processes that end with this process, even if it is killed.

The workers do not import modules from the working directory.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from threading import Thread, current_thread, main_thread
from typing import Callable, Iterator, Optional, TypeVar

ResultT = TypeVar("ResultT")


@contextmanager
def pool(workers: int, method: Optional[str] = None) -> Iterator[Callable[..., Future]]:
    """Start a pool of ``workers`` processes that end with the block, or when this process dies.

    Yields a function that submits another function and its arguments to the pool and returns a
    Future. ``method`` is multiprocessing's start method (default: multiprocessing's own choice).
    """
    context = get_context(method)
    with safe_path():  # multiprocessing's helper process starts here
        executor = ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(),))

        def submit(function: Callable[..., ResultT], *arguments: object) -> Future[ResultT]:
            with _signals_later():  # a process may start here
                return executor.submit(function, *arguments)

        try:
            yield submit
        finally:
            # if this runs only as Python exits, the pipes are closed already
            with suppress(OSError):
                executor.shutdown(cancel_futures=True)


def apart(
    function: Callable[..., ResultT], *arguments: object, method: Optional[str] = None
) -> ResultT:
    """Run ``function`` in a new process, which may start further processes, and return its result.

    All these processes end with this call, even if it is interrupted, and with the calling process.
    Raises what ``function`` raises, and BrokenProcessPool if its process was killed.
    """
    with pool(1, method) as submit:
        group = submit(_lead_a_group).result()
        try:
            return submit(function, *arguments).result()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Delay interrupts and SIGTERM until the end of the ``with`` block.

    Without the delay, Python could run their handlers inside its own handlers for a fork, where
    exceptions are lost.
    """
    if current_thread() is not main_thread():
        yield  # handlers run in the main thread
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep the working directory off the module path of processes started in the ``with`` block.

    They start with ``python -c``, which looks for modules in the working directory first, so that a
    file ``pickle.py`` there would run. Has no effect before Python 3.11.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _start_worker(parent: int) -> None:
    """Prepare a worker process: ignore interrupts, and end when the process ``parent`` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _lead_a_group() -> int:
    """Make this process the leader of a new process group and return the group's id.

    All processes started from this one join the group, so that they can be killed together.
    """
    os.setpgid(0, 0)
    return os.getpid()


def _end_with(parent: int) -> None:
    """Wait until the process ``parent`` is gone, then kill this process and any group it leads."""
    while os.getppid() == parent:
        time.sleep(0.2)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
