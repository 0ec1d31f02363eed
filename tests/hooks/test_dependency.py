import pytest
import torch
from torch import nn

from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.dependency import dependencies
from admin_fairseq.hooks.trace import TracedStack, TracedSubLayer, traced
from admin_fairseq.modules.residual import GatedResidual, ScaledResidual
from tests.hooks.test_trace import KINDS, PADDED, inputs_of, model_of

SIZES = [1.0, 0.4, 2.5, 0.9, 1.3, 0.2, 3.0]  # standard deviations of the input and the branches


def network(branches, omegas=None, normed=True):
    """A stack whose branches (the first: its input) read nothing; all tensors N x 1 x C."""
    x, rest = branches[0][:, None], branches[1:]
    stack = TracedStack("encoder", inputs=[x])
    for branch, omega in zip(rest, omegas or [1.0] * len(rest)):
        join = ScaledResidual(x.size(-1)).double()
        nn.init.constant_(join.omega, omega)
        with torch.no_grad():
            summed = join(x, branch[:, None])
        norm = nn.LayerNorm(x.size(-1)).double() if normed else None
        output = norm(summed).detach() if normed else summed
        stack.layers.append([TracedSubLayer("ffn", x, branch[:, None], summed, output, join, norm)])
        x = output
    return stack, torch.ones(x.shape[:2], dtype=torch.bool)


def branches(tokens, channels, orthogonal=False):
    torch.manual_seed(2)
    noise = torch.randn(tokens * channels, len(SIZES), dtype=torch.float64)
    if orthogonal:
        noise, _ = torch.linalg.qr(noise - noise.mean(0))
        noise = noise * (tokens * channels) ** 0.5
    return [size * n.view(tokens, channels) for size, n in zip(SIZES, noise.t())]


def closed_form(omegas=None, normed=True):
    """β of independent branches with standard deviations SIZES (Admin, sections 4.1 and 4.2)."""
    shares = [SIZES[0]]
    table = [[1.0]]
    for i, size in enumerate(SIZES[1:], 1):
        omega = omegas[i - 1] if omegas else 1.0
        shares = [omega * share for share in shares] + [size]
        total = sum(share**2 for share in shares) ** 0.5
        if normed:  # the layer norm makes the sum's deviation 1
            shares = [share / total for share in shares]
            total = 1.0
        table.append([share / total for share in shares])
    return torch.tensor([row + [0.0] * (len(SIZES) - len(row)) for row in table]).double()


GROWING = [1.0, 1.5, 2.0, 2.6, 3.1, 3.9]
NETWORKS = pytest.mark.parametrize(
    "form", [{}, {"omegas": GROWING}, {"normed": False}], ids=["Post-LN", "Admin", "Pre-LN"]
)


@NETWORKS
def test_independent_branches_follow_the_closed_form(form):
    beta = dependencies(*network(branches(100, 2048), **form))
    expected = closed_form(**form)
    there = expected > 0
    assert ((beta - expected)[there].abs() < 0.02 * expected[there]).all()
    assert (beta[~there] == 0).all()


@NETWORKS
def test_squares_of_a_row_sum_to_one(form):
    """Wide: layer norm takes each token's own deviation, which differs from all by O(1/C)."""
    beta = dependencies(*network(branches(32, 8192, orthogonal=True), **form))
    assert (beta.square().sum(1) - 1).abs().max() < 1e-3


def test_rezero_branches_count_as_their_gate_opens(task, batch):
    model = model_of("rezero", task).double()
    own = []
    for alpha in (0.0, 0.1, 0.5, 1.0):
        with torch.no_grad(), traced(model) as trace:
            gate = model.encoder.layers[1].residuals["ffn"].alpha
            gate.fill_(alpha)
            model(**batch)
        real = batch["src_tokens"].t().ne(task.source_dictionary.pad())
        own.append(float(dependencies(trace["encoder"], real)[4, 4]))
    assert own[0] == 0 and own == sorted(own)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_sum_to_the_output_of_every_scheme(kind, task, batch):
    """``dependencies`` refuses a sum that is not the output."""
    model = model_of(kind, task).double()
    with torch.no_grad(), traced(model) as trace:
        model(**inputs_of(kind, batch))
    pad = task.source_dictionary.pad()
    for stack, tokens in PADDED:
        if stack in trace:
            beta = dependencies(trace[stack], batch[tokens].t().ne(pad))
            assert len(beta) == len(trace[stack].sublayers) + 1
            assert (beta.tril() == beta).all() and (beta.diag() > 0).all()


@torch.no_grad()
def test_norms_weights_and_biases_act_on_every_part():
    torch.manual_seed(1)
    stack, real = network(branches(6, 8), GROWING)
    x = stack.inputs[0]
    parts, rest = [x[:, 0].clone()], torch.zeros(6, 8).double()
    expected = []
    for (sublayer,) in stack.layers:
        nn.init.normal_(sublayer.norm.weight, 1, 0.5)
        nn.init.normal_(sublayer.norm.bias)
        sublayer.summed = sublayer.join(x, sublayer.branch)
        x = sublayer.output = sublayer.norm(sublayer.summed)
        omega, gamma = sublayer.join.omega, sublayer.norm.weight
        for token in range(6):  # token by token, as it stands in the definition
            u = sublayer.summed[token, 0]
            sigma = ((u - u.mean()).square().mean() + sublayer.norm.eps).sqrt()
            for part in [*parts, rest]:
                old = omega * part[token]
                part[token] = gamma * (old - old.mean()) / sigma
        new = sublayer.branch[:, 0].clone()
        deviation = sublayer.summed[:, 0].var(-1, unbiased=False, keepdim=True)
        deviation = (deviation + sublayer.norm.eps).sqrt()
        parts.append(gamma * (new - new.mean(-1, keepdim=True)) / deviation)
        rest = rest + sublayer.norm.bias
        expected.append([float(part.std() / x.std()) for part in parts])
    beta = dependencies(stack, real)
    for row, found in zip(expected, beta[1:]):
        assert found[: len(row)].tolist() == pytest.approx(row)


def test_padding_does_not_count():
    stack, real = network(branches(50, 16))
    beta = dependencies(stack, real)
    for tensor in (stack.inputs[0], *(s.branch for s in stack.sublayers)):
        tensor[40:] = 1e6
    real[40:] = False
    shorter, _ = network([b[:40] for b in branches(50, 16)])
    assert torch.equal(dependencies(stack, real), dependencies(shorter, real[:40]))
    assert not torch.equal(dependencies(stack, real), beta)


def test_a_shut_branch_contributes_nothing():
    stack, real = network(branches(20, 16), normed=False)
    (last,) = stack.layers[-1]
    last.join = GatedResidual(16).double()
    last.output = last.x
    assert dependencies(stack, real)[-1, -1] == 0


@pytest.mark.parametrize("factor", [2.0, float("nan")])
def test_a_layer_that_is_no_sum_is_refused(factor):
    stack, real = network(branches(20, 16))
    stack.sublayers[2].output = factor * stack.sublayers[2].output
    with pytest.raises(AdminError, match="encoder layer 2 ffn: its output is not the sum"):
        dependencies(stack, real)
