"""Make the subcommands ``admin-fairseq analyze`` and ``benchmark`` from their tables of studies.

A study measures something (``WHAT``) and writes its result to files; a report runs several studies
and writes a page about them."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from functools import partial
from typing import Any, Iterator, Union

import torch
from fairseq.dataclass import FairseqDataclass

from admin_fairseq.commands.command import Command, add_force, positive
from admin_fairseq.fairseq_runs import naming_out_of_memory
from admin_fairseq.files import Files, write_all
from admin_fairseq.studies.files import check_folder, files_of, names_of
from admin_fairseq.studies.options import add_options, command_line, takes_trailing_words, values
from admin_fairseq.studies.origin import origin
from admin_fairseq.studies.study import Finding, Report, Study, Table

EPILOG = "Arguments after -- are options of fairseq-train for all models: -- --dropout 0.3"


def command(table: Table) -> Command:
    """Make the subcommand of ``table``, which has a sub-subcommand WHAT for every study and every
    report."""
    return Command(partial(_add_options, table), partial(_run, table))


def _add_options(table: Table, parser: ArgumentParser) -> None:
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    commands: dict[str, Union[Study, Report]] = {**table.studies, **table.reports}
    for what, asked in commands.items():
        sub = whats.add_parser(
            what,
            help=asked.help,
            description=asked.help,
            allow_abbrev=False,
            epilog=EPILOG if takes_trailing_words(asked.options) else None,
        )
        add_options(sub, asked.options)
        sub.add_argument("--threads", type=positive, help="threads of torch (default: torch's own)")
        sub.add_argument(
            *("-o", "--output-dir", "--output"),
            metavar="OUTDIR",
            default=table.folder,
            required=table.folder is None,
            help="folder to write to" + (f" (default: {table.folder})" if table.folder else ""),
        )
        add_force(sub)


def _run(table: Table, args: Namespace) -> Iterator[str]:
    """Run a study, or all studies of a report, write the files, and yield the lines to print."""
    report = table.reports.get(args.what)
    options = values((report or table.studies[args.what]).options, args)
    parts = report.parts(options) if report else {args.what: options}
    names = [name for what in parts for name in names_of(what, table.studies[what])]
    names += [report.page] if report else []
    check_folder(args.output_dir, names, args.force, getattr(options, "profiles", ()))
    if args.threads:
        torch.set_num_threads(args.threads)
    found = [_measured(table, args, options, what, part) for what, part in parts.items()]
    found = [one for one in found if one.study.rows(one.result)]  # others have nothing to say
    files: Files = {name: file for one in found for name, file in files_of(one).items()}
    if report:
        files = {**files, report.page: report.written(found, files).encode()}
    write_all(files, args.output_dir, args.force)
    for name in {*names} - {*files}:  # with --force, an earlier result may have had more pictures
        with suppress(FileNotFoundError):
            os.remove(os.path.join(args.output_dir, name))
    for one in found:
        yield from one.study.read(one.result)
    yield f"written to {args.output_dir}: {', '.join(files)}"


def _measured(
    table: Table, args: Namespace, options: FairseqDataclass, what: str, part: FairseqDataclass
) -> Finding:
    """Run the study ``what`` with the options ``part``, and return its result and how it was made.

    For a study that is part of a report, ``options`` has the options of the report.
    """
    study = table.studies[what]
    # a study with the options of a report cannot be run alone: record the report's command
    alone = (what, part) if type(part) is study.options else (args.what, options)
    made_with: dict[str, Any] = {
        table.key: what,
        "command": _command(table.name, args, *alone),
        **origin(torch.cuda.is_available() and not getattr(args, "cpu", False)),
    }
    with naming_out_of_memory():
        return Finding(what, study, made_with, study.measure(part))


def _command(table: str, args: Namespace, what: str, options: FairseqDataclass) -> str:
    """Return the command line that repeats a study, or the report that has run the study."""
    given = ["-o", args.output_dir, *(["--threads", str(args.threads)] if args.threads else [])]
    return shlex.join(["admin-fairseq", table, what, *given, *command_line(options)])
