"""Text made safe for CSV, Markdown, HTML and JSON, and files that are written together.

Names of folders and data sets, and logs, may hold anything: markup, spreadsheet formulas, terminal
control codes, halves of surrogate pairs.
"""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
from contextlib import ExitStack
from typing import Any, Iterable, Mapping, Sequence

from admin_fairseq.errors import printable
from admin_fairseq.files import replacing

Files = Mapping[str, bytes]
"""Name → content."""

FORMULA = ("=", "+", "-", "@")
"""How formulas of a spreadsheet begin, besides tabs and newlines, which are escaped anyway."""

MARKUP = re.compile(r"[\\`*\[\]~$|]|(?<![^\W_])_|_(?![^\W_])")
"""Markdown's markup; underscores within a word do not count."""


def as_csv(table: Iterable[Sequence[Any]]) -> str:
    """Lines of cells; a spreadsheet takes cells for numbers or plain text, never for formulas."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(map(_csv_cell, line) for line in table)
    return file.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.startswith(FORMULA) or all(map(_is_number, text.split("±"))):
        return text
    return f"\\x{ord(text[0]):02x}{text[1:]}"  # in the style of printable


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_markdown(text: str) -> str:
    """``text`` escaped for Markdown, in a line or a table cell."""
    return MARKUP.sub(r"\\\g<0>", html.escape(printable(text), quote=False))


def as_html(text: str) -> str:
    """``text`` escaped for HTML, including quoted attributes."""
    return html.escape(printable(text))


def as_json(content: Any) -> str:
    """JSON in ASCII, without any character that ``printable`` would escape differently."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


def write(files: Files, folder: str, force: bool) -> None:
    """Write all files to ``folder``, or none if one cannot be written.

    Raises AdminError in that case, and if one exists by then without ``force``.
    """
    with ExitStack() as stack:
        for name, content in files.items():
            file = stack.enter_context(replacing(os.path.join(folder, name), force))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a full disk fails here, before any file gets its name
