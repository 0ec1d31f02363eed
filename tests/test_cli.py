import io
import json
import re
import sys
from contextlib import redirect_stdout, suppress

import pytest

from admin_fairseq import cli
from admin_fairseq.commands import schemes
from admin_fairseq.commands.lines import standard_input
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "SUBCOMMAND"),
        (["dance"], "dance"),
        (["benchmark"], "WHAT"),
        (["benchmark", "dance"], "dance"),
        (["benchmark", "training", "--arch", "foo"], "unknown --arch foo"),
        (["benchmark", "steps", "--arch", "admin_transformer_lm"], "unknown --arch admin_trans"),
        (["benchmark", "memory", "--init-type", "foo"], "foo"),
        (["benchmark", "depth", "--blocks", "x"], "--blocks"),
        (["benchmark", "generation", "--speed"], "--speed"),
        (["benchmark", "gpu", "--cpu", "--precision", "fp16"], "--precision fp32"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        cli.main(words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


def test_a_closed_stream_is_told_in_one_line(monkeypatch):
    """As after ``<&-`` or ``>&-`` in a shell."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(AdminError, match="standard input is closed"):
        next(standard_input())
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit, match="standard output is closed"):
        cli.main(["schemes"])


def test_schemes_are_listed_with_what_they_are(capsys):
    cli.main(["schemes"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(SCHEMES)
    columns = [head.index(name) for name in schemes.COLUMNS]
    for row, scheme in zip(rows, SCHEMES.values()):
        assert scheme.paper == row[columns[-1] :]
        assert row[columns[-2] :].startswith(scheme.compared_with)
        assert row[columns[-3] :].startswith("no" if scheme.no_stock_form else "yes")
    admin = rows[list(SCHEMES).index("adaptive")]
    for cell in ("Post-LN", "ω: C per sub-layer", "reads it", "yes", "https://arxiv.org/"):
        assert f"  {cell}" in admin


@pytest.mark.parametrize("name", SCHEMES)
def test_the_year_of_a_scheme_is_that_of_its_paper(name):
    """An identifier at arXiv begins with the year and month of the first version."""
    scheme = SCHEMES[name]
    arxiv = re.match(r"https://arxiv\.org/abs/(\d\d)\d\d\.", scheme.paper)
    assert scheme.year == (2000 + int(arxiv[1]) if arxiv else 2020)  # T-Fixup: ICML 2020


CHANGES = {
    "none": ["default"],
    "residual": [
        *("adaptive-profiling", "adaptive", "adaptive-auto", "admin-torch"),
        *("rezero_postln", "branchnorm", "completep"),
    ],
    "norms": ["lns", "periln", "dyt"],
    "weights": ["looklinear", "dsinit", "lipschitz"],
    "connections": ["dlcl"],
    "residual, norms": ["rezero", "keel"],
    "residual, weights": ["deepnet", "b2t"],
    "residual, norms, inputs, weights": ["fixup"],
    "norms, inputs": ["normformer"],
    "norms, weights": ["tfixup"],
    "norms, inputs, weights": ["subln"],
    "weights, connections": ["resi_dual"],
}


def test_schemes_are_listed_with_what_they_change(capsys):
    cli.main(["schemes", "--json"])
    found = {}
    for row in json.loads(capsys.readouterr().out):
        found.setdefault(row["changes"], []).append(row["scheme"])
    assert found == CHANGES


def test_schemes_as_json(capsys):
    cli.main(["schemes", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert [scheme["scheme"] for scheme in listed] == list(SCHEMES)
    assert {tuple(scheme) for scheme in listed} == {schemes.COLUMNS}
    assert {scheme["scheme"]: scheme["folds"] for scheme in listed}["b2t"] == "no"


@pytest.mark.parametrize("words", [[], *([name] for name in cli.COMMANDS)])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--help"])
    assert stop.value.code == 0
    assert "usage: admin-fairseq" in capsys.readouterr().out


def test_an_unexpected_error_is_one_line_unless_asked_for(monkeypatch):
    def fail(args):
        raise ZeroDivisionError("a reason")

    monkeypatch.setitem(cli.COMMANDS, "schemes", cli.COMMANDS["schemes"]._replace(run=fail))
    with pytest.raises(SystemExit, match=r"unexpected ZeroDivisionError: a reason \(please report"):
        cli.main(["schemes"])
    with pytest.raises(ZeroDivisionError):
        cli.main(["--debug", "schemes"])


@pytest.mark.parametrize("place", ["_parser", "perform"])
def test_an_interrupt_is_quiet_wherever_it_comes(place, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, place, interrupt)
    with pytest.raises(SystemExit) as stop:
        cli.main(["schemes"])
    assert stop.value.code == 130


def test_names_do_not_steer_the_terminal(capsys):
    cli.perform(lambda: ["wrote \x1b[31mred\u202e\udcff", "a\nb"])
    cli.perform(lambda: ["\x1b[31mas it is"], verbatim=True)
    assert capsys.readouterr().out == "wrote \\x1b[31mred\\u202e\\udcff\na\nb\n\x1b[31mas it is\n"


@pytest.fixture
def in_ascii():
    """Runs a command whose standard output can encode ASCII alone; returns what it wrote."""

    def run(command, *args, **kwargs):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
        with redirect_stdout(stream), suppress(SystemExit):
            command(*args, **kwargs)
        return stream.buffer.getvalue().decode()

    return run


def test_what_standard_output_cannot_encode_is_escaped(in_ascii):
    assert r"\u03c9: C per sub-layer" in in_ascii(cli.main, ["schemes"])


def test_json_is_json_in_every_encoding(in_ascii):
    listed = {row["scheme"]: row for row in json.loads(in_ascii(cli.main, ["schemes", "--json"]))}
    assert listed["adaptive"]["extra parameters"].startswith("ω")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_is_shown_in_every_encoding(name, in_ascii):
    assert "-h, --help" in in_ascii(cli.main, [name, "--help"])


def test_data_that_standard_output_cannot_encode_is_refused(in_ascii):
    """An escape would be a wrong translation."""

    def translate():
        with pytest.raises(SystemExit, match="its encoding ascii has no 'ü'; set PYTHONIOENCODING"):
            cli.perform(lambda: ["süß"], verbatim=True)

    assert in_ascii(translate) == ""
