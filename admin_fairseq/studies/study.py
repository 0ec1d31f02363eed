"""A study: options, a measurement, and views of its result, which only read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Generic, Mapping, Optional, Sequence, TypeVar

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.studies.pictures import Picture

OptionsT = TypeVar("OptionsT", bound=FairseqDataclass)
ResultT = TypeVar("ResultT")

Row = Mapping[str, Any]
"""A row of a table: column → value. Columns may be missing."""


@dataclass(frozen=True)
class Study(Generic[OptionsT, ResultT]):
    """One WHAT of ``admin-fairseq analyze`` or ``admin-fairseq benchmark``.

    ``measure`` returns a dataclass of plain values. The views read nothing else: ``rows`` gives the
    CSV file, ``draw`` the pictures by name (only names in ``pictures``), ``read`` the findings in
    words.
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
    """The result of a study; ``made_with`` is its command, versions and machine."""

    name: str
    study: Study
    made_with: Mapping[str, Any]
    result: Any

    @property
    def plain(self) -> dict[str, Any]:
        """The content of its JSON file."""
        return {**self.made_with, **plain(self.result)}


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as dictionaries, without the ``_name`` of fairseq's dataclasses."""
    return asdict(value, dict_factory=lambda items: {k: v for k, v in items if k != "_name"})


@dataclass(frozen=True)
class Report(Generic[OptionsT]):
    """Several studies on one page: ``parts`` maps the options to those of each study."""

    help: str
    options: type[OptionsT]
    parts: Callable[[OptionsT], dict[str, FairseqDataclass]]
    page: str
    written: Callable[[Sequence[Finding], Mapping[str, bytes]], str]


@dataclass(frozen=True)
class Table:
    """The studies of one command, ``admin-fairseq NAME WHAT``.

    ``key`` is the field for the study's name in the JSON file; ``folder`` is the default output
    folder, None if it must be given.
    """

    name: str
    key: str
    studies: Mapping[str, Study]
    reports: Mapping[str, Report] = field(default_factory=dict)
    folder: Optional[str] = None
