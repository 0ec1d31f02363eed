"""A study's files: arrays (JSON), a table (CSV) and pictures (PNG, SVG)."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import Any

from admin_fairseq.analysis.studies.study import Result, Study
from admin_fairseq.files import refuse_to_overwrite, replacing


def files_of(name: str, study: Study) -> list[str]:
    """The names of all files that a study may write."""
    from admin_fairseq import drawing  # matplotlib, which only pictures need

    pictures = [f"{picture}.{ending}" for picture in study.pictures for ending in drawing.ENDINGS]
    return [f"{name}.json", f"{name}.csv", *pictures]


def refuse(folder: str, names: list[str], force: bool) -> None:
    """Raise AdminError if one of the files is there and ``force`` was not asked for."""
    for name in names:
        refuse_to_overwrite(os.path.join(folder, name), force)


def write(name: str, study: Study, result: Result, folder: str, force: bool) -> list[str]:
    """Write the files, each whole or not at all; returns their names."""
    from admin_fairseq import drawing

    texts = {
        f"{name}.json": json.dumps(result, indent=1, allow_nan=False) + "\n",
        f"{name}.csv": _as_csv(study.rows(result)),
    }
    for file, text in texts.items():
        write_text(os.path.join(folder, file), text, force)
    pictures = study.draw(result)
    for picture, described in pictures.items():
        figure = drawing.draw(described.panels, described.columns, described.share)
        drawing.write(figure, os.path.join(folder, picture), force)
    return [*texts, *(f"{picture}.{ending}" for picture in pictures for ending in drawing.ENDINGS)]


def write_text(path: str, text: str, force: bool) -> None:
    with replacing(path, force) as file:
        file.write(text.encode())


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
