"""What epochs change, from checkpoints written by hand."""

import pytest
import torch

from admin_fairseq.analysis.amplification import branch_matrices
from admin_fairseq.analysis.bench import Subject
from admin_fairseq.analysis.epochs import epoch_checkpoints, measured_epochs
from admin_fairseq.config import resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.studies.options import Depth

FC1 = "encoder.layers.0.fc1.weight"


@pytest.fixture
def run(bench, tmp_path):
    """A folder with the checkpoints of epochs 2, 9 and 10, each with more on every matrix."""
    specimen = bench.put(Subject(("admin_transformer_tiny",)), Depth(1, 1))
    for epoch in (2, 9, 10):
        save(specimen, tmp_path / f"checkpoint{epoch}.pt")
        with torch.no_grad():
            for number, weight in enumerate(branch_matrices(specimen.model).values(), 1):
                weight[0, 0] += 0.01 * number
    for other in ("checkpoint_last.pt", "checkpoint_3_40.pt", "checkpoint11.pt.tmp"):
        (tmp_path / other).write_bytes(b"not a checkpoint")
    return tmp_path


def save(specimen, path):
    options = vars(resolve(specimen.run.model))
    torch.save(
        {"args": None, "cfg": {"model": options}, "model": specimen.model.state_dict()}, path
    )


def test_updates_are_the_changes_until_the_next_checkpoint(run, bench):
    first, second = measured_epochs(epoch_checkpoints(str(run)), bench)
    assert (first.number, second.number) == (2, 9)
    expected = [0.01 * number for number in range(1, len(first.names) + 1)]
    assert first.updates == pytest.approx(expected, rel=1e-4)
    assert second.updates == pytest.approx(expected, rel=1e-4)
    assert FC1 in first.names and len(first.names) == 16  # 4 + 2, 8 + 2


def test_gradients_are_those_at_the_checkpoint_without_dropout(run, bench):
    epochs = measured_epochs(epoch_checkpoints(str(run)), bench)
    for epoch in epochs:
        specimen = bench.put(Subject(path=str(run / f"checkpoint{epoch.number}.pt")))
        specimen.loss().backward()
        weights = dict(specimen.model.named_parameters())
        expected = [weights[name].grad.norm().item() for name in epoch.names]
        assert epoch.gradients == pytest.approx(expected, rel=1e-5)
    assert epochs[0].gradients != epochs[1].gradients


def test_checkpoints_of_different_models_are_told_apart(run, bench):
    save(bench.put(Subject(("admin_transformer_tiny",)), Depth(2, 1)), run / "checkpoint9.pt")
    with pytest.raises(AdminError, match=r"checkpoint9\.pt: its layers are not those of"):
        measured_epochs(epoch_checkpoints(str(run)), bench)


def test_weights_beyond_a_norm_are_told_with_their_file(run, bench):
    state = torch.load(run / "checkpoint9.pt", weights_only=False)
    state["model"][FC1][0, 0] = 1e30
    torch.save(state, run / "checkpoint9.pt")
    with pytest.raises(AdminError, match=r"checkpoint9\.pt: "):
        measured_epochs(epoch_checkpoints(str(run)), bench)
