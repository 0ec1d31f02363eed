import copy
import math

import pytest
import torch

from admin_fairseq.errors import AdminError
from admin_fairseq.optim.adam_fused import FairseqAdamFused
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.novograd import FairseqNovoGrad
from admin_fairseq.optim.radam import FairseqRAdam, RAdam

BETAS = [(0.9, 0.98), (0.9, 0.999), (0.5, 0.9), (0.0, 0.95)]
OPTIONS = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.01}


class Reference:
    """The release's RAdam of one number, in float64 and by hand."""

    def __init__(self, value, lr, betas, weight_decay, eps=1e-8):
        self.value, self.lr, self.weight_decay, self.eps = value, lr, weight_decay, eps
        self.beta1, self.beta2 = betas
        self.t, self.m, self.v = 0, 0.0, 0.0

    def step(self, gradient):
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * gradient
        self.v = self.beta2 * self.v + (1 - self.beta2) * gradient**2
        power = self.beta2**self.t
        longest = 2 / (1 - self.beta2) - 1
        length = longest - 2 * self.t * power / (1 - power)
        self.value -= self.weight_decay * self.lr * self.value
        if length < 5:
            return
        rectified = (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2)
        size = self.lr * math.sqrt((1 - power) * rectified) / (1 - self.beta1**self.t)
        self.value -= size * self.m / (math.sqrt(self.v) + self.eps)


def weight(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step(optimizer, parameter, gradient):
    parameter.grad = gradient
    optimizer.step()


def gradients(steps, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weight_decay", [0.0, 0.0001, 0.1])
@pytest.mark.parametrize("betas", BETAS)
def test_steps_are_those_of_the_release(betas, weight_decay):
    start = [0.5, -2.0, 3.0, 0.0]
    parameter = weight(*start)
    optimizer = RAdam([parameter], lr=0.01, betas=betas, weight_decay=weight_decay)
    references = [Reference(value, 0.01, betas, weight_decay) for value in start]
    for gradient in gradients(60, len(start)):
        step(optimizer, parameter, gradient)
        for reference, g in zip(references, gradient.tolist()):
            reference.step(g)
        expected = [reference.value for reference in references]
        assert parameter.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert parameter.tolist() != start


@pytest.mark.parametrize(("beta2", "held"), [(0.98, 5), (0.999, 5)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_weights_only_decay_before_the_first_rectified_step(beta2, held, weight_decay):
    parameter = weight(1.0)
    optimizer = RAdam([parameter], lr=0.01, betas=(0.9, beta2), weight_decay=weight_decay)
    values = []
    for gradient in gradients(held + 1, 1):
        step(optimizer, parameter, gradient)
        values.append(parameter.item())
    decayed = [(1 - 0.01 * weight_decay) ** t for t in range(1, held + 2)]
    assert values[:held] == pytest.approx(decayed[:held], rel=1e-12)
    assert values[held] != pytest.approx(decayed[held], rel=1e-6)


def test_zero_gradients_while_waiting_need_no_epsilon():
    parameter = weight(1.0)
    optimizer = RAdam([parameter], lr=0.01, betas=(0.9, 0.98), eps=0.0)
    for _ in range(5):
        step(optimizer, parameter, torch.zeros(1, dtype=torch.float64))
    assert parameter.item() == 1.0


def test_goes_on_from_a_checkpoint_that_counts_in_tensors():
    """As torch's own RAdam does, and ours did."""
    whole = weight(1.0, -1.0)
    optimizer = RAdam([whole], **OPTIONS)
    for gradient in gradients(20, 2):
        step(optimizer, whole, gradient)
    resumed = copy.deepcopy(whole)
    other = RAdam([resumed], **OPTIONS)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["step"] = torch.tensor(20.0)
    saved["param_groups"][0].update(foreach=None, maximize=False, capturable=False)
    other.load_state_dict(saved)
    for gradient in gradients(20, 2, seed=1):
        step(optimizer, whole, gradient)
        step(other, resumed, gradient)
        assert torch.equal(whole, resumed)


def test_follows_a_changing_learning_rate():
    parameter, reference = weight(1.0), Reference(1.0, 0.0, (0.9, 0.98), 0.01)
    optimizer = RAdam([parameter], lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    for t, gradient in enumerate(gradients(20, 1)):
        optimizer.param_groups[0]["lr"] = reference.lr = 0.01 / (t + 1)
        step(optimizer, parameter, gradient)
        reference.step(gradient.item())
    assert parameter.item() == pytest.approx(reference.value, rel=1e-10)


@pytest.mark.parametrize("cut", [3, 20])  # before and after the first rectified step
def test_saved_and_loaded_it_continues_the_same(cut):
    whole = weight(1.0, -1.0)
    optimizer = RAdam([whole], **OPTIONS)
    for gradient in gradients(40, 2)[:cut]:
        step(optimizer, whole, gradient)
    resumed = copy.deepcopy(whole)
    other = RAdam([resumed], **OPTIONS)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for gradient in gradients(40, 2)[cut:]:
        step(optimizer, whole, gradient)
        step(other, resumed, gradient)
        assert torch.equal(whole, resumed)


def test_groups_keep_their_options():
    first, second = weight(1.0), weight(2.0)
    groups = [
        {"params": [first], "lr": 0.1, "weight_decay": 0.2},
        {"params": [second], "lr": 0.3, "weight_decay": 0.0},
    ]
    optimizer = RAdam(groups, betas=(0.9, 0.98))
    for gradient in gradients(10, 1):
        first.grad = second.grad = gradient
        optimizer.step()
        given = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        assert given == [(0.1, 0.2), (0.3, 0.0)]


def test_groups_keep_their_options_when_a_step_fails():
    parameter = weight(1.0)
    optimizer = RAdam([parameter], lr=0.1, weight_decay=0.2)

    def closure():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        optimizer.step(closure)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.param_groups[0]["weight_decay"] == 0.2


def test_parameters_without_a_gradient_stay():
    moving, still = weight(1.0), weight(1.0)
    optimizer = RAdam([moving, still], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for gradient in gradients(10, 1):
        step(optimizer, moving, gradient)
    assert moving.item() != 1.0
    assert still.item() == 1.0


def test_parameter_that_joins_late_counts_its_own_steps():
    """As with LayerDrop, where a dropped layer has no gradient in an update."""
    early, late = weight(1.0), weight(1.0)
    optimizer = RAdam([early, late], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    reference = Reference(1.0, 0.01, (0.9, 0.98), 0.1)
    for t, gradient in enumerate(gradients(20, 1)):
        early.grad = gradient
        if t >= 3:
            late.grad = gradient
            reference.step(gradient.item())
        optimizer.step()
        assert late.item() == pytest.approx(reference.value, rel=1e-10), f"update {t + 1}"


def test_closure_is_a_gradient_like_any_other():
    given, computed = weight(1.0), weight(1.0)
    options = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1}
    by_gradient, by_closure = RAdam([given], **options), RAdam([computed], **options)
    for gradient in gradients(20, 1):
        step(by_gradient, given, gradient)

        def closure(gradient=gradient):
            by_closure.zero_grad()
            with torch.enable_grad():
                loss = computed @ gradient
            loss.backward()
            return loss

        by_closure.zero_grad()
        by_closure.step(closure)
    assert given.item() != 1.0
    assert computed.item() == pytest.approx(given.item(), rel=1e-10)


def test_options_of_the_command_line():
    config = AdamOptions(adam_betas="(0.8, 0.9)", adam_eps=1e-6, weight_decay=0.01, lr=[0.002])
    optimizer = FairseqRAdam(config, [weight(1.0)])
    assert isinstance(optimizer.optimizer, RAdam)
    group = optimizer.optimizer.param_groups[0]
    assert {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 0.002,
        "betas": (0.8, 0.9),
        "eps": 1e-6,
        "weight_decay": 0.01,
    }


@pytest.mark.parametrize(
    "betas",
    [
        *("", "0.9", "(0.9,)", "(0.9, 0.98, 0.99)", "(0.9, 1)", "(-0.1, 0.9)", "adam", "(a, b)"),
        *("(", "(" * 500, 1, [0.9, float("nan")], "('0.9', '0.98')", "(True, 0.9)"),
    ],
)
def test_bad_betas_are_told_in_one_line(betas):
    with pytest.raises(AdminError, match="--adam-betas") as error:
        FairseqRAdam(AdamOptions(adam_betas=betas, lr=[0.1]), [weight(1.0)])
    assert len(str(error.value).splitlines()) == 1


def test_betas_with_which_it_would_never_make_a_step_are_refused():
    for beta2 in (0.0, 0.6, 2 / 3):
        with pytest.raises(AdminError, match=r"--adam-betas: .* must be above 2/3"):
            FairseqRAdam(AdamOptions(adam_betas=(0.9, beta2), lr=[0.1]), [weight(1.0)])
    parameter = weight(1.0)
    optimizer = RAdam([parameter], lr=0.1, betas=(0.9, 0.67))
    for _ in range(50):
        step(optimizer, parameter, torch.ones(1, dtype=torch.float64))
    assert parameter.item() != 1.0


@pytest.mark.parametrize("optimizer", [FairseqRAdam, FairseqAdamFused, FairseqNovoGrad])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("adam_eps", float("nan")), ("adam_eps", -1.0), ("adam_eps", float("inf"))),
        *(("weight_decay", float("nan")), ("weight_decay", -1.0)),
        *(("lr", []), ("lr", [-1.0]), ("lr", [float("nan")]), ("lr", [0.1, float("inf")])),
    ],
)
def test_numbers_that_no_optimiser_can_use_are_named(optimizer, option, value):
    options = {"lr": [0.1], option: value}
    with pytest.raises(AdminError, match=f"--{option.replace('_', '-')} takes a number from 0 on"):
        optimizer(AdamOptions(**options), [weight(1.0)])
