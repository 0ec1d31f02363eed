import json

import pytest

from admin_fairseq import benchmark, cli
from admin_fairseq.errors import AdminError

TINY = [
    *("benchmark", "--cpu", "--arch", "postln_transformer_tiny", "--vocabulary", "60"),
    *("--encoder-layers", "1", "--decoder-layers", "1", "--max-tokens", "100"),
    *("--updates", "2", "--blocks", "2", "--warmup-updates", "1", "--optimizer", "adam"),
]


def test_json_is_what_was_printed(tmp_path, capsys):
    path = tmp_path / "result.json"
    cli.main([*TINY, "--json", str(path)])
    output, errors = capsys.readouterr()
    assert output.splitlines() == benchmark.report(json.loads(path.read_text()))
    assert errors == ""


def test_options_reach_the_benchmark(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(benchmark, "benchmark", asked.append)
    monkeypatch.setattr(benchmark, "report", lambda result: ["a line"])
    cli.main(TINY)
    cli.main(["benchmark"])
    assert asked[0].arch == "postln_transformer_tiny"
    assert (asked[0].optimizer, asked[0].blocks, asked[0].cpu) == ("adam", 2, True)
    assert asked[1] == benchmark.Options()
    assert capsys.readouterr().out == "a line\na line\n"


def test_json_file_that_cannot_be_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "benchmark", lambda options: {})
    monkeypatch.setattr(benchmark, "report", lambda result: ["a line"])
    with pytest.raises(AdminError) as error:
        cli.main(["benchmark", "--json", str(tmp_path)])
    assert "cannot be written" in str(error.value)
    assert capsys.readouterr().out == "a line\n"  # the measurement is not lost


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "SUBCOMMAND"),
        (["dance"], "dance"),
        (["benchmark", "--arch", "foo"], "unknown --arch foo"),
        (["benchmark", "--init-type", "foo"], "foo"),
        (["benchmark", "--blocks", "x"], "--blocks"),
        (["benchmark", "--speed"], "--speed"),
        (["benchmark", "--cpu", "--fp16"], "--fp16"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message, capsys):
    with pytest.raises(AdminError) as error:
        cli.main(words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [[], *([name] for name in cli.COMMANDS)])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--help"])
    assert stop.value.code == 0
    assert "usage: admin-fairseq" in capsys.readouterr().out
