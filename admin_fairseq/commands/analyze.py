"""``admin-fairseq analyze WHAT``."""

from admin_fairseq.analysis.table import TABLE
from admin_fairseq.commands.studies import command

COMMAND = command(TABLE)
