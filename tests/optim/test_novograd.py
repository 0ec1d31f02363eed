import copy
import math

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.fp16_optimizer import FP16Optimizer
from omegaconf import open_dict

from admin_fairseq.errors import AdminError
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.novograd import FairseqNovoGrad, NovoGrad

RECIPE = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1}


def weights():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2), (4,)]
    return [
        torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes
    ]


def gradients(steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in weights()]


def run(optimizer, parameters, steps):
    for step in steps:
        for p, gradient in zip(parameters, step):
            p.grad = gradient
        optimizer.step()


def test_is_registered():
    assert OPTIMIZER_REGISTRY["novograd"] is FairseqNovoGrad


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_the_paper(weight_decay):
    """By hand, on plain lists: one second moment for each tensor, no bias correction."""
    parameters = weights()
    expected = [p.detach().flatten().tolist() for p in parameters]
    moments = [([0.0] * len(w), None) for w in expected]
    optimizer = NovoGrad(parameters, **{**RECIPE, "weight_decay": weight_decay})
    for step in gradients(20):
        run(optimizer, parameters, [step])
        for i, gradient in enumerate(step):
            g, (m, v) = gradient.flatten().tolist(), moments[i]
            square = sum(x * x for x in g)
            v = square if v is None else 0.98 * v + 0.02 * square
            m = [
                0.9 * a + x / (math.sqrt(v) + 1e-8) + weight_decay * w
                for a, x, w in zip(m, g, expected[i])
            ]
            expected[i] = [w - 0.01 * a for w, a in zip(expected[i], m)]
            moments[i] = (m, v)
    for p, values in zip(parameters, expected):
        assert p.detach().flatten().tolist() == pytest.approx(values, rel=1e-10)


def test_state_is_saved_and_goes_on():
    straight, stopped = weights(), weights()
    first, second = NovoGrad(straight, **RECIPE), NovoGrad(stopped, **RECIPE)
    steps = list(gradients(6))
    run(first, straight, steps)
    run(second, stopped, steps[:3])
    resumed = NovoGrad(stopped, **{**RECIPE, "lr": 9.0})
    resumed.load_state_dict(copy.deepcopy(second.state_dict()))
    run(resumed, stopped, steps[3:])
    assert all(torch.equal(a, b) for a, b in zip(straight, stopped))


def test_parameters_without_a_gradient_stay():
    moving, still = weights()
    before = still.detach().clone()
    optimizer = NovoGrad([moving, still], **RECIPE)
    moving.grad = torch.ones_like(moving)
    optimizer.step()
    assert torch.equal(still, before)


def test_half_precision_that_would_mix_the_weights_is_refused(monkeypatch):
    """One tensor of all weights, as fairseq makes for adam, would have a single norm."""
    args = options.parse_args_and_arch(
        options.get_training_parser(), ["data", "--optimizer", "novograd", "--arch", "transformer"]
    )
    cfg = convert_namespace_to_omegaconf(args)
    with open_dict(cfg):
        cfg.common.fp16 = True
    # it makes the copy on a GPU
    flat = torch.nn.Parameter(torch.zeros(10))
    monkeypatch.setattr(FP16Optimizer, "build_fp32_params", lambda *args, **kwargs: flat)
    with pytest.raises(AdminError, match="--fp16-no-flatten-grads") as error:
        FP16Optimizer.build_optimizer(cfg, weights())
    assert "\n" not in str(error.value)


def test_options_of_the_command_line():
    config = AdamOptions(adam_betas="(0.95, 0.5)", adam_eps=1e-6, weight_decay=0.01, lr=[0.002])
    optimizer = FairseqNovoGrad(config, weights()).optimizer
    assert isinstance(optimizer, NovoGrad)
    group = {key: optimizer.param_groups[0][key] for key in RECIPE}
    assert group == {"lr": 0.002, "betas": (0.95, 0.5), "eps": 1e-6, "weight_decay": 0.01}
    with pytest.raises(AdminError, match="--adam-betas"):
        FairseqNovoGrad(AdamOptions(adam_betas="(1, 2)", lr=[0.1]), weights())
