"""The subcommand ``admin-fairseq analyze WHAT``: run one of the analyses of models."""

from admin_fairseq.analysis.table import TABLE
from admin_fairseq.commands.studies import command

COMMAND = command(TABLE)
