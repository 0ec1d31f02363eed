import ast
import os
from argparse import Namespace
from pathlib import Path

import fairseq
import numpy as np
import pytest
from fairseq.data import codedataset

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.evaluated_options import EVALUATED, check, is_plain

CODE = "__import__('os').system('touch PWNED') or [50]"
EVALUATORS = {"eval", "eval_str_list", "eval_str_dict", "eval_bool"}


@pytest.mark.parametrize(
    "text",
    [
        *("None", "True", "3", "-1.5e-3", "(0.9, 0.98)", "[10, 20]", "10,20", " [1]", "{'a': 1}"),
        *("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2", "[(512, 3)] * 20", "'name'"),
        *("(0.9, 1-0.02)", "(0.9, 1 - 1e-3)", "2 * [(16, 3)]", "[(16,3)]*2*3", "[[0]*4]*3"),
        *("([(16,3)]+[(16,3)])*2", "[(512, 3, 2)] * (2+2)", "1/3", "-1"),
    ],
)
def test_values_are_plain(text):
    assert is_plain(text)


@pytest.mark.parametrize(
    "text",
    [
        *(CODE, "os.sep", "print", "[x for x in (1,)]", "lambda: 1", "f'{1}'", "1 if 2 else 3"),
        *("[1] * 10**9", "[1] * 9999999999", "[0] * 9999 * 9999", "(1).real", "a := 1", "", "a b"),
        *("1/0", "[1] + 1", "(1).bit_length() * 2", "[exit()] * 2"),
        *("(" * 500 + ")" * 500, "[" + "1," * 10_000 + "]", "[1] * x"),
    ],
)
def test_code_is_not(text):
    assert not is_plain(text)


STATES = {
    "cfg": lambda options: {"cfg": {"model": options}},
    "namespace in cfg": lambda options: {"cfg": {"model": Namespace(**options)}},
    "nested": lambda options: {"cfg": {"model": {"decoder": [{"deeper": options}]}}},
    "args": lambda options: {"args": Namespace(**options)},
    "another section": lambda options: {"cfg": {"task": options}},
}


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("name", ["adaptive_softmax_cutoff", "encoder_xformers_att_config"])
def test_code_in_options_is_refused(kind, name):
    check(STATES[kind]({name: "[10, 20]", "save_dir": "print()", "other": None}))
    with pytest.raises(AdminError, match=rf"^refused: its option {name} is .*system"):
        check(STATES[kind]({name: CODE}))


@pytest.mark.parametrize(
    "value",
    [CODE.encode(), bytearray(CODE.encode()), np.frombuffer(CODE.encode(), np.uint8).copy()],
    ids=type,
)
def test_code_that_is_no_text_is_refused(value):
    """``eval`` takes whatever holds bytes."""
    for options in ({"encoder_layers": value}, {"adam_betas": [0.9, value]}):
        with pytest.raises(AdminError, match=r"^refused: its option (encoder_l|adam_b)"):
            check({"cfg": {"model": Namespace(**options)}})
    check({"cfg": {"model": {"encoder_layers": 6, "adam_betas": (0.9, None)}}})
    if isinstance(value, (bytes, bytearray)):
        with pytest.raises(AdminError, match=r"^refused: its option save_dir"):
            check({"cfg": {"checkpoint": {"save_dir": value}}})


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "${${task.a}:HOME}", "x${oc.create:${task.a}}", "${a.${b:c}}"]
)
def test_what_asks_a_function_is_refused(text):
    check({"cfg": {"model": {"layers": "${task.layers}"}}})
    with pytest.raises(AdminError, match=r"^refused: its option layers is '.*\$"):
        check({"cfg": {"model": {"layers": text}}})


def test_an_interpolation_does_not_bring_code_to_what_is_evaluated():
    with pytest.raises(AdminError, match="adam_betas"):
        check({"cfg": {"optimizer": {"adam_betas": "${task.data}"}}})


def test_lines_of_manifests_are_data(tmp_path, monkeypatch):
    monkeypatch.setattr(codedataset, "parse_code", lambda code, dictionary, append_eos: (code, 1))
    manifest = tmp_path / "train.txt"
    line = {"audio": "a.wav", "cpc_km100": "7 7", "duration": 1.0}
    manifest.write_text(f"{line}\n")
    assert codedataset.parse_manifest(str(manifest), None)[0] == ["a.wav"]
    manifest.write_text(f"__import__('os').mkdir({str(tmp_path / 'made')!r}) or {line}\n")
    with pytest.raises(ValueError, match="malformed"):
        codedataset.parse_manifest(str(manifest), None)
    assert not (tmp_path / "made").exists()


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(times):
    value = ("x",)
    for _ in range(times):
        value = (value, value)
    return value


@pytest.mark.parametrize("value", [nested(200), nested(100_000), doubled(60)])
def test_what_is_nested_without_end_is_refused(value):
    check({"extra_state": {"x": nested(50), "y": doubled(10)}})
    with pytest.raises(AdminError, match=r"^refused: it has more values, or deeper levels"):
        check({"extra_state": {"x": value}})


def evaluated_in(path):
    """Names of attributes that a file of Python evaluates, and sources of whatever else it does."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = node.func
        name = getattr(function, "id", None) or getattr(function, "attr", None)
        if name not in EVALUATORS or (name == "eval" and isinstance(function, ast.Attribute)):
            continue
        argument = node.args[0]
        if isinstance(argument, ast.Subscript):
            yield ast.literal_eval(argument.slice)
        else:
            yield argument.attr if isinstance(argument, ast.Attribute) else ast.unparse(argument)


OTHERWISE = {
    "x",  # the evaluators themselves, and types of options of the command line
    "uf",
    "line",
    "line.strip()",
    "conv_enc_config",  # local names, of options that are in the table
    "xformers_att_config",
    "feature_encoder_spec",
}


def test_the_table_has_every_option_that_this_fairseq_evaluates():
    folder = Path(fairseq.__file__).parent
    files = [path for path in folder.rglob("*.py") if os.sep + "examples" not in str(path)]
    found = {name for path in files for name in evaluated_in(path)}
    assert "adaptive_softmax_cutoff" in found
    assert found - EVALUATED - OTHERWISE == set()
