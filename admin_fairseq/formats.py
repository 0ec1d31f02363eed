"""Tables as text that is safe in each format, and files that are written together.

Names of folders and of data sets may hold anything, and so may a log: markup, formulas of a
spreadsheet, codes that steer a terminal, halves of surrogate pairs.
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
"""So begins what a spreadsheet takes for a formula; tabs and newlines become escapes."""

MARKUP = re.compile(r"[\\`*\[\]~$|]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown takes for markup; underscores within a word are none."""


def as_csv(table: Iterable[Sequence[Any]]) -> str:
    """Lines of cells; what is no number is plain text for a spreadsheet too."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(map(_csv_cell, line) for line in table)
    return file.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.startswith(FORMULA) or all(map(_is_number, text.split("±"))):
        return text
    return f"\\x{ord(text[0]):02x}{text[1:]}"  # as printable escapes what else is not safe


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_markdown(text: str) -> str:
    """``text`` as Markdown that shows it, in a line or in a cell of a table."""
    return MARKUP.sub(r"\\\g<0>", html.escape(printable(text), quote=False))


def as_html(text: str) -> str:
    """``text`` for a page, or for an attribute in quotes."""
    return html.escape(printable(text))


def as_json(content: Any) -> str:
    """JSON of ASCII alone, without a character that ``printable`` would escape its own way."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


def write(files: Files, folder: str, force: bool) -> None:
    """Write files to ``folder``: all of them, or none if one cannot be written.

    Raises AdminError then, and without ``force`` where one has come to be there.
    """
    with ExitStack() as stack:
        for name, content in files.items():
            file = stack.enter_context(replacing(os.path.join(folder, name), force))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # no room is told here, before the first gets its name
