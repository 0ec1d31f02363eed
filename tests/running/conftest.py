import shlex

import pytest

from admin_fairseq import cli


@pytest.fixture
def dry(capsys):
    """The commands that a subcommand would run."""

    def run(*words):
        before, after = list(map(str, words)), []
        if "--" in before:
            at = before.index("--")
            before, after = before[:at], before[at:]
        cli.main([*before, "--dry-run", *after])
        return list(map(shlex.split, capsys.readouterr().out.splitlines()))

    return run


def options(command):
    """Option → value, of a command that has each once."""
    names = [i for i, word in enumerate(command) if word.startswith("--")]
    return {command[i]: command[i + 1] for i in names if i + 1 < len(command)}
