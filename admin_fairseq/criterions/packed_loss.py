"""The chunked loss of packed batches, replayed as CUDA graphs (--cuda-graphs).

Shapes: T time, B batch; the rows of ``fast/packed.py`` have N tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig
from torch import Tensor, nn

from admin_fairseq.bounds import spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.fast.attention import WIDEST_HEAD, fits_rows
from admin_fairseq.fast.graphs import Graphs
from admin_fairseq.fast.packed import Packed, Sizes, pack, placed
from admin_fairseq.kernels.chunked_loss import ChunkedLoss, Losses


class Sides(NamedTuple):
    """The sizes of a packed batch: what one recording is for."""

    source: Sizes
    target: Sizes


class PackedLoss(nn.Module):
    """Model and loss as one module, from tensors whose shapes follow from ``Sides``."""

    def __init__(self, model: BaseFairseqModel, loss: ChunkedLoss, padding: int) -> None:
        super().__init__()
        self.model, self.loss, self.padding = model, loss, padding

    def forward(self, sides: Sides, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Returns the fields of ``Losses``, summed."""
        *packed, target = tensors
        source, previous = Packed(*packed[:3]), Packed(*packed[3:])
        memory, layout = self.model.encoder.forward_packed(source, sides.source.longest)
        decoder = self.model.decoder
        features = decoder.forward_packed(previous, sides.target.longest, memory, layout)
        weight, bias = decoder.output_projection.weight, decoder.output_projection.bias
        counted = target.ne(self.padding)
        return tuple(self.loss(features, weight, bias, target, counted=counted))


class GraphedLoss:
    """``--cuda-graphs``: losses of one model, whose backward pass sets its gradients."""

    def __init__(self, model: BaseFairseqModel, loss: ChunkedLoss, padding: int) -> None:
        self.padding = padding
        self.graphs = Graphs(PackedLoss(model, loss, padding))

    def __call__(self, sample: dict[str, Any], target: Tensor) -> Losses:
        """Compute a batch's losses; ``target`` is B x T, with padding where there is no loss."""
        inputs = sample["net_input"]
        tokens = inputs["src_tokens"], inputs["prev_output_tokens"]
        sides = Sides(*Sizes.of(*(t.shape for t in tokens)))
        source, _ = pack(tokens[0], self.padding, sides.source)
        previous, slots = pack(tokens[1], self.padding, sides.target)
        row = placed(target, slots, sides.target, self.padding)
        return Losses(*self.graphs(sides, *source, *previous, row))


def check(model: BaseFairseqModel, run: DictConfig) -> None:
    """Raise AdminError at the start of ``run`` if its updates cannot be recorded."""
    reason = _obstacle(model, run)
    if reason is not None:
        raise AdminError(f"--cuda-graphs {reason}; leave it out")


def _obstacle(model: BaseFairseqModel, run: DictConfig) -> Optional[str]:
    cfg, common, workers = run.model, run.common, run.distributed_training
    if not hasattr(getattr(model, "encoder", None), "forward_packed"):
        return "needs an encoder-decoder model of this plugin"
    if common.cpu or not torch.cuda.is_available():
        return "needs a GPU"
    if torch.cuda.get_device_capability() < (8, 0):
        return "needs a GPU of compute capability 8.0 (Ampere) or above"
    if not (common.fp16 or common.bf16):
        return "needs --fp16 or --bf16"
    if workers.distributed_world_size > 1 and workers.ddp_backend not in AFTER_BACKWARD:
        return f"works on several GPUs with --ddp-backend {AFTER_BACKWARD[0]} alone"
    widths = {model.encoder.head_dim, model.decoder.head_dim}
    if not all(map(fits_rows, widths)):
        return (
            f"needs attention heads of a multiple of 8 channels, {WIDEST_HEAD} at most; "
            f"{', '.join(map(str, sorted(widths)))} found"
        )
    found = [spelled(name) for name in CHANGES_EACH_PASS if getattr(cfg, name, 0)]
    return f"does not work with {found[0]}" if found else None


AFTER_BACKWARD = ("legacy_ddp", "no_c10d")
"""Backends that add up the workers' gradients after the backward pass, not during it."""

CHANGES_EACH_PASS = (
    "reference_kernels",
    "compile",
    "checkpoint_activations",
    "offload_activations",
    "encoder_layerdrop",
    "decoder_layerdrop",
    "quant_noise_pq",
    "quant_noise_scalar",
)
"""Options under which a pass is not the same sequence of kernels on fixed memory every time."""
