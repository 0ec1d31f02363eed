"""Connections between layers, for a scheme whose layers read more than the previous layer's output.

Shapes: T time, B batch, C channel; everything here is T x B x C, as fairseq's layers have it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterator

import torch
from fairseq.modules import LayerNorm
from torch import Tensor, nn


class LinearCombination(nn.Module):
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


class ConnectedLayers(nn.ModuleList):
    """A list of layers that feeds each layer a combination of all earlier layers' outputs.

    The module ``connections`` computes the combination. fairseq's stacks iterate over their layers
    once per forward pass: each iteration starts a new history and yields functions that are called
    like layers. The state dict is that of an ordinary ModuleList; a slice is an ordinary
    ModuleList.
    """

    def __init__(self, layers: nn.ModuleList, connections: nn.Module) -> None:
        super().__init__(nn.ModuleList.__iter__(layers))
        self._connections = (connections,)  # in a tuple: the stack owns its parameters

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return nn.ModuleList(list(super().__iter__())[index])
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        combine = partial(self._connections[0], [])
        for index, layer in enumerate(super().__iter__()):
            yield partial(_connected, layer, combine, index == 0)


def _connected(
    layer: nn.Module,
    combine: Callable[[Tensor], Tensor],
    first: bool,
    x: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call ``layer``; return its output combined with the earlier ones, the next layer's input.

    ``first`` marks the first layer, whose input is the embeddings passed through ``combine`` too.
    """
    output = layer(combine(x) if first else x, *args, **kwargs)
    if isinstance(output, tuple):  # a decoder layer returns its attention too
        return (combine(output[0]), *output[1:])
    return combine(output)
