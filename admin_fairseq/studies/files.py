"""Make the files of a study: its result (JSON), a table (CSV) and pictures (PNG, SVG)."""

from __future__ import annotations

import logging
import os
from types import ModuleType
from typing import Collection, Iterable, Mapping, Optional, Sequence

from admin_fairseq.errors import AdminError
from admin_fairseq.files import Files, refuse_to_overwrite
from admin_fairseq.formats import as_csv, as_json
from admin_fairseq.repairs import run_log
from admin_fairseq.studies.pictures import ENDINGS, Picture
from admin_fairseq.studies.study import Finding, Row, Study

LOG, PROFILE = run_log.NAME, "profile.json"
"""Names of files in the folder of a run."""

logger = logging.getLogger(__name__)


def names_of(name: str, study: Study) -> list[str]:
    """Return the names of all files that ``study``, called ``name``, can produce."""
    pictures = [f"{picture}.{ending}" for picture in study.pictures for ending in ENDINGS]
    return [f"{name}.json", f"{name}.csv", *pictures]


def check_folder(
    folder: str, names: Collection[str], force: bool, inputs: Iterable[str] = ()
) -> None:
    """Raise AdminError if files cannot be written to ``folder``, or exist without ``force``.

    ``names`` are the files' names; none may be one of ``inputs``, the files that are read, nor a
    profile of a run in the folder. The folder itself may be missing, as long as it can be created.
    """
    if not folder:
        raise AdminError("--output-dir is empty; name a folder")
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise AdminError(f"{folder}: cannot be written to ({there} is not a writable folder)")
    if PROFILE in names and os.path.exists(os.path.join(folder, LOG)):
        raise AdminError(
            f"{folder}: has a run, whose {PROFILE} is its scheme's; choose another --output-dir"
        )
    read = {os.path.realpath(path) for path in inputs}
    for name in names:
        path = os.path.join(folder, name)
        if os.path.realpath(path) in read:
            raise AdminError(f"{path}: would be replaced, and is read; choose another --output-dir")
        refuse_to_overwrite(path, force)


def files_of(finding: Finding) -> Files:
    """Make all files of a finished study; returns file name → content.

    Pictures that cannot be drawn are left out, and the reason is logged.
    """
    name, study, result = finding.name, finding.study, finding.result
    files = {
        f"{name}.json": f"{as_json(finding.plain)}\n".encode(),
        f"{name}.csv": _table(study.rows(result)).encode(),
    }
    return {**files, **rendered(study.draw(result))}


def rendered(pictures: Mapping[str, Picture]) -> Files:
    """Draw pictures in every format; returns file name → content.

    ``pictures`` are name → picture. One that cannot be drawn is left out, and the error is logged.
    """
    drawing = _drawing_or_none()
    if drawing is None:
        return {}
    files: dict[str, bytes] = {}
    for name, picture in pictures.items():
        try:
            found = drawing.rendered(drawing.draw(picture.panels, picture.columns, picture.share))
        except Exception as error:  # numbers that took long must not be lost to a picture
            logger.warning("cannot draw the picture %s: %s: %s", name, type(error).__name__, error)
        else:
            files.update({f"{name}.{ending}": content for ending, content in found.items()})
    return files


def _drawing_or_none() -> Optional[ModuleType]:
    """Import the module ``drawing``, which needs matplotlib, and return it.

    Returns None, with a log message, if matplotlib is missing.
    """
    try:
        from admin_fairseq.studies import drawing  # matplotlib, which only pictures need
    except AdminError as error:
        logger.warning("no pictures, numbers and tables only: %s", error.message)
        return None
    return drawing


def _table(rows: Sequence[Row]) -> str:
    """Format the rows as CSV, below the names of their columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return as_csv([names, *([row.get(name) for name in names] for row in rows)])
