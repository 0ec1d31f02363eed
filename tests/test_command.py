"""The command ``admin-fairseq`` where it starts, in a process of its own."""

import os
import subprocess
import sys
from argparse import ArgumentParser
from importlib.metadata import PackageNotFoundError, version

import pytest

import admin_fairseq_cli
from admin_fairseq import cli

from .integration.shims import ROOT


def command(*words, **environment):
    program = (
        "import sys, admin_fairseq_cli; sys.argv[0] = 'admin-fairseq'; admin_fairseq_cli.main()"
    )
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_come_without_fairseq_and_torch(words):
    done = command(*words)
    assert done.returncode == 0
    assert_light(done)


def assert_light(done):
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"admin_fairseq", "fairseq", "torch", "numpy"}


@pytest.mark.parametrize(
    ("name", "told"),
    [("folde", "'folde'; do you mean fold?"), ("\x1bqqq", r"'\x1bqqq'")],
)
def test_an_unknown_subcommand_is_refused_at_once(name, told):
    done = command("--debug", name, "--help")
    assert done.returncode == 1 and done.stdout == ""
    error = f"admin-fairseq: error: no subcommand {told} (see admin-fairseq --help)"
    assert done.stderr.splitlines()[-1] == error
    assert_light(done)


def test_version_is_that_of_the_package():
    assert command("--version").stdout == f"admin-fairseq {version('admin-fairseq')}\n"


def test_a_source_tree_that_is_not_installed_has_all_but_a_version(monkeypatch, capsys):
    """A machine without pip has the folder, on PYTHONPATH, as --user-dir takes it."""

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(admin_fairseq_cli, "version", version)
    cli.main(["schemes"])
    assert "adaptive-auto" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        admin_fairseq_cli.main(["--version"])
    assert "not installed" in capsys.readouterr().out


def test_help_is_that_of_the_whole_command():
    quick, _ = admin_fairseq_cli.parser_of(ArgumentParser)
    assert quick.format_help() == cli._parser().format_help()
    assert command("--help").stdout.isascii()


@pytest.mark.parametrize(
    "way", [["-c", "import admin_fairseq_cli as c; c.main()"], ["-m", "admin_fairseq.cli"]]
)
def test_a_subcommand_says_nothing_of_fairseqs_own(way):
    """At its import, fairseq advises to install tensorboardX."""
    done = subprocess.run(
        [sys.executable, *way, "schemes"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "adaptive-auto" in done.stdout
    assert done.stderr == ""
