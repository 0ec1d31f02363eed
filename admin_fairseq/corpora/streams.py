"""Read and write parallel text line by line, so that files can be larger than memory."""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import BinaryIO, Callable, Iterable, Iterator, Sequence, TypeVar

from tqdm import tqdm

from admin_fairseq.corpora.places import open_input
from admin_fairseq.errors import AdminError
from admin_fairseq.files import replacing
from admin_fairseq.workers import pool

Item = TypeVar("Item")
Result = TypeVar("Result")
Pair = tuple[str, str]

CHUNK = 2000  # sentence pairs that a worker process gets at a time
CHUNK_CHARACTERS = 1 << 23  # a limit for memory, ten times what 2000 pairs usually have
LONGEST_LINE = 1 << 20  # bytes; the length limits keep at most 250 words of 1000 characters


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without line ends; a .gz file is decompressed.

    Only a newline ends a line, as in Perl. Raises AdminError, with the number of the line, if a
    line is not UTF-8 or too long, and AdminError if a compressed file is damaged.
    """
    with open_input(path) as file:
        for number, line in enumerate(_raw_lines(file, path), 1):
            try:
                yield _decode(line)
            except ValueError as error:
                message = f"{path}, line {number}: {error}; is it the right file?"
                raise AdminError(message) from None


def _raw_lines(file: BinaryIO, path: str) -> Iterator[bytes]:
    """Yield the lines of a plain or .gz file as bytes with their line ends, cut after LONGEST_LINE
    + 1 bytes; raise AdminError if the file is damaged."""
    text = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
    try:
        yield from iter(lambda: text.readline(LONGEST_LINE + 1), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise AdminError(f"{path}: damaged, or not compressed by gzip ({error})") from None


def _decode(line: bytes) -> str:
    """Decode a line from UTF-8 without its line end; raise ValueError if it is too long or not
    UTF-8."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE >> 20} MiB")
    try:
        return line.rstrip(b"\n").decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def pairs(paths: Pair, read: Callable[[str], Iterator[str]] = read_lines) -> Iterator[Pair]:
    """Yield (line of the first file, line of the second) for every line of two parallel files.

    ``read`` yields the lines of a path. Raises AdminError, which states both numbers of lines, if
    the numbers differ.
    """
    both = zip_longest(read(paths[0]), read(paths[1]))
    for done, (left, right) in enumerate(both):
        if left is None or right is None:
            longer = done + 1 + sum(1 for _ in both)
            counts = (done, longer) if left is None else (longer, done)
            raise AdminError(
                f"{paths[0]} has {counts[0]} sentences, {paths[1]} has {counts[1]}; "
                "they must be the same number"
            )
        yield left, right


@contextmanager
def writing(paths: Sequence[str]) -> Iterator[Callable[..., None]]:
    """Open parallel text files for writing; ``with`` yields a function that is called with one line
    for each file and writes the lines.

    The files get their names at the end of the ``with`` block, and none does after an error.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(replacing(path)) for path in paths]

        def write(*lines: str) -> None:
            for file, line in zip(files, lines):
                file.write(line.encode() + b"\n")

        yield write


def write_pairs(paths: Pair, both: Iterable[Pair]) -> None:
    """Write sentence pairs to two parallel files, one sentence a line."""
    with writing(paths) as write:
        for pair in both:
            write(*pair)


def chunks(
    both: Iterable[Pair], size: int = CHUNK, characters: int = CHUNK_CHARACTERS
) -> Iterator[list[Pair]]:
    """Group sentence pairs into lists of ``size`` pairs; end a list early once its text has more
    than ``characters`` characters."""
    chunk: list[Pair] = []
    length = 0
    for pair in both:
        chunk.append(pair)
        length += len(pair[0]) + len(pair[1])
        if len(chunk) == size or length > characters:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Apply ``function`` to every item in ``workers`` processes, and yield the results in order.

    At most 2 * ``workers`` items are under way, so that memory stays bounded. Raises AdminError if
    a process is killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    under_way: deque[Future] = deque()
    try:
        with pool(workers) as submit:
            for item in items:
                under_way.append(submit(function, item))
                if len(under_way) > 2 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
    except BrokenProcessPool:
        raise AdminError("a worker was killed; out of memory? try fewer --workers") from None


def progress(items: Iterable[Item], title: str, unit: str) -> Iterable[Item]:
    """Yield ``items`` unchanged and, on a terminal, show a progress bar that counts them."""
    return tqdm(items, desc=title, unit=f" {unit}", unit_scale=True, disable=None, leave=False)
