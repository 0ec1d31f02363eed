"""The options of a study, declared once as the fields of a dataclass.

The fields give the parser (through fairseq's own generator), the values, their bounds, and the
command line that reproduces the values.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import Field, field, fields
from inspect import isclass
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence, TypeVar

from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass

from admin_fairseq import bounds
from admin_fairseq.bounds import Bounds, spelled
from admin_fairseq.config import LAYERS, default_of
from admin_fairseq.errors import shortened

OptionsT = TypeVar("OptionsT", bound=FairseqDataclass)

REQUIRED = "???"
"""The default of an option that must be given (omegaconf's MISSING)."""
NOT_SHOWN = (None, False, True, (), REQUIRED)
"""Defaults that help texts do not show."""


class Depth(NamedTuple):
    """Encoder and decoder layers; a language model only uses the second."""

    encoder: int
    decoder: int

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.encoder}" if self.encoder == self.decoder else "-".join(map(str, self))


def option(
    default: Any,
    help: str,
    bounds: Optional[Bounds] = None,
    written: Callable[[Any], str] = str,
    **argparse: Any,
) -> Any:
    """A field for an option with this default, whose numbers must be within ``bounds``.

    ``written`` converts a value to text. ``argparse`` are arguments of ``add_argument`` that
    fairseq's generator does not support (``metavar``, ``choices``, ``nargs``, ...), and ``names``
    if the option is not called --FIELD-NAME.
    """
    if default not in NOT_SHOWN and argparse.get("action") != "append":
        help += f" (default: {written(default)})".replace("%", "%%")
    return field(
        default=default,
        metadata={"help": help, "bounds": bounds, "written": written, "argparse": argparse},
    )


def repeated(default: Sequence[Any], help: str, **argparse: Any) -> Any:
    """An option that may be given several times; its value is a tuple."""
    return option(tuple(default), help, **{"type": str, "action": "append", **argparse})


def quoted(default: Sequence[str], help: str, **argparse: Any) -> Any:
    """An option whose value is a quoted list of options: ``--ours "--criterion foo"``."""
    argparse = {"metavar": "OPTIONS", **argparse}
    return option(tuple(default), help, type=words, written=shlex.join, **argparse)


def trailing_words(help: str) -> Any:
    """The arguments after ``--``."""
    return option((), help, names=("words",), metavar="-- OPTION", nargs="*", type=str)


def words(text: str) -> tuple[str, ...]:
    """Split ``text`` as a shell does."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from None


def depth(text: str) -> Depth:
    """``18`` (both stacks) or ``60-12`` (encoder, decoder)."""
    try:
        stacks = text.split("-") if "-" in text else (text, text)
        encoder, decoder = (int(LAYERS(layers)) for layers in stacks)
    except (ArgumentTypeError, ValueError):
        raise ArgumentTypeError(
            f"{shortened(text, 100)!r} is not a depth like 18, or 60-12 (encoder, decoder), each "
            f"{LAYERS}"
        ) from None
    return Depth(encoder, decoder)


def depths(default: Optional[str], help: str) -> Any:
    """An option for several depths: ``--depths 6,12,60-12``."""

    def read(text: str) -> tuple[Depth, ...]:
        return tuple(sorted({depth(part) for part in text.split(",")}))

    def written(some: Sequence[Depth]) -> str:
        return ",".join(map(str, some))

    return option(
        read(default) if default else (), help, type=read, written=written, metavar="N,N-M,..."
    )


def add_options(parser: ArgumentParser, options: type[FairseqDataclass]) -> None:
    """Add the options of a dataclass to ``parser``, and those of dataclasses in its fields."""
    gen_parser_from_dataclass(_Refining(parser, options), options())


class _Refining:
    """Takes the parser's place in fairseq's generator, and adds the fields' ``argparse``."""

    def __init__(self, parser: ArgumentParser, options: type[FairseqDataclass]) -> None:
        self.parser = parser
        self.fields = {each.name: each for each in _leaves(options)}

    def add_argument(self, name: str, **how: Any) -> None:
        key = name.lstrip("-").replace("-", "_")
        own = dict(self.fields[key].metadata["argparse"])
        names = own.pop("names", (spelled(key),))  # fairseq would make ``data`` positional
        if own.get("action") == "append":
            how["default"] = None  # argparse would append to it
        if names[0].startswith("-"):
            how["dest"] = key
        self.parser.add_argument(*names, **{**how, **own})


def _leaves(options: type[FairseqDataclass]) -> Iterator[Field]:
    for each in fields(options):
        if group := _group(each):
            yield from _leaves(group)
        elif each.name != "_name":  # added by fairseq to every such dataclass
            yield each


def _group(each: Field) -> Optional[type[FairseqDataclass]]:
    """The dataclass that a field holds; None for an option."""
    if isclass(each.type) and issubclass(each.type, FairseqDataclass):
        return each.type
    return None


def values(options: type[OptionsT], args: Namespace) -> OptionsT:
    """The options in ``args``; raises AdminError if a number is out of its bounds."""
    given = {}
    for each in fields(options):
        if group := _group(each):
            given[each.name] = values(group, args)
        elif each.name in args:
            value = getattr(args, each.name)
            given[each.name] = tuple(value) if isinstance(value, list) else value
    made = options(**{name: value for name, value in given.items() if value is not None})
    check(made)
    return made


def check(options: FairseqDataclass) -> None:
    """Raise AdminError that names a number out of its bounds."""
    known = {each.name: each.metadata.get("bounds") for each in fields(options)}
    bounds.check(options, {name: admitted for name, admitted in known.items() if admitted})


def shared(source: FairseqDataclass, options: type[OptionsT], **changed: Any) -> OptionsT:
    """``options`` with the values of ``source`` under the same names, except ``changed``."""
    names = {each.name for each in fields(source)} & {each.name for each in fields(options)}
    kept = {name: getattr(source, name) for name in names - {"_name"}}
    return options(**{**kept, **changed})


def command_line(options: FairseqDataclass) -> list[str]:
    """The arguments that differ from the defaults, with those after -- last."""
    named, after = _words(options)
    return [*named, *(["--", *after] if after else [])]


def _words(options: FairseqDataclass) -> tuple[list[str], Sequence[str]]:
    named: list[str] = []
    after: Sequence[str] = ()
    for each in fields(options):
        value = getattr(options, each.name)
        if _group(each):
            more, more_after = _words(value)
            named += more
            after = after or more_after
        elif each.name == "words":
            after = value
        elif each.name != "_name" and value != default_of(each):
            named += _written(each, value)
    return named, after


def _written(each: Field, value: Any) -> list[str]:
    how = each.metadata["argparse"]
    name = how.get("names", (spelled(each.name),))[0]
    if isinstance(value, bool):
        return [name]
    several = how.get("action") == "append" or "nargs" in how
    texts = list(map(each.metadata["written"], value if several else [value]))
    if "nargs" in how:
        return [*([name] if name.startswith("-") else []), *texts]
    return [word for text in texts for word in _said(name, text)]


def _said(name: str, text: str) -> list[str]:
    return [f"{name}={text}"] if text.startswith("-") or not text else [name, text]
