"""Make a data set of the user's own text files (prepare --text), and check the files."""

from __future__ import annotations

import os
import random
import re
from dataclasses import replace
from typing import Iterator, Optional, Sequence

from admin_fairseq.corpora.datasets import HeldOut, Part, TextFiles
from admin_fairseq.corpora.places import identity
from admin_fairseq.corpora.streams import read_lines
from admin_fairseq.errors import AdminError

LANGUAGE = re.compile(r"\w{1,32}")  # fairseq parses languages from names like train.de-en.de.idx
HELD_OUT = HeldOut(50, 2000)
FEWEST = 2 * HELD_OUT.one_in  # the least training pairs from which some can be held out
PIECES = 10_000  # the default of --bpe-size for the user's own text
SEED = 1  # seed of the random choice of held-out pairs


def own_text(
    prefix: str, source: str, target: str, valid: Optional[str], test: Optional[str], data_dir: str
) -> TextFiles:
    """Describe the user's own text as a data set.

    The training text is ``prefix``.SOURCE and ``prefix``.TARGET; ``valid`` and ``test`` are
    prefixes of the other splits, and a split without one is drawn from the training text. Raises
    AdminError if the languages are invalid, or if a file is missing or lies in ``data_dir``.
    """
    for language in (source, target):
        if not LANGUAGE.fullmatch(language) or source == target:
            raise AdminError(
                f"--source {source} --target {target}: give two different languages, such as de "
                "and en, in letters, digits and underscores"
            )

    def part(start: str) -> Part:
        return Part(None, f"{start}.{source}", f"{start}.{target}")

    text = TextFiles(
        title=f"text of {prefix}",
        source=source,
        target=target,
        train=(part(prefix),),
        valid=HELD_OUT if valid is None else part(valid),
        test=HELD_OUT if test is None else (part(test),),
        bpe_merges=PIECES,
    )
    hint = "give --text, --valid and --test without the language at the end"
    return identified(text, data_dir, hint)


def in_folder(text: TextFiles, folder: str, data_dir: str) -> TextFiles:
    """Return a copy of ``text`` whose file names are paths in ``folder``; raise AdminError if a
    file is missing or lies in ``data_dir``."""

    def placed(part: Part) -> Part:
        return part._replace(
            source=os.path.join(folder, part.source), target=os.path.join(folder, part.target)
        )

    train, valid, *test = map(placed, text.parts)
    there = replace(text, train=(train,), valid=valid, test=tuple(test))
    return identified(there, data_dir, f"set --raw-dir to the folder that has {text.title}")


def identified(text: TextFiles, data_dir: str, hint: str) -> TextFiles:
    """Return a copy of ``text`` that records each file's size and modification time.

    Raises AdminError if a file is missing (its message ends with ``hint``) or lies in ``data_dir``.
    """
    paths = [path for part in text.parts for path in (part.source, part.target)]
    return replace(text, identities=tuple((path, _found(path, data_dir, hint)) for path in paths))


def _found(path: str, data_dir: str, hint: str) -> list[int]:
    """Return a file's size and modification time; raise AdminError if the file is missing (the
    message ends with ``hint``) or lies in ``data_dir``, where outputs would replace it."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise AdminError(f"{path}: not a regular file")
    if path != path.encode(errors="replace").decode():
        raise AdminError(f"{path}: its name is not UTF-8 and cannot be recorded; rename it")
    if not os.path.isfile(path):
        raise AdminError(f"{path}: no such file; {hint}")
    folder = os.path.realpath(data_dir)
    if os.path.commonpath([folder, os.path.realpath(path)]) == folder:
        raise AdminError(
            f"{path}: lies in --data-dir, whose files are replaced; choose another --data-dir"
        )
    return identity(path)


def checked_lines(path: str) -> Iterator[str]:
    """Yield the lines of a text file without line ends; raise AdminError if the file is empty, or
    has a byte order mark or a Windows line end (CRLF), which a model would learn to produce."""
    number = 0
    for number, line in enumerate(read_lines(path), 1):
        if number == 1 and line.startswith("\ufeff"):
            raise AdminError(
                f"{path}: begins with a byte order mark; remove it with: "
                rf"sed -i '1s/^\xEF\xBB\xBF//' {path}"
            )
        if line.endswith("\r"):
            raise AdminError(
                f"{path}, line {number}: has a Windows line end (CRLF); convert the file with: "
                rf"sed -i 's/\r$//' {path}"
            )
        yield line
    if not number:
        raise AdminError(f"{path}: empty")


def held_out(splits: Sequence[str], pairs: int) -> dict[int, str]:
    """Draw the training pairs that become the ``splits`` (valid, test), 2 % each, at most 2,000.

    Returns a dictionary from the number of a drawn pair (1 to ``pairs``) to its split. The draw is
    random with a fixed seed; every 50th pair would not do, as in a text of alternating questions
    and answers it is always one of the two. Raises AdminError for too few pairs.
    """
    if splits and pairs < FEWEST:
        raise AdminError(
            f"{pairs} pairs are too few to hold some out for validation and test; give --valid "
            "and --test"
        )
    each = min(pairs // HELD_OUT.one_in, HELD_OUT.most)
    drawn = random.Random(SEED).sample(range(1, pairs + 1), len(splits) * each)
    return {number: splits[i // each] for i, number in enumerate(drawn)}


def name_of(data_dir: str) -> str:
    """Derive a data set's name from its folder's: only letters, digits, ``_``, ``.`` and ``-``, at
    most 64 characters; "text" if none is left."""
    return re.sub(r"\A\W+|[^\w.-]", "", os.path.basename(os.path.abspath(data_dir)))[:64] or "text"
