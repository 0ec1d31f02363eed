"""Declare the options of a study once, as the fields of a dataclass.

From the fields come the command-line parser (through fairseq's own generator), the options' values,
the check of their bounds, and the command line that reproduces the values.
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
"""The default of an option that users must give (omegaconf's MISSING)."""


class Depth(NamedTuple):
    """The numbers of encoder and decoder layers; a language model only uses the second."""

    encoder: int
    decoder: int

    def __str__(self) -> str:
        """Return the depth as typed: ``18`` if both stacks have 18 layers, else ``60-12``."""
        return f"{self.encoder}" if self.encoder == self.decoder else "-".join(map(str, self))


def option(
    default: Any,
    help: str,
    bounds: Optional[Bounds] = None,
    written: Callable[[Any], str] = str,
    **argparse: Any,
) -> Any:
    """Declare an option with this default, as a dataclass field.

    ``bounds`` are checked on the value or, of a list, on all its numbers. ``written`` converts a
    value to the text that a user would type. ``argparse`` holds arguments of ``add_argument`` that
    fairseq's generator does not support (``metavar``, ``choices``, ``nargs``, ...), and ``names``
    if the option is not called --FIELD-NAME.
    """
    told = default is not None and not isinstance(default, bool) and default not in ((), REQUIRED)
    if told and argparse.get("action") != "append":
        help += f" (default: {written(default)})".replace("%", "%%")
    if default == REQUIRED:
        argparse["required"] = True
    return field(
        default=default,
        metadata={"help": help, "bounds": bounds, "written": written, "argparse": argparse},
    )


def repeated(default: Sequence[Any], help: str, **argparse: Any) -> Any:
    """Declare an option that can be given several times; its value is a tuple."""
    return option(tuple(default), help, **{"type": str, "action": "append", **argparse})


def quoted(default: Sequence[str], help: str, **argparse: Any) -> Any:
    """Declare an option whose value is a quoted list of options: ``--ours "--criterion foo"``."""
    argparse = {"metavar": "OPTIONS", **argparse}
    return option(tuple(default), help, type=split_words, written=shlex.join, **argparse)


def trailing_words(help: str) -> Any:
    """Declare the arguments that follow ``--`` on the command line; ``help`` says what they are."""
    return option((), help, names=("words",), metavar="-- OPTION", nargs="*", type=str)


def split_words(text: str) -> tuple[str, ...]:
    """Split ``text`` into arguments as a shell does; raises ArgumentTypeError if it cannot."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from None


def depth(text: str) -> Depth:
    """Parse a depth: ``18`` (layers of both stacks) or ``60-12`` (encoder, decoder).

    Raises ArgumentTypeError for other text.
    """
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
    """Declare an option for several depths: ``--depths 6,12,60-12``."""

    def read(text: str) -> tuple[Depth, ...]:
        return tuple(sorted({depth(part) for part in text.split(",")}))

    def written(some: Sequence[Depth]) -> str:
        return ",".join(map(str, some))

    return option(
        read(default) if default else (), help, type=read, written=written, metavar="N,N-M,..."
    )


def add_options(parser: ArgumentParser, options: type[FairseqDataclass]) -> None:
    """Add the options of a dataclass, and of dataclasses nested in it, to ``parser``."""
    gen_parser_from_dataclass(_Refining(parser, options), options())


class _Refining:
    """A substitute for the parser that fairseq's generator fills.

    It passes every option on to the true parser, with the ``argparse`` arguments of its field.
    """

    def __init__(self, parser: ArgumentParser, options: type[FairseqDataclass]) -> None:
        self.parser = parser
        self.fields = {each.name: each for each in _leaves(options)}

    def add_argument(self, name: str, **how: Any) -> None:
        """Add an option to the true parser; arguments of its field override ``how``."""
        key = name.lstrip("-").replace("-", "_")
        own = dict(self.fields[key].metadata["argparse"])
        names = own.pop("names", (spelled(key),))  # fairseq would make ``data`` positional
        if own.get("action") == "append":
            how["default"] = None  # argparse would append to it
        if names[0].startswith("-"):
            how["dest"] = key
        self.parser.add_argument(*names, **{**how, **own})


def _leaves(options: type[FairseqDataclass]) -> Iterator[Field]:
    """Yield the option fields of a dataclass, also those of dataclasses nested in it."""
    for each in fields(options):
        if group := _group(each):
            yield from _leaves(group)
        elif each.name != "_name":  # added by fairseq to every such dataclass
            yield each


def _group(each: Field) -> Optional[type[FairseqDataclass]]:
    """Return the options dataclass nested in a field; None if the field is one option."""
    if isclass(each.type) and issubclass(each.type, FairseqDataclass):
        return each.type
    return None


def takes_trailing_words(options: type[FairseqDataclass]) -> bool:
    """Return whether a dataclass of options takes arguments after ``--``."""
    return any(each.name == "words" for each in _leaves(options))


def values(options: type[OptionsT], args: Namespace) -> OptionsT:
    """Build the dataclass ``options`` from parsed arguments.

    Raises AdminError if a number is out of its bounds.
    """
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
    """Raise AdminError, which names the option, if a number is out of its bounds."""
    known = {each.name: each.metadata.get("bounds") for each in fields(options)}
    bounds.check(options, {name: admitted for name, admitted in known.items() if admitted})


def shared(source: FairseqDataclass, options: type[OptionsT], **changed: Any) -> OptionsT:
    """Build the dataclass ``options`` from the fields that it shares with ``source``.

    ``changed`` are values to use instead of those in ``source``.
    """
    names = {each.name for each in fields(source)} & {each.name for each in fields(options)}
    kept = {name: getattr(source, name) for name in names - {"_name"}}
    return options(**{**kept, **changed})


def command_line(options: FairseqDataclass) -> list[str]:
    """Return the arguments that reproduce ``options``: those that differ from the defaults.

    Arguments that follow ``--`` come last.
    """
    named, after = _arguments(options)
    return [*named, *(["--", *after] if after else [])]


def _arguments(options: FairseqDataclass) -> tuple[list[str], Sequence[str]]:
    """Return the arguments for values that are not the default, and those to follow ``--``."""
    named: list[str] = []
    after: Sequence[str] = ()
    for each in fields(options):
        value = getattr(options, each.name)
        if _group(each):
            more, more_after = _arguments(value)
            named += more
            after = after or more_after
        elif each.name == "words":
            after = value
        elif each.name != "_name" and value != default_of(each):
            named += _written(each, value)
    return named, after


def _written(each: Field, value: Any) -> list[str]:
    """Return one option with its value as command-line arguments."""
    how = each.metadata["argparse"]
    name = how.get("names", (spelled(each.name),))[0]
    if isinstance(value, bool):
        return [name]
    several = how.get("action") == "append" or "nargs" in how
    texts = list(map(each.metadata["written"], value if several else [value]))
    if "nargs" in how:
        return [*([name] if name.startswith("-") else []), *texts]
    return [argument for text in texts for argument in _with_text(name, text)]


def _with_text(name: str, text: str) -> list[str]:
    """Return an option with the text of its value: ``--option TEXT`` as two arguments.

    Returns one argument, ``--option=TEXT``, if TEXT is empty or begins with ``-``, as an option
    does.
    """
    return [f"{name}={text}"] if text.startswith("-") or not text else [name, text]
