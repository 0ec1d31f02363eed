import gc
import weakref
from argparse import Namespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.checkpoints import average
from admin_fairseq.checkpoints.average import (
    BY_EPOCH,
    BY_UPDATE,
    best_checkpoints,
    last_checkpoints,
)
from admin_fairseq.checkpoints.storage import read_checkpoint, write_checkpoint
from admin_fairseq.errors import AdminError


def checkpoint(folder, name, weights, updates=1, val_loss=1.5, maximize=False, **options):
    folder.mkdir(exist_ok=True)
    state = {
        "args": None,
        "cfg": {
            "model": {"_name": "admin_transformer", **options},
            "checkpoint": {"maximize_best_checkpoint_metric": maximize},
        },
        "model": weights,
        "optimizer_history": [{"num_updates": updates}],
        "extra_state": {"train_iterator": {"epoch": updates}, "val_loss": val_loss},
        "last_optimizer_state": {"step": updates},
    }
    write_checkpoint(state, str(folder / name))
    return str(folder / name)


def several(folder, *many):
    return [checkpoint(folder, f"{i}.pt", weights, i) for i, weights in enumerate(many)]


@settings(deadline=None)
@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6))
def test_mean_of_any_weights(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = several(folder, *({"w": torch.full((2, 3), value)} for value in values))
    found = average.average(paths)["model"]["w"]
    expected = torch.tensor(values, dtype=torch.float64).mean().item()
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), torch.full((2, 3), expected).double(), atol=1e-3)


def test_half_precision_is_summed_in_float32(tmp_path):
    paths = several(tmp_path, *({"w": torch.full((4,), 60000.0).half()} for _ in range(5)))
    found = average.average(paths)["model"]["w"]
    assert found.dtype == torch.float16
    assert torch.equal(found, torch.full((4,), 60000.0).half())  # the sum is beyond float16


def test_everything_but_the_weights_is_the_last_ones(tmp_path):
    paths = several(tmp_path, *({"w": torch.ones(1) * i, "n": torch.tensor(i)} for i in range(3)))
    averaged = average.average(paths)
    assert averaged["model"]["w"].item() == 1
    assert averaged["model"]["n"].item() == 2  # not floating point
    assert averaged["optimizer_history"] == [{"num_updates": 2}]
    assert averaged["extra_state"] == {"train_iterator": {"epoch": 2}, "val_loss": None}
    assert "last_optimizer_state" not in averaged


def test_shared_weights_stay_shared(tmp_path):
    def tied(value):
        weight = torch.full((3,), value)
        return {"embed": weight, "output": weight, "other": weight.clone()}

    out = tmp_path / "out.pt"
    write_checkpoint(average.average(several(tmp_path, tied(1.0), tied(3.0))), str(out))
    found = read_checkpoint(str(out))["model"]
    assert torch.equal(found["embed"], torch.full((3,), 2.0))
    assert found["embed"].data_ptr() == found["output"].data_ptr() != found["other"].data_ptr()


def test_one_checkpoint_is_let_go_before_the_next_is_read(tmp_path, monkeypatch):
    alive = []

    def watching(path):
        gc.collect()
        assert not [tensor for tensor in alive if tensor() is not None], path
        state = read_checkpoint(path)
        alive.extend(weakref.ref(weight) for weight in state["model"].values())
        return state

    monkeypatch.setattr(average, "read_checkpoint", watching)
    paths = several(tmp_path, *({"w": torch.ones(9)} for _ in range(5)))
    assert average.average(paths)["model"]["w"].unique().item() == 1
    assert len(alive) == 5


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"w": torch.ones(2)}, "v is missing"),
        ({"w": torch.ones(2), "v": torch.ones(1), "z": torch.ones(1)}, "z is not in"),
        ({"w": torch.ones(3), "v": torch.ones(1)}, r"w is \(3,\), in earlier ones \(2,\)"),
        ({"w": torch.tensor([1.0, float("nan")]), "v": torch.ones(1)}, "w is not finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(other, message, tmp_path):
    paths = several(tmp_path, {"w": torch.ones(2), "v": torch.ones(1)}, other)
    with pytest.raises(AdminError, match=message) as error:
        average.average(paths)
    assert paths[1] in str(error.value)


@pytest.fixture
def run_folder(tmp_path):
    """Four epochs, three checkpoints within them, and the names that repeat one of them."""
    run, weights = tmp_path / "run", {"w": torch.ones(1)}
    for epoch, loss in ((1, 5.0), (2, 3.0), (3, 2.0), (10, 4.0)):
        checkpoint(run, f"checkpoint{epoch}.pt", weights, 100 * epoch, loss)
    for update, loss in ((50, 6.0), (250, 2.5), (950, 4.0)):
        checkpoint(run, f"checkpoint_{update // 100 + 1}_{update}.pt", weights, update, loss)
    checkpoint(run, "checkpoint_best.pt", weights, 300, 2.0)
    checkpoint(run, "checkpoint_last.pt", weights, 1000, 4.0)
    checkpoint(run, "checkpoint.best_loss_2.0001.pt", weights, 300, 2.0)
    checkpoint(run, "checkpoint.best_loss_1.0000.pt", weights, 400, 1.0)
    checkpoint(run, "checkpoint_avg.pt", weights, 7, 0.1)  # made by hand: not of the run
    checkpoint(run, "checkpoint_1_60.pt", weights, 60, None)
    checkpoint(run, "checkpoint_1_70.pt", weights, 70, float("nan"))
    return run


def names(paths):
    return [path.rsplit("/", 1)[1] for path in paths]


def test_last_checkpoints(run_folder):
    folder = str(run_folder)
    assert names(last_checkpoints(folder, 2, BY_EPOCH)) == ["checkpoint3.pt", "checkpoint10.pt"]
    assert names(last_checkpoints(folder, 2, BY_EPOCH, 3)) == ["checkpoint2.pt", "checkpoint3.pt"]
    updates = names(last_checkpoints(folder, 2, BY_UPDATE))
    assert updates == ["checkpoint_3_250.pt", "checkpoint_10_950.pt"]


def test_best_checkpoints_each_once(run_folder):
    found = best_checkpoints(str(run_folder), 4)
    losses = [read_checkpoint(path)["extra_state"]["val_loss"] for path in found]
    assert losses == [3.0, 2.5, 2.0, 1.0]
    fifth = names(best_checkpoints(str(run_folder), 5))[0]
    assert fifth in ("checkpoint10.pt", "checkpoint_last.pt")  # the later of equals
    assert len(best_checkpoints(str(run_folder), 8)) == 8
    with pytest.raises(AdminError, match="9 checkpoints were requested, but it has 8"):
        best_checkpoints(str(run_folder), 9)


def test_best_is_highest_where_the_run_says_so(tmp_path):
    for epoch, bleu in ((1, 20.0), (2, 30.0), (3, 25.0)):
        weights = {"w": torch.ones(1)}
        checkpoint(tmp_path, f"checkpoint{epoch}.pt", weights, epoch, bleu, maximize=True)
    found = names(best_checkpoints(str(tmp_path), 2))
    assert found == ["checkpoint3.pt", "checkpoint2.pt"]


def test_older_checkpoints_say_in_their_args_what_is_best(tmp_path):
    for epoch, bleu in ((1, 20.0), (2, 30.0)):
        path = checkpoint(tmp_path, f"checkpoint{epoch}.pt", {"w": torch.ones(1)}, epoch, bleu)
        args = Namespace(arch="transformer", maximize_best_checkpoint_metric=True)
        torch.save({**read_checkpoint(path), "args": args, "cfg": None}, path)
    assert names(best_checkpoints(str(tmp_path), 1)) == ["checkpoint2.pt"]


@pytest.mark.parametrize("option", ["encoder_attention_heads", "no_scale_embedding"])
def test_models_of_one_shape_and_different_functions_are_refused(option, tmp_path):
    paths = [checkpoint(tmp_path, f"{n}.pt", {"w": torch.ones(1)}, **{option: n}) for n in (2, 4)]
    with pytest.raises(AdminError, match=r"4.pt: not the model of .*2.pt"):
        average.average(paths)


def test_double_precision_is_summed_in_float64(tmp_path):
    weight = torch.full((2,), 1 / 3, dtype=torch.float64)
    found = average.average(several(tmp_path, {"w": weight}, {"w": weight}))["model"]["w"]
    assert torch.equal(found, weight)


def test_too_few_checkpoints_or_no_folder(run_folder, tmp_path):
    with pytest.raises(AdminError, match="5 checkpoints were requested, but it has 4"):
        last_checkpoints(str(run_folder), 5, BY_EPOCH)
    for choose in (best_checkpoints, last_checkpoints):
        extra = () if choose is best_checkpoints else (BY_EPOCH,)
        with pytest.raises(AdminError, match="not a folder of checkpoints"):
            choose(str(tmp_path / "none"), 1, *extra)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("optimizer_history", [None], "optimizer_history is not what fairseq stores there"),
        ("optimizer_history", [{"num_updates": "80"}], "its num_updates is '80'"),
        ("cfg", {"model": {"_name": "a"}, "checkpoint": Namespace(a=1)}, None),
    ],
)
def test_what_a_damaged_checkpoint_says_of_its_run(run_folder, key, value, told):
    path = checkpoint(run_folder, "checkpoint_1_80.pt", {"w": torch.ones(1)}, 80)
    torch.save({**read_checkpoint(path), key: value}, path)
    if told is None:
        assert best_checkpoints(str(run_folder), 2)
        return
    with pytest.raises(AdminError, match=f"checkpoint_1_80.pt: damaged checkpoint: {told}"):
        best_checkpoints(str(run_folder), 2)


def test_a_score_that_is_no_number_is_damage(run_folder):
    checkpoint(run_folder, "checkpoint_1_80.pt", {"w": torch.ones(1)}, 80, "not a number")
    with pytest.raises(AdminError, match=r"checkpoint_1_80.pt: damaged checkpoint: its val_loss"):
        best_checkpoints(str(run_folder), 2)
