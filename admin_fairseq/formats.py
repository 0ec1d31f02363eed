"""Make text safe for CSV, Markdown, HTML and JSON.

Names of folders and data sets, and logs, may contain anything: markup, spreadsheet formulas,
terminal control codes, halves of surrogate pairs.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from typing import Any, Iterable, Sequence

from admin_fairseq.errors import printable

FORMULA = ("=", "+", "-", "@")
"""The characters with which a spreadsheet's formula may begin.

Formulas may begin with tabs and newlines too, but these are escaped in any text.
"""

MARKUP = re.compile(r"[\\`*\[\]~$|]|(?<![^\W_])_|_(?![^\W_])")
"""Matches Markdown's markup characters. An underscore within a word is none."""


def as_csv(table: Iterable[Sequence[Any]]) -> str:
    """Return the rows of ``table`` as CSV in which no cell can be a spreadsheet's formula."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(map(_csv_cell, line) for line in table)
    return file.getvalue()


def _csv_cell(value: Any) -> Any:
    """Return a cell's value; if text starts like a formula, escape its first character."""
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
    """Return ``text`` escaped for Markdown, for use in a line or in a table cell."""
    return MARKUP.sub(r"\\\g<0>", html.escape(printable(text), quote=False))


def as_html(text: str) -> str:
    """Return ``text`` escaped for HTML, also for use in quoted attributes."""
    return html.escape(printable(text))


def as_json(content: Any) -> str:
    """Return ``content`` as JSON in ASCII, with no character that ``printable`` would escape."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return text.replace("\x7f", "\\u007f")
