"""The subcommand ``admin-fairseq prepare``: turn a published data set, or the user's own text, into
fairseq's binary format."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.bounds import counting
from admin_fairseq.commands.command import Command, add_force
from admin_fairseq.corpora import prepare
from admin_fairseq.corpora.datasets import DATASETS
from admin_fairseq.corpora.own import HELD_OUT, PIECES
from admin_fairseq.corpora.subwords import SUBWORDS

MOST_WORKERS = 8 * (os.cpu_count() or 1)
"""A limit on --workers: each process needs memory, and more than one per core saves no time."""
SHARE = f"{1 / HELD_OUT.one_in:.0%}% of its pairs, {HELD_OUT.most:,} at most"
MOST_PIECES = 1_000_000
"""A limit on --bpe-size, several times the largest vocabularies in use."""


def _add_options(parser: ArgumentParser) -> None:
    titles = "; ".join(f"{name}: {dataset.title}" for name, dataset in DATASETS.items())
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="?",
        choices=list(DATASETS),
        help=f"a published data set ({titles}); leave out for your own text, see --text",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", required=True, help="folder for all that this command writes"
    )
    for name, metavar, what in (
        (
            "--text",
            "PREFIX",
            "your own training text, one sentence per line: PREFIX.SOURCE, PREFIX.TARGET",
        ),
        ("--source", "LANG", "language to translate from, the suffix of its file, such as de"),
        ("--target", "LANG", "language to translate to, such as en"),
        ("--valid", "PREFIX", f"validation text (default: drawn from --text, {SHARE})"),
        ("--test", "PREFIX", f"test set (default: drawn from --text, {SHARE})"),
        ("--raw-dir", "DIR", "folder that has the published files; nothing is downloaded"),
        ("--mirror", "URL", "address of a folder to try before the published addresses"),
    ):
        parser.add_argument(name, metavar=metavar, help=what)
    parser.add_argument(
        "--bpe",
        choices=list(SUBWORDS),
        help="how to split words (default: subword-nmt, as published; sentencepiece for "
        "multi30k and your own text)",
    )
    parser.add_argument(
        "--bpe-size",
        metavar="N",
        type=counting(1, MOST_PIECES),
        help="merges of subword-nmt or pieces of sentencepiece (default: as published; "
        f"{DATASETS['multi30k'].bpe_merges:,} for multi30k, {PIECES:,} for your own text)",
    )
    parser.add_argument(
        "--separate-dictionaries",
        action="store_true",
        help="a dictionary for each language, as T-Fixup on IWSLT14 (default: one for both, as "
        "Admin)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=counting(1, MOST_WORKERS),
        default=os.cpu_count() or 1,
        help="processes (default: one for each core, here %(default)s)",
    )
    add_force(parser)


def _run(args: Namespace) -> Iterable[str]:
    made = prepare.prepare(prepare.Options(**vars(args)))
    counts = ", ".join(f"{number:,} {split}" for split, number in made["pairs"].items())
    return [f"{args.data_dir}/bin is ready: {counts} pairs"]


COMMAND = Command(_add_options, _run)
