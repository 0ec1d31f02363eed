import copy

import pytest
import torch
from torch import nn

from admin_fairseq.modules.connections import ConnectedLayers, LinearCombination


class Adds(nn.Module):
    """A layer x → x + n; as a decoder's, if asked, with company."""

    def __init__(self, n, company=False):
        super().__init__()
        self.n, self.company = n, company

    def forward(self, x, factor=1):
        out = x + factor * self.n
        return (out, "attention", None) if self.company else out


def run(layers, x, **options):
    for layer in layers:
        x = layer(x, **options)
    return x


@pytest.fixture
def stack():
    """Three layers, all weights of the connections random."""
    torch.manual_seed(0)
    connections = LinearCombination(3, 4).double()
    for parameter in connections.parameters():
        nn.init.normal_(parameter)
    return ConnectedLayers(nn.ModuleList([Adds(1.0), Adds(10.0), Adds(100.0)]), connections)


def by_hand(connections, x, steps):
    """The equation, term by term."""
    outputs, weights = [x], list(connections.weights)
    for row, step in enumerate([*steps, None]):
        terms = [connections.norms[k](y) for k, y in enumerate(outputs)]
        read = sum(w * term for w, term in zip(weights[row], terms))
        if step is None:
            return read
        outputs.append(read + step)


def test_every_layer_reads_all_before_it(stack):
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    expected = by_hand(stack._connections[0], x, [1.0, 10.0, 100.0])
    assert torch.allclose(run(stack, x), expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(
        run(stack, x, factor=2),
        by_hand(stack._connections[0], x, [2.0, 20.0, 200.0]),
        rtol=1e-12,
    )


def test_every_pass_begins_anew(stack):
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    assert torch.equal(run(stack, x), run(stack, x))
    broken_off = iter(stack)
    next(broken_off)(x)
    assert torch.equal(run(stack, x), run(stack, x))


def test_weights_start_as_the_average_and_all_learn():
    connections = LinearCombination(2, 4)
    found = [row.tolist() for row in connections.weights]
    assert found == [[1], [0.5, 0.5], [pytest.approx(1 / 3)] * 3]
    layers = ConnectedLayers(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]), connections)
    run(layers, torch.randn(5, 2, 4)).pow(3).sum().backward()
    for parameter in [*connections.parameters(), *layers.parameters()]:
        assert parameter.grad.any()


def test_what_comes_with_a_decoder_layers_output_is_kept(stack):
    alone = torch.randn(5, 2, 4, dtype=torch.float64)
    layers = ConnectedLayers(nn.ModuleList([Adds(1.0, company=True)]), LinearCombination(1, 4))
    for layer in layers:
        output, attention, state = layer(alone.float())
    assert (attention, state) == ("attention", None) and output.shape == alone.shape


def test_is_a_list_of_layers_to_everything_else(stack):
    assert len(stack) == 3
    assert stack[1].n == 10.0 and stack[-1].n == 100.0
    assert [layer.n for layer in stack[1:]] == [10.0, 100.0]
    assert [name for name, _ in stack.named_modules()] == ["", "0", "1", "2"]
    assert not stack.state_dict()


def test_a_copy_has_connections_of_its_own():
    owner = nn.Module()
    owner.connections = LinearCombination(1, 4)
    owner.layers = ConnectedLayers(nn.ModuleList([Adds(1.0)]), owner.connections)
    other = copy.deepcopy(owner)
    assert other.layers._connections[0] is other.connections
    assert other.connections is not owner.connections
