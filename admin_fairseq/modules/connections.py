"""Connections between layers: what a layer reads, if not just the output of the one before.

Shapes: T time, B batch, C channel; everything here is T x B x C, as fairseq's layers have it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterator

import torch
from fairseq.modules import LayerNorm
from torch import Tensor, nn


class LinearCombination(nn.Module):
    """x_{l+1} = Σ_{k≤l} W_{l+1,k} LN_k(y_k): y_0 the embeddings, y_k the output of layer k.

    DLCL, the dynamic linear combination of layers (Wang et al. 2019, in its form for Pre-LN). Each
    row of W starts as the average; the last row gives the stack's output. Checked against the
    authors' code, which does not normalise the embeddings y_0, not even in the published runs: its
    option for that cannot be switched on. We follow the equation.
    """

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        terms = range(1, layers + 2)
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in terms)
        self.weights = nn.ParameterList(torch.full((k,), 1 / k) for k in terms)

    def forward(self, history: list[Tensor], output: Tensor) -> Tensor:
        """The next layer's input (T x B x C), ``output`` being y_l.

        ``history`` holds LN_k(y_k) of all layers k < l; LN_l(y_l) is appended to it.
        """
        layer = len(history)
        history.append(self.norms[layer](output))
        combined = history[0] * self.weights[layer][0]
        for term, weight in zip(history[1:], self.weights[layer][1:]):
            combined = torch.addcmul(combined, term, weight)
        return combined


class ConnectedLayers(nn.ModuleList):
    """Layers whose inputs ``connections`` combines from the outputs of all earlier layers.

    fairseq's stacks iterate over their layers once per forward pass: each iteration starts a new
    history and yields functions that are called like layers. The state dict is that of the plain
    list; a slice is a plain list.
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
    output = layer(combine(x) if first else x, *args, **kwargs)
    if isinstance(output, tuple):  # a decoder layer returns its attention too
        return (combine(output[0]), *output[1:])
    return combine(output)
