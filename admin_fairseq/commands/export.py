"""The subcommand ``admin-fairseq export``: convert a checkpoint for another engine or library."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Callable, Iterable, NamedTuple

from admin_fairseq.bounds import spelled
from admin_fairseq.checkpoints.dictionaries import DataBin
from admin_fairseq.checkpoints.storage import read_checkpoint
from admin_fairseq.commands.command import Command, add_data, add_force, data_of
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.serving.export import QUANTIZATIONS, export_ctranslate2, refuse_other_tasks
from admin_fairseq.serving.huggingface import export_huggingface
from admin_fairseq.serving.huggingface_tokenizers import subwords


class Target(NamedTuple):
    """What --to names: the function that exports and returns lines, and the options that no other
    target has."""

    export: Callable[[Namespace, dict[str, Any], DataBin], Iterable[str]]
    own_options: tuple[str, ...]


def _ctranslate2(args: Namespace, state: dict[str, Any], data: DataBin) -> Iterable[str]:
    model = args.sentencepiece_model
    changes = export_ctranslate2(
        state, args.input, data, args.output, args.quantization, model, args.force
    )
    reads = "plain text" if model else "pieces (no --sentencepiece-model was given)"
    return [*changes, f"wrote {args.output}, which reads and writes {reads}"]


def _huggingface(args: Namespace, state: dict[str, Any], data: DataBin) -> Iterable[str]:
    asked = subwords(args.sentencepiece_model, args.bpe_codes)
    changes = export_huggingface(state, args.input, data, args.output, asked, args.force)
    return [*changes, f"wrote {args.output}, which reads and writes {asked.kind.reads}"]


TARGETS = {
    "ctranslate2": Target(_ctranslate2, ("quantization",)),
    "huggingface": Target(_huggingface, ("bpe_codes",)),
}
"""Value of --to → the target."""


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--to", required=True, choices=tuple(TARGETS), help="engine or library")
    parser.add_argument("input", metavar="IN.pt", help="checkpoint to read")
    parser.add_argument("output", metavar="OUTDIR", help="folder to write")
    add_data(parser)
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        help="ctranslate2: type of the weights (default: not quantized)",
    )
    parser.add_argument(
        "--sentencepiece-model",
        metavar="FILE",
        help="subword model to copy into OUTDIR, so that it reads and writes plain text",
    )
    parser.add_argument(
        "--bpe-codes",
        metavar="FILE",
        help="huggingface: codes of subword-nmt, if the data were split with them",
    )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    _refuse_options_of_others(args)
    state = read_checkpoint(args.input)
    with blaming(args.input):
        refuse_other_tasks(state)
    data = data_of(args, state)
    if args.sentencepiece_model:
        data.check_pieces(args.sentencepiece_model)
    return TARGETS[args.to].export(args, state, data)


def _refuse_options_of_others(args: Namespace) -> None:
    """Raise AdminError if an option is given that only another target has."""
    for name, target in TARGETS.items():
        for option in target.own_options:
            if name != args.to and getattr(args, option) is not None:
                raise AdminError(f"{spelled(option)} is for --to {name}, not --to {args.to}")


COMMAND = Command(_add_options, _run)
