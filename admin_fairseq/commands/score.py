"""The subcommand ``admin-fairseq score``: compute the BLEU of a translated test set."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Iterable, Optional

from admin_fairseq.commands.command import Command, add_force, finite, positive
from admin_fairseq.corpora.prepared import read_prepared
from admin_fairseq.corpora.rules import detokenise
from admin_fairseq.errors import AdminError, blaming, printable, shortened
from admin_fairseq.files import read_text, refuse_to_overwrite
from admin_fairseq.results.evaluation import Evaluation, Score
from admin_fairseq.results.generated import translations
from admin_fairseq.results.scoring import bleu, compound_split, tokenised

MOST_LINES, LONGEST_LINE = 500_000, 100_000
"""Limits on a test set, in lines and in characters of a line: sacreBLEU keeps every n-gram of every
line in memory."""


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
        help="reference translations in plain text, for detokenised BLEU only",
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
    lines = _lines(args.hypotheses)
    with blaming(args.hypotheses):
        hypotheses = translations(lines)
    if args.data_dir:
        dataset, scores = _score_words(hypotheses, args.data_dir)
    else:
        scores = {"detokenised": bleu(hypotheses, _lines(args.reference))}
        dataset = args.dataset
    if args.output:
        evaluation = Evaluation(
            _name(dataset),
            "test",
            _name(args.checkpoint),
            args.averaged,
            {"beam": args.beam, "lenpen": args.lenpen},
            scores,
        )
        evaluation.write(args.output, args.force)
    return [f"{kind}: {score.score:.2f}  {score.signature}" for kind, score in scores.items()]


def _score_words(hypotheses: list[str], data_dir: str) -> tuple[str, dict[str, Score]]:
    """Compute BLEU against the test set of a prepared data folder.

    Returns the data set's name and its scores by kind: tokenised, compound split and detokenised,
    or detokenised alone for text that was never tokenised.
    """
    prepared = read_prepared(data_dir)
    if prepared is None:
        raise AdminError(f"{data_dir}: not a folder of admin-fairseq prepare")
    language = prepared["target"]
    if not prepared.get("tokenised", True):
        raw = _lines(os.path.join(data_dir, f"test.raw.{language}"))
        return prepared["dataset"], {"detokenised": bleu(hypotheses, raw)}
    words = _lines(os.path.join(data_dir, f"test.words.{language}"))
    raw = _lines(os.path.join(data_dir, f"test.raw.{language}"))
    text = list(map(detokenise(language), hypotheses))
    return prepared["dataset"], {
        "tokenised": tokenised(hypotheses, words),
        "compound split": compound_split(hypotheses, words),
        "detokenised": bleu(text, raw, lowercase=prepared["lowercase"]),
    }


def _name(given: Optional[str]) -> Optional[str]:
    """Shorten a name, and escape what is no valid text, so that evaluation.json can have it."""
    return None if given is None else shortened(printable(given))


def _lines(path: str) -> list[str]:
    """Read the lines of a text file, which only newlines separate; raise AdminError if the file is
    too large for a test set."""
    lines = read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    longest = max(map(len, lines), default=0)
    if len(lines) > MOST_LINES or longest > LONGEST_LINE:
        raise AdminError(
            f"{path}: {len(lines):,} lines of up to {longest:,} characters; is it a test set?"
        )
    return lines


COMMAND = Command(_add_options, _run)
