"""Remove the XML, SGML or tags of published files, and leave one plain sentence a line."""

from __future__ import annotations

import re
from enum import Enum
from typing import Callable, Iterable, Iterator

_METADATA = ("<url>", "<talkid>", "<keywords>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT_BEGINS = re.compile(r'<seg id="[0-9]*">\s*')
_SEGMENT_END = "</seg>"


class Markup(Enum):
    """The formats of the published text files."""

    PLAIN = "plain"  # a sentence in each line
    TAGS = "tags"  # IWSLT's training text: lines about the talk among the sentences
    SEGMENTS = "segments"  # IWSLT's XML and WMT's SGML: a sentence in each <seg>

    def sentences(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the sentences of a file in this format, without markup and metadata."""
        return _READERS[self](lines)


def _tagged(lines: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of IWSLT's training text: skip metadata, strip title tags."""
    for line in lines:
        if not any(tag in line for tag in _METADATA):
            yield _TAGS.sub("", line)


def _segments(lines: Iterable[str]) -> Iterator[str]:
    """Yield the content of each <seg> line of an XML or SGML file."""
    for line in lines:
        if "<seg id" in line:
            yield _without_ends(_SEGMENT_BEGINS.sub("", line))


def _without_ends(line: str) -> str:
    """Remove each ``</seg>``, and the spaces around it, from ``line``.

    A regular expression for the spaces would restart at each space, which takes hours in a line
    with very many. The added bars keep ``strip`` from removing spaces at both ends of the line.
    """
    return "".join(part.strip() for part in f"|{line}|".split(_SEGMENT_END))[1:-1]


_READERS: dict[Markup, Callable[[Iterable[str]], Iterator[str]]] = {
    Markup.PLAIN: iter,
    Markup.TAGS: _tagged,
    Markup.SEGMENTS: _segments,
}
