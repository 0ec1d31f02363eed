"""dynamics.jsonl: what is read of it, whatever it contains."""

import json

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.results.dynamics import read_dynamics


def sublayer(gradient=1.0, **changes):
    found = {"stack": "encoder", "layer": 0, "sublayer": "ffn", "scale": None}
    found |= {"input_variance": 1.0, "branch_variance": 0.5, "weights": 4.0, "update": 0.1}
    return {**found, "gradient": gradient, **changes}


def line(update, gradient=1.0):
    return {"time": "now", "log": "dynamics", "update": update, "sublayers": [sublayer(gradient)]}


def write(path, *lines, end="\n"):
    path.write_text("\n".join(json.dumps(one) for one in lines) + end)
    return str(path)


def test_what_was_before_a_run_went_back_does_not_count(tmp_path):
    beta = {"encoder": {"own": 0.25, "beta": [[1.0], [0.9, 0.5]]}}
    path = write(
        tmp_path / "dynamics.jsonl",
        *(line(4, 1.0), line(8, 2.0), line(10, 2.0), {"update": 10, "dependency": beta}),
        *(line(6, 3.0), {"update": 6, "dependency": beta}, line(8, None)),
    )
    found = read_dynamics(path)
    assert {update: lines[0].gradient for update, lines in found.updates.items()} == {
        4: 1.0,
        6: 3.0,
        8: None,
    }
    assert list(found.updates) == [4, 6, 8]
    assert found.validations.keys() == {6} and found.validations[6]["encoder"].own == 0.25


def test_a_line_that_a_killed_run_left_is_ignored(tmp_path):
    path = write(tmp_path / "dynamics.jsonl", line(1), line(2), end="")
    assert list(read_dynamics(path).updates) == [1]


HEAD = json.dumps({"update": 1, "sublayers": [sublayer(stack="head")]})


@pytest.mark.parametrize(
    "text",
    ["x", "[]", '{"update": -1}', '{"update": 1, "sublayers": [{}]}', "\0", HEAD],
)
def test_other_content_is_told_with_its_line(text, tmp_path):
    path = tmp_path / "dynamics.jsonl"
    path.write_text(json.dumps(line(1)) + f"\n{text}\n")
    with pytest.raises(AdminError, match=r"dynamics\.jsonl, line 2: "):
        read_dynamics(str(path))


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(AdminError, match=r"missing\.jsonl: cannot be read"):
        read_dynamics(str(tmp_path / "missing.jsonl"))
