import os

import pytest
import torch
from fairseq import checkpoint_utils

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import reading

from ..integration.shims import python

STATE = {
    "model": {"w": torch.ones(3)},
    "cfg": {"model": {"_name": "transformer", "adaptive_softmax_cutoff": None}},
    "optimizer_history": [{"optimizer_name": "Adam", "lr_scheduler_state": {}, "num_updates": 1}],
    "extra_state": {"train_iterator": {"epoch": 1}},
}


def saved(folder, content):
    torch.save(content, folder / "in.pt")
    return str(folder / "in.pt")


def test_fairseq_reads_its_checkpoints_and_learns_where_they_are(tmp_path):
    path = saved(tmp_path, {**STATE, "cfg": {"checkpoint": {"restore_file": "x"}}})
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    assert torch.equal(state["model"]["w"], torch.ones(3))
    assert state["cfg"].checkpoint.restore_file == path


def test_a_suffix_of_the_run_is_in_the_path_already(tmp_path):
    """Else a model that is built from it would look for checkpoint-x-x.pt."""
    path = saved(tmp_path, {**STATE, "cfg": {"checkpoint": {"checkpoint_suffix": "-x"}}})
    assert checkpoint_utils.load_checkpoint_to_cpu(path)["cfg"].checkpoint.checkpoint_suffix == ""


@pytest.mark.parametrize("kind", ["norm.weight", "before.shift", "before.weight"])
def test_what_the_weights_show_stands_in_the_options(tmp_path, kind):
    """Of Sub-LN's second norm in attention to the encoder; Fixup has another module there."""
    weights = {f"decoder.layers.0.encoder_attn.out_proj.{kind}": torch.ones(3)}
    path = saved(tmp_path, {**STATE, "model": weights})
    options = checkpoint_utils.load_checkpoint_to_cpu(path)["cfg"].model
    shown = "subln_in_encoder_attention"
    assert options.get(shown, False) is (kind == "before.weight")
    for odd in ({}, {"cfg": None}, {"cfg": {"model": [1]}}, {"cfg": [1], "args": {"model": {}}}):
        state = reading.read(saved(tmp_path, {"model": weights, **odd}))
        assert state["model"].keys() == weights.keys()


def test_code_in_options_is_refused(tmp_path):
    options = {"_name": "transformer", "adaptive_softmax_cutoff": "print(1) or [1]"}
    path = saved(tmp_path, {**STATE, "cfg": {"model": options}})
    with pytest.raises(AdminError, match=f"{path}: refused: its option adaptive_softmax_cutoff"):
        checkpoint_utils.load_checkpoint_to_cpu(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = saved(tmp_path, {**STATE, "model": {"w": torch.zeros(1000)}})
    content = bytearray((tmp_path / "in.pt").read_bytes())
    content[content.rindex(bytes(2000)) + 1000] ^= 1
    (tmp_path / "in.pt").write_bytes(content)
    for read in (
        checkpoint_utils.load_checkpoint_to_cpu,
        checkpoint_utils.load_ema_from_checkpoint,
    ):
        with pytest.raises(AdminError, match=f"{path}: damaged: the checksum"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [3, [1], torch.ones(2), {}, {"model": STATE["model"]}, {**STATE, "model": [1]}]
    + [{**STATE, "optimizer_history": odd} for odd in ("text", [3], [])],
)
def test_other_files_of_torch_are_told_as_such(content, tmp_path):
    path = saved(tmp_path, content)
    with pytest.raises(AdminError, match=f"{path}: not a checkpoint of fairseq"):
        checkpoint_utils.load_checkpoint_to_cpu(path)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(AdminError, match=f"{path}: cannot be read: "):
            checkpoint_utils.load_checkpoint_to_cpu(str(path))
    with pytest.raises(AdminError, match=r"nowhere.pt: cannot be read: No such file"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "nowhere.pt"))


def test_importing_the_package_is_enough_to_load_a_stock_checkpoint(tmp_path):
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        pytest.skip("torch refuses nothing before 2.6")
    path = saved(tmp_path, STATE)
    program = f"import admin_fairseq, torch; print(torch.load({path!r})['cfg']['model']['_name'])"
    done = python(program)
    assert done.stdout.strip() == "transformer", done.stderr
