"""All studies of some models in one HTML page."""

from __future__ import annotations

import shlex

from admin_fairseq.analysis.output import Files
from admin_fairseq.analysis.page import Section, page
from admin_fairseq.analysis.studies import STUDIES
from admin_fairseq.analysis.studies.study import Result

PAGE = "report.html"


def report(results: dict[str, Result], files: Files) -> str:
    """The page about ``results`` (study → what it found), with the pictures among ``files``."""
    first = next(iter(results.values()))
    conditions = {**first["conditions"], "words": shlex.join(first["conditions"]["words"])}
    facts = {**conditions, **first["versions"]}
    shown = {name.replace("_", " "): str(value) for name, value in facts.items() if value != ""}
    sections = [_section(name, result, files) for name, result in results.items()]
    return page("Why it trains or fails", shown, sections)


def _section(name: str, result: Result, files: Files) -> Section:
    study = STUDIES[name]
    pictures = [
        (described.caption, files[f"{picture}.svg"])
        for picture, described in study.draw(result).items()
        if f"{picture}.svg" in files
    ]
    return Section(name.capitalize(), result["command"], study.read(result), pictures)
