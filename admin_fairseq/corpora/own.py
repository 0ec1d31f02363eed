"""Your own text as a data set."""

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
FEWEST = 2 * HELD_OUT.one_in  # pairs, if some are to be held out
PIECES = 10_000
SEED = 1  # of the choice of held-out pairs


def own_text(
    prefix: str, source: str, target: str, valid: Optional[str], test: Optional[str], data_dir: str
) -> TextFiles:
    """The data set of ``prefix``.SOURCE, ``prefix``.TARGET, and the same for the other splits.

    Without ``valid`` or ``test``, some of the training text is held out. Raises AdminError if a
    file is missing, or is in the folder that the data set is written to.
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
    """``text`` with its files in ``folder``; raises AdminError if one is missing."""

    def placed(part: Part) -> Part:
        return part._replace(
            source=os.path.join(folder, part.source), target=os.path.join(folder, part.target)
        )

    train, valid, *test = map(placed, text.parts)
    there = replace(text, train=(train,), valid=valid, test=tuple(test))
    return identified(there, data_dir, f"--raw-dir is the folder of {text.title}")


def identified(text: TextFiles, data_dir: str, hint: str) -> TextFiles:
    """``text`` with the identities of its files, which show when they change."""
    paths = [path for part in text.parts for path in (part.source, part.target)]
    return replace(text, identities=tuple((path, _found(path, data_dir, hint)) for path in paths))


def _found(path: str, data_dir: str, hint: str) -> list[int]:
    """The identity of a file; raises AdminError if it is missing, or in the way of outputs."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise AdminError(f"{path}: not a regular file")
    if path != path.encode(errors="replace").decode():
        raise AdminError(f"{path}: its name is not UTF-8 and cannot be recorded; rename it")
    if not os.path.isfile(path):
        raise AdminError(f"{path}: no such file; {hint}")
    folder = os.path.realpath(data_dir)
    if os.path.commonpath([folder, os.path.realpath(path)]) == folder:
        raise AdminError(f"{path}: is in --data-dir, whose files are replaced; choose another")
    return identity(path)


def checked_lines(path: str) -> Iterator[str]:
    """The lines of a text; raises AdminError if it is empty, or has a byte order mark or CRLF.

    Models would learn to produce these.
    """
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
    """Number of a pair, from 1 on → the split that it is held out for.

    They are drawn at random, with a fixed seed: in a text of alternating questions and answers,
    every 50th pair would always be one of the two. Raises AdminError for too few pairs.
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
    """The name of a data set: its folder's, without what file names or tables cannot have."""
    return re.sub(r"\A\W+|[^\w.-]", "", os.path.basename(os.path.abspath(data_dir)))[:64] or "text"
