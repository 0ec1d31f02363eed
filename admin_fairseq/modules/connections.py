"""Connections between layers: what each of them reads, where it is not just the one before.

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
    row of W starts as the average; the last row makes the stack's output. Checked against the
    authors' code, which leaves the embeddings y_0 out of the norms, in the published runs too: the
    option that would norm them cannot be switched on. We keep to the equation.
    """

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        terms = range(1, layers + 2)
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in terms)
        self.weights = nn.ParameterList(torch.full((k,), 1 / k) for k in terms)

    def forward(self, history: list[Tensor], output: Tensor) -> Tensor:
        """The next layer's input (T x B x C), ``output`` being y_l.

        ``history`` holds LN_k(y_k) of all layers k < l; LN_l(y_l) is put to it.
        """
        layer = len(history)
        history.append(self.norms[layer](output))
        combined = history[0] * self.weights[layer][0]
        for term, weight in zip(history[1:], self.weights[layer][1:]):
            combined = torch.addcmul(combined, term, weight)
        return combined


class ConnectedLayers(nn.ModuleList):
    """Layers whose inputs ``connections`` makes from the outputs of all layers before.

    fairseq's stacks loop over their layers once in a forward pass, which is when a history begins;
    what they get from the loop is called like a layer. The state dict is that of the plain list;
    a slice of the layers is a plain list.
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
    if isinstance(output, tuple):  # a decoder layer's attention comes along
        return (combine(output[0]), *output[1:])
    return combine(output)
