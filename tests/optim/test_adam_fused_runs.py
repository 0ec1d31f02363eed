"""fairseq-train with --optimizer adam_fused, from and to checkpoints of fairseq's adam."""

import pytest
import torch


def train(run, data, folder, name, updates, *words):
    return run.train(
        *(data, folder, "--optimizer", name, "--weight-decay", "0.01", "--clip-norm", "0.5"),
        *("--encoder-layerdrop", "0.3", "--max-update", updates, *words),
        arch="postln_transformer_tiny",
    )


def losses(*logs):
    return [float(loss) for log in logs for loss in log.losses()]


def weights(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


@pytest.mark.slow
def test_takes_turns_with_fairseqs_adam(run, data, tmp_path):
    """Resumed without --reset-optimizer: from adam, and by adam (from itself: the test below)."""
    straight, turns = tmp_path / "straight", tmp_path / "turns"
    whole = train(run, data, straight, "adam", 10)
    stages = [("adam", 4), ("adam_fused", 7), ("adam", 10)]
    parts = [train(run, data, turns, name, until) for name, until in stages]
    assert [len(part.losses()) for part in parts] == [4, 3, 3]
    assert losses(*parts) == pytest.approx(losses(whole), abs=0.002)
    expected = weights(straight)
    for name, tensor in weights(turns).items():
        # a key's bias adds the same to all scores of a softmax: its gradient is rounding errors
        if not name.endswith("k_proj.bias"):
            assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-6), name


@pytest.mark.slow
def test_half_precision_goes_on_but_not_from_another_optimiser(run, data, tmp_path):
    """With half precision fairseq itself does not look whose state it loads."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    train(run, data, ours, "adam_fused", 2, "--bf16")
    assert len(train(run, data, ours, "adam_fused", 4, "--bf16").losses()) == 2
    train(run, data, other, "novograd", 1, "--bf16")
    words = ["--optimizer", "adam_fused", "--bf16", "--max-update", 2]
    failed = run.train(data, other, *words, arch="postln_transformer_tiny", status=1)
    line = failed.errors.strip().splitlines()[-1]
    assert line.startswith("admin-fairseq: error:") and "--reset-optimizer" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam_fused", "radam", "novograd"])
def test_memory_efficient_half_precision_resumes(name, run, data, tmp_path):
    whole = train(run, data, tmp_path / "whole", name, 6, "--memory-efficient-bf16")
    stages = [
        train(run, data, tmp_path / "parts", name, n, "--memory-efficient-bf16") for n in (3, 6)
    ]
    assert losses(*stages) == losses(whole)
    saved = torch.load(tmp_path / "whole" / "checkpoint_last.pt", weights_only=True)
    # fairseq saves float32
    assert all(torch.equal(t, t.bfloat16().float()) for t in saved["model"].values())
    moments = saved["last_optimizer_state"]["state"].values()
    assert {state["exp_avg"].dtype for state in moments} == {torch.float32}
