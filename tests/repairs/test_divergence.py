"""How a training run ends whose gradients are not finite."""

import logging
import math
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq import trainer as fairseqs_trainer
from fairseq.trainer import Trainer
from torch import nn

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.divergence import Detector, Diverged, _ending_in_one_line

ADVISED = (
    "update 8: gradients are Nan/Inf: training has diverged; "
    "try a lower --lr, a longer warm-up or --clip-norm"
)
LINE = "-" * 80


def differing(first, second):
    """fairseq's message, with the norms of two workers."""
    return (
        "Fatal error: gradients are inconsistent between workers. Try --ddp-backend=legacy_ddp.\n"
        f"{LINE}\ngrad_norm across the workers:\nrank   0 = {first}\nrank   1 = {second}\n\n{LINE}"
    )


class Encoder(nn.Module):
    """Its output is like that of fairseq's encoders; the last layer's overflows."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
        with torch.no_grad():
            self.layers[1].weight.fill_(torch.finfo().max)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return {"encoder_out": [x], "encoder_states": []}


def test_the_first_modules_are_named(caplog):
    """fairseq's own detector raises StopIteration here."""
    encoder = Encoder()
    with caplog.at_level(logging.INFO), Detector(encoder):
        encoder(torch.full((1, 2), 10.0))["encoder_out"][0].sum().backward()
    forward, backward, count = (record.getMessage() for record in caplog.records)
    assert "detected in output of layers.1, shape: torch.Size([1, 2]), forward" in forward
    assert "detected in output of layers.0, shape: torch.Size([1, 2]), backward" in backward
    assert count == "gradients are not finite in 1 of 2 weights"
    assert not any(layer._forward_hooks for layer in encoder.modules())


class Odd(nn.Module):
    """Its outputs are nested, some without gradients, and one of its weights is not used."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = (nn.Parameter(torch.ones(2)) for _ in range(2))

    def forward(self, x):
        return ({"mask": x > 0, "pair": [x.detach(), (self.used * x,)]},)


def test_nested_outputs_are_watched(caplog):
    model = Odd()
    with caplog.at_level(logging.INFO), Detector(model):
        (found,) = model(torch.ones(2))
        (found["pair"][1][0] * math.inf).sum().backward()
    backward, count = (record.getMessage() for record in caplog.records)
    assert backward.startswith("Inf detected in output of ") and backward.endswith(", backward")
    assert count == "gradients are not finite in 1 of 1 weights"


def test_fairseq_uses_it():
    assert fairseqs_trainer.NanDetector is Detector
    step, files = Trainer.train_step, []
    while hasattr(step, "__wrapped__"):
        files.append(Path(step.__code__.co_filename).stem)
        step = step.__wrapped__
    assert files.index("run_log") < files.index("divergence")  # the log has the one line


def update_with(*errors):
    """Make the eighth update, which raises the last of ``errors``, each while handling the one
    before it."""

    def fail(trainer, before=errors[:-1], last=errors[-1]):
        if not before:
            raise last
        try:
            fail(trainer, before[:-1], before[-1])
        except Exception:
            raise last  # noqa: B904

    _ending_in_one_line(fail)(SimpleNamespace(get_num_updates=lambda: 7))


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("gradients are Nan/Inf", ADVISED),
        (differing("nan", "nan"), ADVISED),
        (differing("0.25000000", "-inf"), ADVISED),
        (
            differing("0.25000000", "0.50000000"),
            "update 8: Fatal error: gradients are inconsistent between workers. Try "
            "--ddp-backend=legacy_ddp. grad_norm across the workers: "
            "rank 0 = 0.25000000 rank 1 = 0.50000000",
        ),
        (
            "Minimum loss scale reached (0.0001). Your loss is probably exploding.",
            "update 8: Minimum loss scale reached (0.0001). Your loss is probably exploding.",
        ),
    ],
)
def test_the_line(said, line):
    with pytest.raises(AdminError) as ended:
        update_with(FloatingPointError(said))
    assert str(ended.value) == line and ended.value.__suppress_context__


FOUND = FloatingPointError("gradients are Nan/Inf")


@pytest.mark.parametrize(
    ("errors", "shown"),
    [
        ([FOUND, RuntimeError("the repeated update")], "training has diverged"),
        ([FOUND, KeyError("the repeated update"), RuntimeError("said otherwise")], "has diverged"),
        # a full disk, or analyses, which save nothing and name the model instead
        ([FOUND, AdminError("crash.pt: no space left")], "no space left"),
        ([RuntimeError("another fault")], "another fault"),
    ],
)
def test_the_reason_is_shown(errors, shown):
    with pytest.raises(type(errors[-1]) if shown in str(errors[-1]) else Diverged, match=shown):
        update_with(*errors)


def test_an_error_after_another_run_diverged_stays():
    """As in a search for a learning rate, which goes on after such a run."""
    try:
        raise Diverged("update 8: gradients are Nan/Inf")
    except FloatingPointError:
        with pytest.raises(RuntimeError, match="another fault"):
            update_with(RuntimeError("another fault"))


def test_it_is_still_a_floating_point_error():
    """For programs that catch fairseq's own, also from another process."""
    error = pickle.loads(pickle.dumps(Diverged("update 8: gradients are Nan/Inf")))
    assert isinstance(error, FloatingPointError) and "update 8" in error.line
