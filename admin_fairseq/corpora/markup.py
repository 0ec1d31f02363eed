"""The markup of published files, and removing it from the sentences."""

from __future__ import annotations

import re
from enum import Enum
from typing import Callable, Iterable, Iterator

_METADATA = ("<url>", "<talkid>", "<keywords>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT_BEGINS = re.compile(r'<seg id="[0-9]*">\s*')
_SEGMENT_END = "</seg>"


class Markup(Enum):
    """The kinds of files that the data sets are made of."""

    PLAIN = "plain"  # a sentence in each line
    TAGS = "tags"  # IWSLT's training text: lines about the talk among the sentences
    SEGMENTS = "segments"  # IWSLT's XML and WMT's SGML: a sentence in each <seg>

    def sentences(self, lines: Iterable[str]) -> Iterator[str]:
        """The sentences in ``lines``, without markup and metadata."""
        return _READERS[self](lines)


def _tagged(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if not any(tag in line for tag in _METADATA):
            yield _TAGS.sub("", line)


def _segments(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "<seg id" in line:
            yield _without_ends(_SEGMENT_BEGINS.sub("", line))


def _without_ends(line: str) -> str:
    """``line`` without the ends of segments and the space around them.

    A regular expression for that space would restart at each of its characters, which takes hours
    if there are very many. The bars protect the space at both ends of the line.
    """
    return "".join(part.strip() for part in f"|{line}|".split(_SEGMENT_END))[1:-1]


_READERS: dict[Markup, Callable[[Iterable[str]], Iterator[str]]] = {
    Markup.PLAIN: iter,
    Markup.TAGS: _tagged,
    Markup.SEGMENTS: _segments,
}
