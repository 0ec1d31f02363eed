"""What is around the recordings, which on a CPU run their function again (tests/conftest.py)."""

import pytest
import torch
from torch import nn

from admin_fairseq.fast import graphs
from admin_fairseq.fast.graphs import Graphs

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


class Loss(nn.Module):
    """Two scalars from a weight that is used twice, one that is not used and a frozen one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(3, 3)
        self.same = self.map
        self.unused = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.full((3,), 2.0), requires_grad=False)
        self.passes = 0

    def forward(self, power, x):
        self.passes += 1
        y = self.same(self.map(x)) * self.frozen
        return (y**power).sum(), y.detach().abs().max()


@pytest.fixture
def pair(request):
    if not CUDA:
        request.getfixturevalue("recordings")
    loss = Loss().to(DEVICE)
    return loss, Graphs(loss)


def inputs(rows=4, seed=1):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def expected(loss, *batches, above=1.0):
    loss.zero_grad()
    outputs = [loss(power, x) for power, x in batches]
    (above * sum(output[0] for output in outputs)).backward()
    gradients = {name: p.grad for name, p in loss.named_parameters()}
    loss.zero_grad()
    return outputs, gradients


def assert_gradients(loss, gradients):
    for name, parameter in loss.named_parameters():
        wanted = gradients[name]
        if not parameter.requires_grad:
            assert parameter.grad is None
        elif wanted is None:
            assert not parameter.grad.any()  # unused: zero, where autograd has none
        else:
            assert torch.allclose(parameter.grad, wanted, rtol=1e-5, atol=1e-6), name


def test_outputs_and_gradients_are_those_of_the_module(pair):
    loss, replayed = pair
    for seed in range(3):
        (wanted,), gradients = expected(loss, (2, inputs(seed=seed)), above=3.0)
        found = replayed(2, inputs(seed=seed))
        assert all(torch.allclose(a, b) for a, b in zip(found, wanted))
        assert found[0].requires_grad and not found[1].requires_grad
        (3.0 * found[0]).backward()
        assert_gradients(loss, gradients)
        loss.zero_grad()


def test_one_recording_serves_all_batches_of_a_key(pair):
    loss, replayed = pair
    for power, rows in ((2, 4), (2, 4), (4, 4), (2, 4)):
        replayed(power, inputs(rows))[0].backward()
    assert list(replayed.recordings) == [2, 4]
    if CUDA:  # elsewhere, each replay runs the module
        assert loss.passes == 2 * (graphs.WARM_UP + 1)


def test_gradients_of_several_batches_add_up(pair):
    loss, replayed = pair
    batches = [(2, inputs(seed=1)), (2, inputs(seed=2)), (4, inputs(seed=3))]
    _, gradients = expected(loss, *batches)
    for power, x in batches:
        replayed(power, x)[0].backward()
    assert_gradients(loss, gradients)


def test_recording_leaves_gradients_as_they_are(pair):
    loss, replayed = pair
    loss.map.weight.grad = torch.full_like(loss.map.weight, 7.0)
    replayed(2, inputs())
    assert loss.map.weight.grad.eq(7.0).all() and loss.map.bias.grad is None


def test_changed_weights_are_seen(pair):
    loss, replayed = pair
    replayed(2, inputs())
    with torch.no_grad():
        loss.map.weight.mul_(-3)
        loss.frozen.add_(1)
    (wanted,), gradients = expected(loss, (2, inputs()))
    found = replayed(2, inputs())
    assert torch.allclose(found[0], wanted[0])
    found[0].backward()
    assert_gradients(loss, gradients)


def test_outputs_outlive_the_next_replay(pair):
    _, replayed = pair
    first = replayed(2, inputs(seed=1))
    before = [output.clone() for output in first]
    replayed(2, inputs(seed=2))
    assert all(torch.equal(a, b) for a, b in zip(first, before))


@pytest.mark.skipif(not CUDA, reason="needs a GPU")
def test_recording_changes_no_later_dropout():
    class Noise(Loss):
        def forward(self, power, x):
            return super().forward(power, nn.functional.dropout(x, 0.5))

    found = []
    for _ in range(2):
        torch.manual_seed(3)
        replayed = Graphs(Noise().to(DEVICE))
        torch.manual_seed(3)
        outputs = [float(replayed(2, inputs())[0]) for _ in range(3)]
        torch.manual_seed(3)  # now without a recording
        found += [outputs, [float(replayed(2, inputs())[0]) for _ in range(3)]]
    assert len(set(found[0])) == 3 and all(other == found[0] for other in found)
