"""Layer dependency: how much each residual branch contributes to each sub-layer's output.

The output of sub-layer i is a sum of the branches' contributions, x_i = Σ_{j≤i} c_{i,j} + const,
where j = 0 is the stack's input. β_{i,j} = Std[c_{i,j}] / Std[x_i] (Liu et al. 2020, sections 4.1
and 4.2, Figures 1, 7 and 8), over the channels of all tokens except padding.

The paper multiplies standard deviations from sub-layer to sub-layer, which is exact for independent
branches and layer norm without weights. Here each c_{i,j} is propagated through the network: with
the statistics of this pass fixed, layer norm is linear, and so are its weights, Admin's residual
scale ω, the branch scale α and the sums. const comes from layer norm's biases. For independent
branches Σ_j β_{i,j}² = 1; the difference from 1 measures their correlation.

Shapes: P parts (j), N tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.trace import TracedStack, TracedSubLayer
from admin_fairseq.modules.connections import LinearCombination

TOLERANCE = 1e-3
"""Largest error allowed in the sum of the parts, in standard deviations of the output."""


@dataclass
class Parts:
    """A tensor (N x C) split into a sum: ``parts`` (P x N x C), one per branch, and a constant.

    ``rest`` (N x C) is the constant, which belongs to no branch.
    """

    parts: Tensor
    rest: Tensor

    def __add__(self, other: Parts) -> Parts:
        """Return the sum of two tensors, part by part; ``other`` may have fewer parts than this
        one.
        """
        parts = self.parts.clone()
        parts[: len(other.parts)] += other.parts
        return Parts(parts, self.rest + other.rest)

    def scaled(self, factor: Tensor) -> Parts:
        """Return this sum with all parts, and the constant, multiplied by ``factor``."""
        return Parts(self.parts * factor, self.rest * factor)

    def joined(self, sublayer: TracedSubLayer, branch: Tensor) -> Parts:
        """Return the parts of a residual connection's output, given its input's parts.

        ``branch`` (N x C), the output of ``sublayer``'s residual branch, becomes the last part.
        """
        nothing = torch.zeros_like(branch)
        old = sublayer.join(self.parts, torch.zeros_like(self.parts))
        new = sublayer.join(nothing, branch)
        return Parts(torch.cat([old, new[None]]), sublayer.join(self.rest, nothing))

    def normed(self, norm: nn.LayerNorm, read: Tensor) -> Parts:
        """Return the parts of a layer norm's output, given its input's parts and the input itself.

        ``read`` (N x C) is the input, the sum of the parts. Its statistics are kept fixed, so that
        the layer norm is linear.
        """
        variance = read.var(-1, unbiased=False, keepdim=True)
        scale = norm.weight / (variance + norm.eps).sqrt()
        parts, rest = ((t - t.mean(-1, keepdim=True)) * scale for t in (self.parts, self.rest))
        return Parts(parts, rest + norm.bias)


@torch.no_grad()
def dependencies(stack: TracedStack, real: Tensor) -> Tensor:
    """Return β_{i,j}, the share of residual branch j in the output of sub-layer i, in ``stack``.

    i and j go from 0 (the stack's input) to the number of sub-layers; float64, 0 above the
    diagonal. ``real`` (T x B) is False on padding. Raises AdminError if a sub-layer's output is not
    the sum of its branches, as in a model that joins them in another way.
    """
    size = len(stack.sublayers) + 1
    beta = torch.zeros(size, size, dtype=torch.float64)
    beta[0, 0] = 1
    parts, row = _start(stack, real), 0
    connections = stack.connections
    history = []
    if connections is not None:
        history.append(_normed_input(connections, 0, stack.inputs[0][real], parts))
    for number, layer in enumerate(stack.layers):
        if connections is not None:
            parts = _combined(history, connections.weights[number])
        bottom = parts
        for sublayer in layer:
            row += 1
            parts = _through(sublayer, parts, bottom, real)
            _check(stack, number, sublayer, parts, sublayer.output[real])
            spread = sublayer.output[real].double().std()
            beta[row, : row + 1] = (_stds(parts.parts) / spread).cpu()
        if connections is not None:
            read = stack.inputs[number + 1][real]
            history.append(_normed_input(connections, number + 1, read, parts))
    return beta


def _start(stack: TracedStack, real: Tensor) -> Parts:
    """Return the stack's input as its only part; ``real`` (T x B) is False on padding."""
    x = stack.inputs[0][real]
    return Parts(x[None], torch.zeros_like(x))


def _through(sublayer: TracedSubLayer, parts: Parts, bottom: Parts, real: Tensor) -> Parts:
    """Return a sub-layer's output as a sum of contributions, one for each earlier branch.

    ``parts`` is that sum for the sub-layer's input, ``bottom`` for the layer's input, which B2T
    adds again. ``real`` (T x B) is False on padding.
    """
    parts = parts.joined(sublayer, sublayer.branch[real])
    if sublayer.adds_bottom:
        parts = parts + bottom
    return parts.normed(sublayer.norm, sublayer.summed[real]) if sublayer.norm else parts


def _normed_input(connections: LinearCombination, number: int, read: Tensor, parts: Parts) -> Parts:
    """Return the parts of LN_k(y_k) in ``LinearCombination``, k being ``number``.

    ``read`` (N x C) is y_k, the output of layer k (y_0: the embeddings), and ``parts`` its parts.
    """
    return parts.normed(cast(nn.LayerNorm, connections.norms[number]), read)


def _combined(history: list[Parts], weights: Tensor) -> Parts:
    """Return the next layer's input in parts: the weighted sum of all earlier layers' outputs."""
    total = history[-1].scaled(weights[-1])
    for parts, weight in zip(history[:-1], weights):
        total = total + parts.scaled(weight)
    return total


def _stds(parts: Tensor) -> Tensor:
    """Return the standard deviation of each part (P), in float64."""
    return torch.stack([part.double().std() for part in parts])


def _check(
    stack: TracedStack, layer: int, sublayer: TracedSubLayer, parts: Parts, output: Tensor
) -> None:
    """Raise AdminError if the parts do not sum to the sub-layer's true ``output`` (N x C)."""
    error = (parts.parts.sum(0) + parts.rest - output).abs().max() / output.std()
    if not error <= TOLERANCE:
        raise AdminError(
            f"{stack.name} layer {layer} {sublayer.name}: its output is not the sum of residual "
            f"branches (off by {error:.2g} standard deviations); analyze does not support this"
        )
