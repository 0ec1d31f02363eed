"""What a study is: options, a measurement, and the views of its result, which only read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Generic, Mapping, Optional, Sequence, TypeVar

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.studies.pictures import Picture

OptionsT = TypeVar("OptionsT", bound=FairseqDataclass)
ResultT = TypeVar("ResultT")

Row = Mapping[str, Any]
"""A line of a table: column → value. Not every row has every column."""


@dataclass(frozen=True)
class Study(Generic[OptionsT, ResultT]):
    """One WHAT of ``admin-fairseq analyze`` or ``admin-fairseq benchmark``.

    ``measure`` gives a dataclass of plain values. The views read nothing else: ``rows`` is the CSV
    file, ``draw`` its pictures by name (at most those that ``pictures`` names), ``read`` says in
    words what was found.
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
    """What a study found; ``made_with``: command, versions, machine, conditions."""

    name: str
    study: Study
    made_with: Mapping[str, Any]
    result: Any

    @property
    def plain(self) -> dict[str, Any]:
        """The content of its JSON file."""
        return {**self.made_with, **plain(self.result)}


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as dictionaries, without the ``_name`` that fairseq gives its dataclasses."""
    return asdict(value, dict_factory=lambda items: {k: v for k, v in items if k != "_name"})


@dataclass(frozen=True)
class Report(Generic[OptionsT]):
    """Several studies in one page: ``parts`` gives the options of each."""

    help: str
    options: type[OptionsT]
    parts: Callable[[OptionsT], dict[str, FairseqDataclass]]
    page: str
    written: Callable[[Sequence[Finding], Mapping[str, bytes]], str]


@dataclass(frozen=True)
class Table:
    """The studies of one command, ``admin-fairseq NAME WHAT``.

    ``key``: what a result's JSON calls the study's name; ``folder``: where files go if nothing is
    said, None if it must be said.
    """

    name: str
    key: str
    studies: Mapping[str, Study]
    reports: Mapping[str, Report] = field(default_factory=dict)
    folder: Optional[str] = None
