"""The subcommand ``admin-fairseq score``: compute the BLEU and chrF of a translated test set."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Iterable, Optional

from admin_fairseq.commands.command import Command, add_force, finite, positive
from admin_fairseq.errors import AdminError, blaming, printable, shortened
from admin_fairseq.files import refuse_to_overwrite
from admin_fairseq.results.evaluation import Evaluation
from admin_fairseq.results.references import (
    References,
    lines_of,
    read_references,
    read_translations,
)
from admin_fairseq.results.scoring import BOOTSTRAP


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "hypotheses",
        metavar="HYP",
        help="translations without BPE: the output of fairseq-generate, or plain text line by line",
    )
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder that prepare has written, whose test set is the reference",
    )
    against.add_argument(
        "--reference",
        metavar="FILE",
        help="reference translations in plain text, for detokenised BLEU and chrF2 only",
    )
    parser.add_argument(
        "--baseline",
        metavar="HYP",
        help="translations of another system: also test whether the detokenised BLEUs differ "
        f"({BOOTSTRAP})",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write the scores to FILE, for admin-fairseq results"
    )
    for name, metavar, kind, what in (
        ("--dataset", "NAME", str, "data set of --reference"),
        ("--checkpoint", "FILE", str, "checkpoint of the translations"),
        ("--averaged", "K", positive, "number of averaged checkpoints"),
        ("--beam", "BEAM", positive, "beam width"),
        ("--lenpen", "LENPEN", finite, "length penalty"),
    ):
        parser.add_argument(
            name, metavar=metavar, type=kind, help=f"{what}, to be recorded in --output"
        )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    if args.dataset and args.data_dir:
        raise AdminError("--dataset needs --reference; with --data-dir, leave --dataset out")
    if args.output:
        refuse_to_overwrite(args.output, args.force)
        read = (args.hypotheses, args.reference, args.baseline)
        if os.path.realpath(args.output) in [os.path.realpath(path) for path in read if path]:
            raise AdminError(f"{args.output}: is read; choose another --output")
    hypotheses = read_translations(args.hypotheses)
    references = (
        read_references(args.data_dir)
        if args.data_dir
        else References(args.dataset, lines_of(args.reference))
    )
    bleu, chrf = references.bleu(hypotheses), references.chrf(hypotheses)
    found = [f"{kind}: {s.score:.2f}  {s.signature}" for kind, s in {**bleu, "chrF2": chrf}.items()]
    if args.baseline is not None:
        found.append(_compared(references, hypotheses, args.baseline))
    if args.output:
        evaluation = Evaluation(
            _name(references.dataset),
            "test",
            _name(args.checkpoint),
            args.averaged,
            {"beam": args.beam, "lenpen": args.lenpen},
            bleu,
            chrf,
        )
        evaluation.write(args.output, args.force)
    return found


def _compared(references: References, hypotheses: list[str], path: str) -> str:
    """Describe how the detokenised BLEU differs from that of the translations in the file ``path``,
    and how significantly."""
    baseline = read_translations(path)
    with blaming(path):
        old = references.bleu(baseline)["detokenised"].score
    new = references.bleu(hypotheses)["detokenised"].score
    p = references.p_value(hypotheses, baseline)
    return f"detokenised: {new:.2f}, {new - old:+.2f} against {path}, p = {p:.4f} ({BOOTSTRAP})"


def _name(given: Optional[str]) -> Optional[str]:
    """Shorten a name, and escape what is no valid text, so that evaluation.json can have it."""
    return None if given is None else shortened(printable(given))


COMMAND = Command(_add_options, _run)
