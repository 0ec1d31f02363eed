"""The subcommand ``admin-fairseq translate``: translate standard input with an exported model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, finite
from admin_fairseq.commands.lines import (
    add_device,
    add_model,
    reported,
    standard_input,
    write_utf8,
)
from admin_fairseq.serving.translate import TranslationOptions, translate


def _add_options(parser: ArgumentParser) -> None:
    add = add_model(parser, TranslationOptions)
    add("beam", "beam width")
    add("lenpen", "length penalty: <1 favours shorter, >1 longer sentences", type=finite)
    add("max_len_b", "longest translation, in pieces")
    add("max_tokens", "pieces in a batch")
    add_device(add, "translate")


def _run(args: Namespace) -> Iterable[str]:
    write_utf8()
    translations = translate(standard_input(), TranslationOptions(**vars(args)))
    return reported(translations, "Translated", "sentences")


COMMAND = Command(_add_options, _run, verbatim=True)
