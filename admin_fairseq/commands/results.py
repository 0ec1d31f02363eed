"""The subcommand ``admin-fairseq results``: print a table of training runs, draw their losses."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from typing import Iterable, Sequence

from admin_fairseq.commands.command import Command, add_force
from admin_fairseq.files import Files, write_all
from admin_fairseq.formats import as_csv
from admin_fairseq.results.runs import RULE, find_runs
from admin_fairseq.results.table import COLUMNS, FORMATS, NOTE, Row, curves, rows_of
from admin_fairseq.studies.files import check_folder, rendered
from admin_fairseq.studies.pictures import ENDINGS, Line, Panel, Picture

CURVES = {"training": "training loss", "validation": "validation loss"}
UNIT = "loss (bits per token, without label smoothing)"


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        metavar="DIR",
        nargs="+",
        help="folder of a run (with train.log, perhaps profile.json and evaluation.json), or a "
        "folder with runs somewhere below",
    )
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="text",
        help="format to print (default: %(default)s)",
    )
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        choices=list(COLUMNS),
        help="column to sort by, lowest first (default: by data set and depth): "
        + ", ".join(COLUMNS),
    )
    parser.add_argument(
        "--baseline",
        metavar="SCHEME",
        help="compare the other rows with the one of this scheme, at the same data set and depth: "
        "updates until its validation loss is reached, and the significance of the difference in "
        "detokenised BLEU",
    )
    parser.add_argument(
        "-o",
        "--output-dir",
        metavar="OUTDIR",
        help="write the table in every format and the loss curves (csv; with matplotlib also png "
        "and svg) to this folder",
    )
    add_force(parser)
    parser.epilog = f"{NOTE} Verdict, the first that holds: {RULE}."


def _run(args: Namespace) -> Iterable[str]:
    if args.output_dir:
        names = [f"results.{ending}" for ending, _ in FORMATS.values()]
        names += [f"curves.{ending}" for ending in ("csv", *ENDINGS)]
        check_folder(args.output_dir, names, args.force)
    rows = rows_of(find_runs(args.folders), args.sort, args.baseline)
    if args.output_dir:
        write_all(_files(rows), args.output_dir, args.force)
    return [FORMATS[args.format][1](rows)]


def _files(rows: Sequence[Row]) -> Files:
    """Make results.* in every format, curves.csv and, if matplotlib is there, curves.png, .svg."""
    files = {f"results.{ending}": f"{text(rows)}\n".encode() for ending, text in FORMATS.values()}
    files["curves.csv"] = as_csv(curves(rows)).encode()
    panels = _panels(rows)
    return {**files, **rendered({"curves": Picture("", panels, columns=len(panels))})}


def _panels(rows: Sequence[Row]) -> list[Panel]:
    """Describe the picture of the training and validation losses for drawing: a colour for each
    row, a line for each seed, a line style for each depth."""
    drawn = [row for row in rows if any(run.log.training for run in row.runs)]
    depths = list(dict.fromkeys(row.first.depth for row in drawn))
    several = len({row.first.dataset for row in drawn}) > 1
    starts = [run.log.training[0].loss for row in drawn for run in row.runs if run.log.training]
    highest = max(filter(math.isfinite, starts), default=None)
    return [
        Panel(
            title,
            "update",
            UNIT,
            [
                Line(
                    [point.update for point in getattr(run.log, curve)],
                    [point.loss for point in getattr(run.log, curve)],
                    _label(row, several),
                    color,
                    depths.index(row.first.depth),
                )
                for color, row in enumerate(drawn)
                for run in row.runs
            ],
            top=highest and 1.05 * highest,  # an exploding loss would flatten the others
        )
        for curve, title in CURVES.items()
    ]


def _label(row: Row, with_dataset: bool) -> str:
    """Return the legend entry for a row's curves."""
    dataset, *words = row.name
    return " ".join(filter(None, [dataset if with_dataset else "", *words, row.settings]))


COMMAND = Command(_add_options, _run)
