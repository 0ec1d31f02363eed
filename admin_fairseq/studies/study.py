"""Define what a study is: options, a measurement, and views, which only read its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Generic, Mapping, Optional, Sequence, TypeVar

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.studies.pictures import Picture

OptionsT = TypeVar("OptionsT", bound=FairseqDataclass)
ResultT = TypeVar("ResultT")

Row = Mapping[str, Any]
"""A row of a study's CSV file: column → value. Rows can lack columns."""


@dataclass(frozen=True)
class Study(Generic[OptionsT, ResultT]):
    """One measurement, run as ``admin-fairseq analyze WHAT`` or ``admin-fairseq benchmark WHAT``.

    ``measure`` returns a dataclass of plain values, the result. The views read nothing else:
    ``rows`` returns the rows of the CSV file, ``draw`` the pictures by name (only names in
    ``pictures``), ``read`` the findings as lines of text.
    """

    help: str
    options: type[OptionsT]
    measure: Callable[[OptionsT], ResultT]
    rows: Callable[[ResultT], Sequence[Row]]
    draw: Callable[[ResultT], Mapping[str, Picture]]
    read: Callable[[ResultT], Sequence[str]]
    pictures: Sequence[str]


@dataclass(frozen=True)
class Finding:
    """The result of a study called ``name``, ready for writing.

    ``made_with`` holds the command, the package versions and the machine that produced it.
    """

    name: str
    study: Study
    made_with: Mapping[str, Any]
    result: Any

    @property
    def plain(self) -> dict[str, Any]:
        """Return the finding as plain values, as the study's JSON file has them."""
        return {**self.made_with, **plain(self.result)}


def plain(value: Any) -> dict[str, Any]:
    """Convert a dataclass to dictionaries, without the ``_name`` that fairseq adds to options."""
    return asdict(value, dict_factory=lambda items: {k: v for k, v in items if k != "_name"})


@dataclass(frozen=True)
class Report(Generic[OptionsT]):
    """Several studies on one page, written to the file ``page``.

    ``parts`` returns the options of each study, by its name, from the report's own. ``written``
    returns the page's text from the studies' results and their files (name → content).
    """

    help: str
    options: type[OptionsT]
    parts: Callable[[OptionsT], dict[str, FairseqDataclass]]
    page: str
    written: Callable[[Sequence[Finding], Mapping[str, bytes]], str]


@dataclass(frozen=True)
class Table:
    """The studies and reports of one command, ``admin-fairseq NAME WHAT``, by WHAT.

    ``key`` is the field of the JSON file with the study's name; ``folder`` is the default output
    folder, None if users must name one.
    """

    name: str
    key: str
    studies: Mapping[str, Study]
    reports: Mapping[str, Report] = field(default_factory=dict)
    folder: Optional[str] = None
