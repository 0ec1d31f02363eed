"""The subcommand ``admin-fairseq benchmark WHAT``: measure the speed or memory of models."""

from admin_fairseq.benchmarks.table import TABLE
from admin_fairseq.commands.studies import command

COMMAND = command(TABLE)
