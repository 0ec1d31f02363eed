"""The subcommand ``admin-fairseq schemes``: print a table of all values of --init-type."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command
from admin_fairseq.schemes import SCHEMES, Norm, Profiling, Scheme

COLUMNS = (
    *("scheme", "year", "layer norm", "changes", "extra parameters", "profile", "folds"),
    *("compared with", "paper"),
)
PROFILES = {
    Profiling.NONE: "no",
    Profiling.WRITE: "writes it, stops",
    Profiling.READ: "reads it",
    Profiling.MEASURE: "measures it",
}


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def _run(args: Namespace) -> Iterable[str]:
    rows = [(name, *_cells(scheme)) for name, scheme in SCHEMES.items()]
    if args.json:
        content = [dict(zip(COLUMNS, row)) for row in rows]
        return [json.dumps(content, indent=2)]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in (COLUMNS, *rows)
    ]


def _cells(scheme: Scheme) -> tuple[str, ...]:
    """Return a scheme's cells of the table, one for each of ``COLUMNS`` after its name."""
    norm = "Post-LN or Pre-LN" if scheme.norm is Norm.EACH else scheme.norm.value
    folds = "no" if scheme.no_stock_form else "yes"
    return (
        *(str(scheme.year), norm, ", ".join(scheme.changes) or "none"),
        *(scheme.extra or "none", PROFILES[scheme.profiling], folds),
        *(scheme.compared_with, scheme.paper),
    )


COMMAND = Command(_add_options, _run)
