"""Hooks that record what passes through a transformer's residual connections.

They work on the plugin's layers and on fairseq's: both join a sub-layer's input x_{i-1} and its
residual branch a_i = f_i(x_{i-1}) in one place, the plugin's in a residual module, fairseq's in the
layer's method ``residual_connection``. The hooks change no result and are removed afterwards.

Shapes: T time, B batch, C channel; fairseq is time-first (T x B x C).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Iterator, Optional, Union

import torch
from fairseq.modules.transformer_layer import (
    TransformerDecoderLayerBase,
    TransformerEncoderLayerBase,
)
from torch import Tensor, nn

from admin_fairseq.errors import AdminError
from admin_fairseq.layers.transformer_layer import TransformerLayer
from admin_fairseq.layers.transformer_stack import on_reference_kernels
from admin_fairseq.modules.connections import LinearCombination
from admin_fairseq.schemes import LAYER_NORMS, Norm

Join = Callable[[Tensor, Tensor], Tensor]
"""A residual connection as a function: (input, branch) → their scaled sum."""

Layer = Union[TransformerEncoderLayerBase, TransformerDecoderLayerBase]
LAYER_CLASSES = {"encoder": TransformerEncoderLayerBase, "decoder": TransformerDecoderLayerBase}


@dataclass
class TracedSubLayer:
    """What one forward pass computed in one residual sub-layer; tensors are T x B x C.

    ``x`` and ``branch`` are the input and the residual branch, which ``join`` adds. If a layer norm
    follows the sum, ``summed`` is the norm's input and ``output`` its output; otherwise both are
    the sum.
    """

    name: str
    x: Tensor
    branch: Tensor
    summed: Tensor
    output: Tensor
    join: Join
    norm: Optional[nn.LayerNorm] = None  # the layer norm that follows the sum
    adds_bottom: bool = False  # whether the layer's input is added too (B2T)


@dataclass
class TracedStack:
    """What one forward pass computed in an encoder or decoder, as a list of its layers.

    A layer is a list of its sub-layers. With DLCL, whose ``connections`` combine layers' outputs,
    ``inputs`` holds the input of each connection; otherwise only the stack's input.
    """

    name: str
    inputs: list[Tensor] = field(default_factory=list)  # of the stack, or of its connections
    layers: list[list[TracedSubLayer]] = field(default_factory=list)
    connections: Optional[LinearCombination] = None  # of its layers (DLCL)

    @property
    def sublayers(self) -> list[TracedSubLayer]:
        """All sub-layers in the order in which they run, i = 1, 2, … in the papers."""
        return [sublayer for layer in self.layers for sublayer in layer]


def stacks_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the encoder and the decoder of ``model`` by name, each if it exists and has layers.

    Raises AdminError for a model whose layers are not those of a fairseq transformer.
    """
    stacks = ((name, getattr(model, name, None)) for name in LAYER_CLASSES)
    found = {name: stack for name, stack in stacks if stack is not None and layers_of(stack)}
    for name, stack in found.items():
        for layer in layers_of(stack):
            if not isinstance(layer, LAYER_CLASSES[name]):
                raise AdminError(
                    f"{type(model).__name__}: not a fairseq transformer: its {name} has a "
                    f"{type(layer).__name__}"
                )
    if not found:
        raise AdminError(f"{type(model).__name__}: not a fairseq transformer")
    return found


def layers_of(stack: nn.Module) -> list[Layer]:
    """Return the layers of ``stack`` themselves; iterating would wrap them in connections."""
    return list(getattr(stack, "layers", nn.ModuleList()).children())


@contextmanager
def traced(model: nn.Module) -> Iterator[dict[str, TracedStack]]:
    """Record the forward pass that runs inside the block, and yield where it is recorded.

    The yielded dictionary maps "encoder" and "decoder" to a TracedStack each. Tensors remain part
    of autograd's graph. Raises AdminError if ``model`` is not a fairseq transformer.
    """
    trace = {}
    with on_reference_kernels(model), ExitStack() as hooks:
        for name, stack in stacks_of(model).items():
            connections = getattr(stack, "connections", None)
            combining = connections if isinstance(connections, LinearCombination) else None
            trace[name] = TracedStack(name, connections=combining)
            _watch_stack(stack, trace[name], hooks)
        yield trace


def _watch_stack(stack: nn.Module, seen: TracedStack, hooks: ExitStack) -> None:
    """Add hooks that record in ``seen`` the next forward pass through ``stack``.

    Closing ``hooks`` removes them.
    """
    if seen.connections is not None:

        def note_inputs(module: nn.Module, inputs: tuple[list[Tensor], Tensor]) -> None:
            seen.inputs.append(inputs[1])

        handle = seen.connections.register_forward_pre_hook(note_inputs)
        hooks.callback(handle.remove)
    for layer in layers_of(stack):
        _watch_layer(layer, seen, hooks)


def _watch_layer(layer: Layer, seen: TracedStack, hooks: ExitStack) -> None:
    """Add hooks that record in ``seen`` the next forward pass through ``layer``.

    Closing ``hooks`` removes them.
    """

    def begin(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not seen.layers and seen.connections is None:
            seen.inputs.append(inputs[0])
        seen.layers.append([])

    hooks.callback(layer.register_forward_pre_hook(begin).remove)
    _watch_joins(layer, seen, hooks)
    for norm in _norms_after(layer):
        hooks.callback(norm.register_forward_hook(partial(_note_norm, seen)).remove)


def _watch_joins(layer: Layer, seen: TracedStack, hooks: ExitStack) -> None:
    """Add hooks that record in ``seen`` each sum of sub-layer input and residual branch.

    Closing ``hooks`` removes them. The plugin's layers get hooks on their residual modules; for
    fairseq's layers the method ``residual_connection`` is replaced.
    """
    names = [n for n in LAYER_NORMS if n == "ffn" or getattr(layer, n, None) is not None]
    b2t = isinstance(layer, TransformerLayer) and layer.norms["ffn"] is Norm.B2T

    def note(join: Join, x: Tensor, branch: Tensor, total: Tensor) -> None:
        done = seen.layers[-1]
        name = names[len(done)]
        done.append(
            TracedSubLayer(name, x, branch, total, total, join, adds_bottom=b2t and name == "ffn")
        )

    if isinstance(layer, TransformerLayer):

        def note_residual(residual: Join, inputs: tuple[Tensor, Tensor], total: Tensor) -> None:
            note(residual, *inputs, total)

        for residual in set(layer.residuals.values()):
            hooks.callback(residual.register_forward_hook(note_residual).remove)
        return
    original = layer.residual_connection

    def residual_connection(branch: Tensor, x: Tensor) -> Tensor:
        total = original(branch, x)
        note(torch.add, x, branch, total)
        return total

    layer.residual_connection = residual_connection
    hooks.callback(delattr, layer, "residual_connection")


def _norms_after(layer: Layer) -> list[nn.LayerNorm]:
    """Return the layer norms of ``layer`` that follow a sum of input and branch."""
    if isinstance(layer, TransformerLayer):
        norms = [layer.norms_around(name)[1] for name in layer.norms]
    else:
        names = [] if layer.normalize_before else LAYER_NORMS.values()
        norms = [getattr(layer, name, None) for name in names]
    return [norm for norm in norms if norm is not None]


def _note_norm(
    seen: TracedStack, norm: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor
) -> None:
    """Record the layer norm after the latest sub-layer in ``seen``, with its input and output."""
    sublayer = seen.layers[-1][-1]
    sublayer.summed, sublayer.output, sublayer.norm = inputs[0], output, norm
