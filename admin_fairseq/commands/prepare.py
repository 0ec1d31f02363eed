"""``admin-fairseq prepare``."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.bounds import counting
from admin_fairseq.commands.command import Command
from admin_fairseq.corpora import prepare
from admin_fairseq.corpora.datasets import DATASETS
from admin_fairseq.corpora.own import HELD_OUT, PIECES
from admin_fairseq.corpora.subwords import SUBWORDS

MOST_WORKERS = 8 * (os.cpu_count() or 1)
"""Each takes memory and, beyond one for each core, saves no time."""
SHARE = f"{1 / HELD_OUT.one_in:.0%}% of its pairs, {HELD_OUT.most:,} at most"
MOST_PIECES = 1_000_000
"""Several times the largest vocabularies in use."""


def _add_options(parser: ArgumentParser) -> None:
    titles = "; ".join(f"{name}: {dataset.title}" for name, dataset in DATASETS.items())
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="?",
        choices=list(DATASETS),
        help=f"published, and downloaded ({titles}); left out for your own text, see --text",
    )
    for name, metavar, what in (
        (
            "--text",
            "PREFIX",
            "your own training text, one sentence a line: PREFIX.SOURCE and PREFIX.TARGET",
        ),
        ("--source", "LANG", "its language to translate from, as its file ends: de"),
        ("--target", "LANG", "its language to translate to: en"),
        (
            "--valid",
            "PREFIX",
            f"validation text (default: drawn from --text, {SHARE})",
        ),
        (
            "--test",
            "PREFIX",
            f"test set (default: drawn from --text, {SHARE})",
        ),
    ):
        parser.add_argument(name, metavar=metavar, help=what)
    parser.add_argument(
        "--data-dir", metavar="DIR", required=True, help="everything is written here"
    )
    parser.add_argument(
        "--raw-dir", metavar="DIR", help="take the published archives from here, download nothing"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="folder of archives to try before the published addresses"
    )
    parser.add_argument(
        "--bpe",
        choices=list(SUBWORDS),
        help="what splits text into pieces (default: subword-nmt, as published; sentencepiece for "
        "your own text)",
    )
    parser.add_argument(
        "--bpe-size",
        metavar="N",
        type=counting(1, MOST_PIECES),
        help="merges of subword-nmt or pieces of sentencepiece (default: as published; "
        f"{PIECES:,} for your own text)",
    )
    parser.add_argument(
        "--separate-dictionaries",
        action="store_true",
        help="one for each language, as T-Fixup has on IWSLT14 (default: a joined one, as Admin)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=counting(1, MOST_WORKERS),
        default=os.cpu_count() or 1,
        help="processes (default: one for each core, here %(default)s)",
    )


def _run(args: Namespace) -> Iterable[str]:
    made = prepare.prepare(prepare.Options(**vars(args)))
    counts = ", ".join(f"{number:,} {split}" for split, number in made["pairs"].items())
    return [f"{args.data_dir}/bin is ready: {counts} pairs"]


COMMAND = Command(_add_options, _run)
