import os
import pickle
import subprocess
import sys
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import torch

from admin_fairseq.checkpoints.storage import (
    check_weights,
    model_options,
    plain,
    read_checkpoint,
    run_options,
    without_training_state,
    write_checkpoint,
)
from admin_fairseq.errors import AdminError

CFG = {"model": {"_name": "transformer"}}


def saved(path, content):
    torch.save(content, path)
    return str(path)


def test_what_is_written_reads_back(tmp_path):
    path = str(tmp_path / "checkpoint.pt")
    state = {"model": {"w": torch.randn(3)}, "cfg": CFG, "args": None}
    write_checkpoint(state, path)
    read = read_checkpoint(path)
    assert torch.equal(read.pop("model")["w"], state.pop("model")["w"])
    assert read == state
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_no_allow_list_is_needed_to_read_what_was_written(tmp_path):
    path = tmp_path / "checkpoint.pt"
    state = {
        "args": None,
        "model": OrderedDict(w=torch.nn.Parameter(torch.ones(2))),
        "cfg": {"model": Namespace(arch="transformer"), "lr": [0.1]},
        "extra_state": {"loss": np.float64(1.5), "counts": (np.arange(2), {"n": np.int64(3)})},
    }
    write_checkpoint(state, str(path))
    program = f"import torch; s = torch.load({str(path)!r}, weights_only=True); print(s)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    read = "'extra_state': {'loss': 1.5, 'counts': ([0, 1], {'n': 3})}"
    assert read in done.stdout, done.stderr
    assert "'model': {'arch': 'transformer'}" in done.stdout


def test_plain_keeps_what_is_plain_already():
    value = {"a": [1, (2.0, None)], "b": {"c": True, 3: "text"}}
    assert plain(value) == value
    assert type(plain(OrderedDict(a=1))) is dict


@pytest.mark.parametrize(
    "state", [{"args": Namespace(arch="t")}, {"cfg": {"model": {"arch": "t"}}}]
)
def test_options_come_from_either_form(state):
    assert model_options(state)["_name"] == "t"


def test_run_options_nest_what_old_checkpoints_have_flat():
    args = Namespace(
        arch="transformer", task="translation", source_lang="de", criterion="cross_entropy"
    )
    cfg = run_options({"args": args})
    assert cfg["task"]["_name"] == "translation"
    assert cfg["task"]["source_lang"] == "de"
    assert run_options({"args": None, "cfg": CFG}) == CFG


def test_what_only_another_fairseq_has_is_left_out_of_the_run_options():
    args = Namespace(arch="transformer", optimizer="lookahead", lr_scheduler="poly", seed=5)
    cfg = run_options({"args": args})
    assert cfg["common"]["seed"] == 5
    assert not cfg["optimizer"] and not cfg["lr_scheduler"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fc.bias", float("nan"), "fc.bias is not finite"),
        ("fc.bias", float("-inf"), "fc.bias is not finite"),
        ("residuals.ffn.omega", 0.0, "omega is zero somewhere"),
        ("fc.bias", 0.0, None),
        ("residuals.ffn.alpha", 0.0, None),
    ],
)
def test_weights_are_checked(name, value, message):
    weights = {name: torch.tensor([1.0, value]), "count": torch.tensor(3)}
    if message is None:
        check_weights(weights)
    else:
        with pytest.raises(AdminError, match=message):
            check_weights(weights)


def test_training_state_is_left_behind():
    state = {
        "model": {},
        "last_optimizer_state": {"step": 3},
        "optimizer_history": [{"num_updates": 3}],
        "extra_state": {"train_iterator": {"epoch": 2}, "metrics": [1], "ema": {}},
    }
    kept = without_training_state(state)
    assert kept == {
        "model": {},
        "optimizer_history": [{"num_updates": 3}],
        "extra_state": {"train_iterator": {"epoch": 2}},
    }
    assert "metrics" in state["extra_state"]  # the argument is not touched


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no model"),
        ({"cfg": CFG}, "holds no model"),
        ({"model": {}, "cfg": CFG}, "holds no model"),
        ({"model": [torch.ones(1)], "cfg": CFG}, "holds no model"),
        ({"model": {"w": 3}, "cfg": CFG}, "w is not a tensor of numbers"),
        ({"model": {3: torch.ones(1)}, "cfg": CFG}, "3 is not a tensor of numbers"),
        ({"model": {"w": torch.ones(1).to_sparse()}, "cfg": CFG}, "w is not a tensor of numbers"),
        ({"model": {"w": torch.ones(1, device="meta")}, "cfg": CFG}, "w is not a tensor of n"),
        ({"model": {"w": torch.ones(1) * 1j}, "cfg": CFG}, "w is not a tensor of numbers"),
        ({"model": {"w": torch.ones(1).expand(10**9)}, "cfg": CFG}, "w is not a tensor of n"),
        ({"model": {"a.embed_tokens.weight": torch.ones(1)}, "cfg": CFG}, "not a table of emb"),
        ({"model": {"w": torch.ones(1)}}, "does not say which model"),
        ({"model": {"w": torch.ones(1)}, "cfg": {}}, "does not say which model"),
        ({"model": {"w": torch.ones(1)}, "cfg": [1]}, "cfg is not what fairseq stores"),
        ({"model": {"w": torch.ones(1)}, "cfg": {"model": "transformer"}}, "cfg is not what"),
        ({"model": {"w": torch.ones(1)}, "cfg": {**CFG, "task": "x"}}, "cfg is not what"),
        ({"model": {"w": torch.ones(1)}, "args": {"arch": "x"}}, "args is not what"),
        ({"model": {"w": torch.ones(1)}, "cfg": CFG, "extra_state": [1]}, "extra_state is not"),
        ({"model": {"w": torch.ones(1)}, "cfg": CFG, "optimizer_history": "abc"}, "_history is n"),
        ({"model": {"w": torch.ones(1)}, "cfg": CFG, "optimizer_history": [3]}, "_history is n"),
        ({"model": {"w": torch.ones(1)}, "cfg": {"model": {"_name": [1]}}}, "does not name its"),
    ],
)
def test_other_files_of_torch_are_refused(content, message, tmp_path):
    path = saved(tmp_path / "x.pt", content)
    with pytest.raises(AdminError, match=message) as error:
        read_checkpoint(path)
    assert path in str(error.value)


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "pickle", "zip", "zeros"])
def test_damaged_files_are_refused_in_one_line(damage, tmp_path):
    path = saved(tmp_path / "x.pt", {"model": {"w": torch.ones(1000)}, "cfg": CFG})
    whole = (tmp_path / "x.pt").read_bytes()
    content = {
        "text": b"not a checkpoint\n",
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "pickle": pickle.dumps({"a": 1})[:-1],
        "zip": b"PK\x05\x06" + bytes(18),
        "zeros": bytes(100),
    }[damage]
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(AdminError, match="not a checkpoint, or a damaged one") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_what_is_not_there_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(AdminError, match="cannot be read"):
            read_checkpoint(str(path))


def test_what_fairseq_leaves_to_chance_is_no_damage():
    check_weights({"encoder.embed_positions._float_tensor": torch.tensor([float("nan")])})
    with pytest.raises(AdminError, match=r"^encoder.embed_positions.weight is not finite"):
        check_weights({"encoder.embed_positions.weight": torch.tensor([float("nan")])})
