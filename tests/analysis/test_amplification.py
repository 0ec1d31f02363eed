import re

import pytest
import torch

from admin_fairseq.analysis.amplification import (
    branch_matrices,
    gradient_change,
    output_changes,
    random_change,
    stack_outputs,
)
from admin_fairseq.analysis.bench import Subject
from admin_fairseq.studies.options import Depth


@pytest.fixture(
    scope="module",
    params=[
        "admin_transformer_tiny",
        "transformer",
        "admin_transformer_lm_tiny",
        "admin_transformer_mlm_tiny",
    ],
)
def specimen(request, bench, lm_bench):
    chosen = lm_bench if "lm_tiny" in request.param else bench
    return chosen.put(Subject((request.param, "--dropout", "0.3")), Depth(2, 3))


def rms(tensor):
    return float(tensor.detach().square().mean().sqrt())


def weights(specimen):
    return {name: weight.clone() for name, weight in specimen.model.state_dict().items()}


@pytest.mark.parametrize("direction", ["random", "gradient"])
def test_a_change_is_of_the_same_size_relative_to_every_matrix(specimen, direction):
    if direction == "random":
        change = random_change(specimen, 0.01, seed=4)
    else:
        change = gradient_change(specimen, 0.01)
    matrices = branch_matrices(specimen.model)
    assert change.keys() == matrices.keys()
    for name, weight in matrices.items():
        assert rms(change[name]) == pytest.approx(0.01 * rms(weight), rel=1e-4), name


def test_the_matrices_are_those_of_the_layers_linear_maps(specimen):
    names = branch_matrices(specimen.model)
    parameters = dict(specimen.model.named_parameters())
    linear = r"\.(self_attn|encoder_attn)\.(q|k|v|out)_proj\.weight|\.fc[12]\.weight"
    assert set(names) == {n for n in parameters if ".layers." in n and re.search(linear, n)}
    assert all(names[name] is parameters[name] for name in names)


def test_the_model_is_as_before(specimen):
    before = weights(specimen)
    output_changes(specimen, random_change(specimen, 0.5, seed=1))
    assert all(torch.equal(before[name], weight) for name, weight in weights(specimen).items())
    assert all(p.grad is None for p in specimen.model.parameters())


def test_the_model_is_as_before_after_an_error(specimen, monkeypatch):
    before = weights(specimen)
    change = random_change(specimen, 0.5, seed=1)
    monkeypatch.setattr(specimen, "real", None)
    with pytest.raises(TypeError):
        output_changes(specimen, change)
    assert all(torch.equal(before[name], weight) for name, weight in weights(specimen).items())
    assert not any(module._forward_hooks for module in specimen.model.modules())


def test_the_weights_are_put_back_if_the_changed_model_fails(specimen, monkeypatch):
    before, real = weights(specimen), specimen.real
    stacks = len(specimen.depths)
    passes = iter([real] * stacks + [None])
    monkeypatch.setattr(specimen, "real", lambda stack: next(passes)(stack))
    with pytest.raises(TypeError):
        output_changes(specimen, random_change(specimen, 0.5, seed=1))
    assert all(torch.equal(before[name], weight) for name, weight in weights(specimen).items())


def test_draws_differ_by_their_seed_alone(specimen):
    one, same, other = (random_change(specimen, 0.01, seed) for seed in (1, 1, 2))
    for name in one:
        assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])


def test_changes_grow_with_the_square_of_a_small_size(specimen):
    small, twice = (
        output_changes(specimen, random_change(specimen, size, seed=1)) for size in (1e-4, 2e-4)
    )
    nothing = output_changes(specimen, {})
    for stack in small:
        assert twice[stack] == pytest.approx(4 * small[stack], rel=0.05)
        assert nothing[stack] == 0


def test_the_change_is_that_of_the_outputs(specimen):
    change = random_change(specimen, 0.1, seed=1)
    before, found = stack_outputs(specimen), output_changes(specimen, change)
    with torch.no_grad():
        for name, weight in branch_matrices(specimen.model).items():
            weight += change[name]
        after = stack_outputs(specimen)
        for name, weight in branch_matrices(specimen.model).items():
            weight -= change[name]
    for stack in before:
        squares = (after[stack] - before[stack]).square().sum() / before[stack].square().sum()
        assert found[stack] == pytest.approx(float(squares))
        assert len(before[stack]) == int(specimen.real(stack).sum())


def test_a_change_is_relative_to_the_output_before(bench):
    """Without a last layer norm outputs grow with the weights."""
    specimen = bench.put(Subject(("tfixup_transformer_tiny",)), Depth(2, 2))
    matrices = branch_matrices(specimen.model)
    before = stack_outputs(specimen)
    change = {name: weight.detach().clone() for name, weight in matrices.items()}
    found = output_changes(specimen, change)
    with torch.no_grad():
        for weight in matrices.values():
            weight *= 2
    for stack, after in stack_outputs(specimen).items():
        squares = (after - before[stack]).square().sum() / before[stack].square().sum()
        assert found[stack] == pytest.approx(float(squares))


def test_outputs_are_those_of_the_stacks(specimen):
    model, inputs = specimen.model, specimen.batch["net_input"]
    outputs = stack_outputs(specimen)
    with torch.no_grad():
        last = [*outputs][-1]
        features = model(**inputs, features_only=True)[0].transpose(0, 1)[specimen.real(last)]
        assert torch.equal(outputs[last], features.double())
        if "encoder" in outputs:
            encoded = model.encoder(inputs["src_tokens"], inputs["src_lengths"])["encoder_out"][0]
            assert torch.equal(outputs["encoder"], encoded[specimen.real("encoder")].double())


def test_a_step_goes_down_the_gradient(bench):
    specimen = bench.put(Subject(("preln_transformer_tiny",)), Depth(2, 2))
    before, change = float(specimen.loss()), gradient_change(specimen, 1e-3)
    with torch.no_grad():
        for name, weight in branch_matrices(specimen.model).items():
            weight += change[name]
    assert float(specimen.loss()) < before


def test_a_gradient_of_zero_moves_nothing(bench):
    specimen = bench.put(Subject(("rezero_transformer_tiny",)), Depth(2, 2))
    assert not any(step.any() for step in gradient_change(specimen, 1e-3).values())
