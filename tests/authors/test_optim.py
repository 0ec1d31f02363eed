"""Our optimisers against the release's: three weights, step by step."""

import pytest
import torch

from admin_fairseq.optim.adam_steps import AdamSteps
from admin_fairseq.optim.novograd import NovoGrad
from admin_fairseq.optim.radam import RAdam

from . import numbers, subject


def runs(name):
    return [
        pytest.param(
            run["options"],
            run["weights"],
            id="betas {betas} wd {weight_decay}".format_map(run["options"]),
        )
        for run in numbers(name)["runs"]
    ]


def stepped(optimizer, options, prepare=lambda optimizer, weights: None):
    """The weights after every step."""
    weights = torch.nn.Parameter(subject.at_the_start())
    by = optimizer([weights], **{**options, "betas": tuple(options["betas"])})
    prepare(by, weights)
    found = []
    for step in range(1, subject.UPDATES + 1):
        weights.grad = subject.gradient(step)
        by.step()
        found.append(weights.detach().clone())
    return torch.stack(found)


def same(found, expected):
    return torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("options", "weights"), runs("adam"))
def test_adam(options, weights):
    assert same(stepped(AdamSteps, options), weights)


@pytest.mark.parametrize(("options", "weights"), runs("radam"))
def test_radam(options, weights):
    """Weight decay too, which the release has in every step, rectified or not."""
    assert same(stepped(RAdam, options), weights)


@pytest.mark.parametrize(("options", "weights"), runs("novograd"))
def test_novograd_that_starts_at_zero(options, weights):
    """The release's is ours, the paper's, with v = 0 before the first step.

    So its v is less by β2^t ‖g_1‖² in step t, and its first step longer, by 1/√(1 − β2).
    """

    def from_zero(optimizer, parameter):
        zero = torch.zeros((), dtype=torch.float64)
        optimizer.state[parameter] = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": zero}

    assert same(stepped(NovoGrad, options, from_zero), weights)
    first, theirs = stepped(NovoGrad, options)[0], torch.tensor(weights[0], dtype=torch.float64)
    decayed = subject.at_the_start() * (1 - options["lr"] * options["weight_decay"])
    longer = (1 - options["betas"][1]) ** -0.5
    assert torch.allclose(theirs - decayed, longer * (first - decayed), rtol=1e-6)
