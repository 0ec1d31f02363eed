"""``admin-fairseq benchmark WHAT``."""

from admin_fairseq.benchmarks.table import TABLE
from admin_fairseq.commands.studies import command

COMMAND = command(TABLE)
