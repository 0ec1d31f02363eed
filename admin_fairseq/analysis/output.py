"""A study's files: arrays (JSON), a table (CSV) and pictures (PNG, SVG)."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, Iterable, Optional

from admin_fairseq.analysis.studies.study import Result, Study
from admin_fairseq.errors import AdminError
from admin_fairseq.files import refuse_to_overwrite
from admin_fairseq.formats import Files, as_csv, as_json
from admin_fairseq.formats import write as write
from admin_fairseq.pictures import ENDINGS


def names_of(name: str, study: Study) -> list[str]:
    """The names of all files that a study may have."""
    pictures = [f"{picture}.{ending}" for picture in study.pictures for ending in ENDINGS]
    return [f"{name}.json", f"{name}.csv", *pictures]


def check_folder(folder: str, names: Iterable[str], force: bool) -> None:
    """Raise AdminError if files cannot be written, or are there and ``force`` was not asked for."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise AdminError(f"{folder}: cannot be written to ({there} is no folder to write to)")
    for name in names:
        refuse_to_overwrite(os.path.join(folder, name), force)


def files_of(name: str, study: Study, result: Result, drawing: Optional[ModuleType]) -> Files:
    """Its files; no pictures without ``drawing``."""
    files = {
        f"{name}.json": f"{as_json(result)}\n".encode(),
        f"{name}.csv": _table(study.rows(result)).encode(),
    }
    for picture, described in study.draw(result).items() if drawing else ():
        figure = drawing.draw(described.panels, described.columns, described.share)
        for ending, content in drawing.rendered(figure).items():
            files[f"{picture}.{ending}"] = content
    return files


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV, below the names of their columns."""
    names = list(rows[0])
    return as_csv([names, *([row.get(name) for name in names] for row in rows)])
