"""A loss and its gradients as CUDA graphs: recorded once for each shape of a batch, then replayed.

The host of a small training step spends its time on launching kernels, one after the other; a graph
launches all of them at once. A replay reads and writes the same memory as the recording: inputs are
copied in, and what it computes is copied out.
"""

from __future__ import annotations

from typing import Any, Callable, Hashable, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from admin_fairseq.repairs.private import add_to_each, copy_to_each

WARM_UP = 2
"""Passes before a recording: in the first, kernels are compiled and workspaces allocated."""

Replay = Callable[[], None]


class Graphs:
    """Recordings of one module, which share their memory, as only one is in use at a time."""

    def __init__(self, loss: nn.Module) -> None:
        """``loss(key, *inputs)`` returns scalars, of which only the first is differentiated."""
        self.loss = loss
        self.parameters = [p for p in loss.parameters() if p.requires_grad]
        # Every place of each parameter, once: functional_call, which finds tied ones by itself,
        # leaves its tensors behind in a module that has two names.
        self.places = {
            f"{path}.{name}".lstrip("."): parameter
            for path, module in loss.named_modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        }
        self.gradients = [torch.zeros_like(p) for p in self.parameters]
        self.anchor = torch.zeros((), device=self.parameters[0].device, requires_grad=True)
        self.pool = new_pool()
        self.recordings: dict[Hashable, _Recording] = {}

    def __call__(self, key: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """``loss(key, *inputs)``. Inputs of equal keys have equal shapes and dtypes.

        The backward pass adds to the gradients of the parameters, as autograd does.
        """
        if key not in self.recordings:
            self.recordings[key] = _Recording(self, key, inputs)
        return _Replayed.apply(self.anchor, self.recordings[key], *inputs)


class _Recording:
    """Forward and backward passes for one key."""

    def __init__(self, graphs: Graphs, key: Hashable, inputs: Sequence[Tensor]) -> None:
        self.graphs, self.key = graphs, key
        self.inputs = [tensor.clone() for tensor in inputs]
        self.above = torch.ones((), device=graphs.anchor.device)
        self.outputs: Optional[list[Tensor]] = None
        self.results: tuple[Sequence[Tensor], list[Tensor]] = (), []
        earlier = [gradient.clone() for gradient in graphs.gradients]  # of the update's first batch
        with torch.enable_grad(), unchanged_randomness():
            on_another_stream(self._warm_up)
            self.forward = recorded(self._forward, graphs.pool)
            self.backward = recorded(self._backward, graphs.pool)
        copy_to_each(graphs.gradients, earlier)
        self.results = (), []  # lets the next recording use the memory of the activations

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self._forward()
            self._backward()
        self.results = (), []

    def _forward(self) -> None:
        # New tensors on the memory of the parameters: autograd lets gradients of the parameters
        # themselves wait for the stream on which these were first used, which is not recorded.
        weights = [p.detach().requires_grad_() for p in self.graphs.parameters]
        new = dict(zip(self.graphs.parameters, weights))
        named = {place: new[parameter] for place, parameter in self.graphs.places.items()}
        inputs = self.key, *self.inputs
        outputs = functional_call(self.graphs.loss, named, inputs, tie_weights=False)
        if self.outputs is None:
            self.outputs = [torch.empty_like(output) for output in outputs]
        copy_to_each(self.outputs, [output.detach() for output in outputs])
        self.results = outputs, weights

    def _backward(self) -> None:
        (loss, *_), weights = self.results
        found = torch.autograd.grad(loss, weights, self.above.to(loss), allow_unused=True)
        pairs = [(to, g) for to, g in zip(self.graphs.gradients, found) if g is not None]
        copy_to_each([to for to, _ in pairs], [g for _, g in pairs])

    def replay_forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for own, given in zip(self.inputs, inputs):
            own.copy_(given)
        self.forward()
        assert self.outputs is not None
        return tuple(output.clone() for output in self.outputs)

    def replay_backward(self, above: Tensor) -> None:
        """Add gradients to the parameters' own; ``above`` is the gradient of the first output."""
        parameters, gradients = self.graphs.parameters, self.graphs.gradients
        earlier = [(g, p.grad.clone()) for p, g in zip(parameters, gradients) if p.grad is not None]
        self.above.copy_(above)
        self.backward()
        if earlier:
            add_to_each([g for g, _ in earlier], [e for _, e in earlier], alpha=1.0)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, recording: _Recording, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.recording = recording
        outputs = recording.replay_forward(inputs)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, above: Tensor, *_: Any) -> tuple[None, ...]:
        ctx.recording.replay_backward(above)
        return (None, None, *(None for _ in ctx.recording.inputs))


def new_pool() -> Any:
    """Memory that recordings share."""
    return torch.cuda.graph_pool_handle()


def recorded(function: Callable[[], None], pool: Any) -> Replay:
    """Record what ``function`` launches; returns what launches it again."""
    graph = torch.cuda.CUDAGraph()
    # other threads, which load batches ahead, may use CUDA meanwhile
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        function()
    return graph.replay


def on_another_stream(function: Callable[[], None]) -> None:
    """Run ``function`` on a stream of its own, as torch asks for before a recording."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)


def unchanged_randomness() -> Any:
    """Restores torch's generators at the end, so that a recording changes no later dropout."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()])
