"""Text as streams of lines: memory stays flat however long a file is."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice, zip_longest
from threading import Thread
from typing import Callable, Iterable, Iterator, Sequence, TypeVar

from tqdm import tqdm

from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing

Item = TypeVar("Item")
Result = TypeVar("Result")
Pair = tuple[str, str]

CHUNK = 2000  # lines that a worker takes at a time


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends. Only a newline ends a line, as for Perl.

    Raises AdminError with the line's number where the text is not UTF-8.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.rstrip(b"\n").decode()
            except UnicodeDecodeError:
                message = f"{path}, line {number}: not UTF-8; is it the right file?"
                raise AdminError(message) from None


def pairs(source: Iterable[str], target: Iterable[str], names: Pair) -> Iterator[Pair]:
    """Lines side by side; raises AdminError that counts both sides if one is longer."""
    end = object()
    both = zip_longest(source, target, fillvalue=end)
    for done, (left, right) in enumerate(both):
        if left is end or right is end:
            longer = done + 1 + sum(1 for _ in both)
            counts = (done, longer) if left is end else (longer, done)
            raise AdminError(
                f"{names[0]} has {counts[0]} sentences, {names[1]} has {counts[1]}; "
                "they must be the same number"
            )
        yield left, right  # type: ignore[misc]  # neither is the end


@contextmanager
def writing(paths: Sequence[str]) -> Iterator[Callable[..., None]]:
    """Write files side by side: the function given takes one line for each of them.

    All of them appear, under their names, when the block ends well.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(replacing(path)) for path in paths]

        def write(*lines: str) -> None:
            for file, line in zip(files, lines):
                file.write(line.encode() + b"\n")

        yield write


def chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """``map`` over processes. Only a few items are under way at any time."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),))
    under_way: deque[Future] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise AdminError("a worker was killed; for lack of memory? try fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Leave interrupts to the parent, and end when it is gone, even killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def progress(items: Iterable[Item], title: str, unit: str) -> Iterable[Item]:
    """Show how many ``items`` went by, on a terminal."""
    return tqdm(items, desc=title, unit=f" {unit}", unit_scale=True, disable=None, leave=False)
