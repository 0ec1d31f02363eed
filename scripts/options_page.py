"""Print docs/options.md, made of the option dataclasses, the table of schemes and the parsers:

python scripts/options_page.py >docs/options.md
"""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser
from typing import Any, Iterable, Iterator

from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterionConfig as StockCriterion,
)
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass

from admin_fairseq.cli import COMMANDS
from admin_fairseq.config import (
    AdminMaskedLanguageModelConfig,
    MaskedLanguageModelOptions,
    PluginOptions,
)
from admin_fairseq.criterions.label_smoothed_cross_entropy_chunked import ChunkedConfig
from admin_fairseq.formats import as_markdown
from admin_fairseq.lr_scheduler.inverse_sqrt_nowarmup import InverseSqrtNoWarmupConfig
from admin_fairseq.lr_scheduler.linear import LinearScheduleConfig
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.schemes import SCHEMES
from admin_fairseq.studies.options import REQUIRED
from admin_fairseq_cli import SUBCOMMANDS

INTRODUCTION = """\
# Options

<!-- Made by scripts/options_page.py; do not edit. -->

Every option that this plugin adds, and every option of `admin-fairseq`. The architectures take all
options of fairseq's `transformer` and `transformer_lm` besides, masked language models those of an
encoder; [Training](training.md) says which ones matter.
"""

PARTS: dict[str, tuple[str, type[FairseqDataclass], tuple[type, ...]]] = {
    "Model": (
        "For every `--arch` of the plugin. In hydra they are `model.NAME`, with underscores.",
        PluginOptions,
        (),
    ),
    "Masked language models": (
        "For every `--arch` with `_mlm` in its name.",
        AdminMaskedLanguageModelConfig,
        (MaskedLanguageModelOptions,),
    ),
    "Criterion `label_smoothed_cross_entropy_chunked`": (
        "With the options of fairseq's `label_smoothed_cross_entropy`, and",
        ChunkedConfig,
        (StockCriterion,),
    ),
    "Optimizers `radam`, `adam_fused` and `novograd`": (
        "The same options for all three.",
        AdamOptions,
        (),
    ),
    "Schedule `linear`": (
        "Linear warm-up, then linear decay until `--max-update`.",
        LinearScheduleConfig,
        (),
    ),
    "Schedule `inverse_sqrt_nowarmup`": (
        "T-Fixup's schedule, without a warm-up.",
        InverseSqrtNoWarmupConfig,
        (),
    ),
}
"""Title of a part of the page → its first sentence, a dataclass of options, and those dataclasses
whose options are left out."""


NUMBERS: dict[Any, str] = {int: "N", float: "X"}


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield INTRODUCTION
    yield from _schemes()
    for title, (about, options, known) in PARTS.items():
        left_out = {name for one in known for name in one.__dataclass_fields__}
        actions = [a for a in _parser(options)._actions if a.dest not in left_out]
        yield from ("", f"## {title}", "", about, "", *_table(actions))
    yield from ("", "## Commands", "", "`admin-fairseq SUBCOMMAND`, with these options.")
    for name, text in SUBCOMMANDS.items():
        parser = ArgumentParser(prog=name)
        COMMANDS[name].add_options(parser)
        yield from ("", f"### {name}", "", f"{text[0].upper()}{text[1:]}.", "", *_command(parser))


def _schemes() -> Iterator[str]:
    """Yield the table of the values of --init-type, each with its own options."""
    yield "## Values of `--init-type`\n"
    yield "| value | scheme | its own options |\n|---|---|---|"
    for name, scheme in SCHEMES.items():
        own = ", ".join(f"`--{option.name.replace('_', '-')}`" for option in scheme.options)
        section = "adaptive" if name.startswith("adaptive") else name
        yield f"| [`{name}`](schemes.md#{section}) | {as_markdown(scheme.title)} | {own or '—'} |"


def _parser(options: type[FairseqDataclass]) -> ArgumentParser:
    """Return a parser of a dataclass's options, as fairseq makes it."""
    parser = ArgumentParser(add_help=False)
    gen_parser_from_dataclass(parser, options())
    return parser


def _command(parser: ArgumentParser) -> Iterator[str]:
    """Yield the table of a subcommand's options; one that has subcommands, a table for each."""
    (choices,) = [a.choices for a in parser._actions if isinstance(a.choices, dict)] or [None]
    if choices is None:
        yield from _table(parser._actions)
        return
    for what, sub in choices.items():
        about = str(sub.description)
        yield from (f"#### {parser.prog} {what}", "", f"{about[0].upper()}{about[1:]}.", "")
        yield from (*_table(sub._actions), "")


def _table(actions: Iterable[Action]) -> Iterator[str]:
    """Yield a table of options: name with its argument, default, meaning."""
    shown = [a for a in actions if a.help is not SUPPRESS and a.dest != "help"]
    if not shown:
        yield "No options."
        return
    yield "| option | default | meaning |\n|---|---|---|"
    for action in shown:
        yield f"| {_name(action)} | {_default(action)} | {_meaning(action)} |"


def _name(action: Action) -> str:
    """Return the option as typed, with its argument."""
    takes = action.nargs != 0
    if action.choices is not None and len(list(action.choices)) <= 4:
        argument = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        argument = str(action.metavar or NUMBERS.get(action.type, action.dest.upper()))
    long = [name for name in action.option_strings if name.startswith("--")]
    names = (long or action.option_strings or [argument])[:1]
    words = [*names, *([argument] if takes and action.option_strings else [])]
    return f"`{' '.join(words)}`"


def _default(action: Action) -> str:
    """Return the default, where the help does not tell it."""
    value: Any = action.default
    if value == REQUIRED:
        return "(required)"
    unset = value in (None, ()) or isinstance(value, bool) or "(default" in str(action.help)
    interpolated = str(value).startswith("${")
    return "" if unset or interpolated or value is SUPPRESS else f"`{value}`"


def _meaning(action: Action) -> str:
    """Return the help, with argparse's placeholders filled in; its backticks mean code."""
    text = (action.help or "") % {**vars(action), "prog": "admin-fairseq"}
    return as_markdown(text).replace(r"\`", "`").replace("\n", " ")


if __name__ == "__main__":
    print("\n".join(page()))
