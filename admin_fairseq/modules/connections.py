"""Connections between layers, for a scheme where more than one tensor passes from layer to layer.

Shapes: T time, B batch, C channel; everything here is T x B x C, as fairseq's layers have it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Iterator

import torch
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from admin_fairseq.modules.norms import at_least_float32, layer_norm


class Connection(nn.Module):
    """Base class of connections, constructed as ``connection(layers, dim)`` with C = ``dim``."""

    def call(self, layer: nn.Module, kept: list, x: Tensor, *args: Any, **how: Any) -> Any:
        """Call ``layer`` on x (T x B x C) as fairseq's stack calls it, and return what it returns.

        ``kept`` holds what earlier layers of the same forward pass have left there; it is empty
        before the first layer.
        """
        raise NotImplementedError


class LinearCombination(Connection):
    """A layer's input as a learned combination of all earlier layers' outputs (DLCL).

    x_{l+1} = Σ_{k≤l} W_{l+1,k} LN_k(y_k), where y_0 are the embeddings and y_k is the output of
    layer k: the dynamic linear combination of layers (Wang et al. 2019, in its form for Pre-LN).
    Each row of W starts as the average; the last row gives the stack's output. Checked against the
    authors' code, which does not normalise the embeddings y_0, not even in the published runs: its
    option for that cannot be switched on. This class follows the equation.
    """

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        terms = range(1, layers + 2)
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in terms)
        self.weights = nn.ParameterList(torch.full((k,), 1 / k) for k in terms)

    def forward(self, history: list[Tensor], output: Tensor) -> Tensor:
        """Return the next layer's input (T x B x C), given this layer's ``output`` y_l.

        ``history`` is the list of LN_k(y_k) of all earlier layers k < l; LN_l(y_l) is appended to
        it.
        """
        layer = len(history)
        history.append(self.norms[layer](output))
        combined = history[0] * self.weights[layer][0]
        for term, weight in zip(history[1:], self.weights[layer][1:]):
            combined = torch.addcmul(combined, term, weight)
        return combined

    def call(self, layer: nn.Module, kept: list, x: Tensor, *args: Any, **how: Any) -> Any:
        """Call ``layer``; its output is combined with the earlier ones to the next layer's input.

        The first layer's input is the embeddings, passed through the combination too.
        """
        output = layer(x if kept else self(kept, x), *args, **how)
        if isinstance(output, tuple):  # a decoder layer returns its attention too
            return (self(kept, output[0]), *output[1:])
        return self(kept, output)


class DualStream(Connection):
    """A Post-LN stack with a second residual stream that is never normalised (ResiDual).

    r_0 = x_0 and r_i = r_{i-1} + f_i(x_{i-1}) beside Post-LN's x_i = LN(x_{i-1} + f_i(x_{i-1})).
    The stack returns α x_n + LN(r_n). Source: Xie et al. 2023, section 2.2; α, the norm's ε = 1e-7
    and the scale s are from the authors' code. s multiplies all r_i there, to keep them in
    float16's range. As layer norm is scale-invariant but for ε, this class divides ε by s² instead,
    and keeps r in float32.
    """

    def __init__(self, layers: int, dim: int, alpha: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.layers, self.alpha = layers, alpha
        self.norm = nn.LayerNorm(dim, eps=1e-7 / scale**2)

    def call(self, layer: nn.Module, kept: list, x: Tensor, *args: Any, **how: Any) -> Any:
        """Call ``layer``, which adds its branches to r; the last layer's output includes LN(r)."""
        done, stream = kept.pop() if kept else (0, at_least_float32(x))
        output = layer(x, *args, stream=stream, **how)
        x, stream = output[0], output[-1]
        kept.append((done + 1, stream))
        if done + 1 == self.layers:
            x = self.alpha * x + layer_norm(self.norm, stream)
        return (x, output[1], None) if len(output) == 3 else x  # of a decoder, its attention too


class ConnectedLayers(nn.ModuleList):
    """A list of layers that are called through ``connections``.

    fairseq's stacks iterate over their layers once per forward pass: each iteration yields
    functions that are called like layers and share what they keep. The state dict is that of an
    ordinary ModuleList; a slice is an ordinary ModuleList.
    """

    def __init__(self, layers: nn.ModuleList, connections: Connection) -> None:
        super().__init__(nn.ModuleList.__iter__(layers))
        self._connections = (connections,)  # in a tuple: the stack owns its parameters

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return nn.ModuleList(list(super().__iter__())[index])
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        kept: list = []
        for layer in super().__iter__():
            yield partial(self._connections[0].call, layer, kept)
