"""Label-smoothed cross entropy from features, a chunk of tokens at a time.

The logits of all tokens are the largest matrix of a training step; here they never exist at once.
A chunk's logits are turned into their gradient in place, as soon as they are computed: the forward
pass computes the gradients, the backward pass multiplies them by the incoming gradient.

The loss of a token with logits x and target y (Szegedy et al. 2016, section 7,
https://arxiv.org/abs/1512.00567, in fairseq's form) is, with smoothing ε over V types,
ε_i = ε / (V − 1) and log p_v = x_v − log Σ exp x,

    −(1 − ε − ε_i) log p_y − ε_i Σ_v log p_v.

As ∂ log p_v / ∂x_u = [u = v] − p_u, its gradient is

    ((1 − ε − ε_i) + V ε_i) p_u − ε_i − (1 − ε − ε_i) [u = y],

where the factor before p_u is 1 − ε + (V − 1) ε_i = 1.

Shapes: N tokens, n tokens of a chunk, C channel, V types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from admin_fairseq.kernels.fused_softmax import fuses, softmax_losses

ALIGNMENT = 64  # bytes; CPU products are up to a third slower if rows are not aligned
CACHED = 2**20  # elements that stay in a CPU's cache through all steps of a softmax

Inputs = tuple[Tensor, Tensor, Optional[Tensor]]  # features, weight, bias
Gradients = tuple[Optional[Tensor], ...]  # one for each input; None if not wanted


class Losses(NamedTuple):
    """The loss of each of N tokens, or of all together, and what fairseq logs beside it."""

    loss: Tensor  # N, or their sum
    nll: Tensor  # −log p of the targets; N, or their sum
    correct: Tensor  # number of targets with the largest logit; 0 if not counted


@dataclass(frozen=True)
class ChunkedLoss:
    """Label-smoothed cross entropy with options; call it with features, output weights and targets.

    Softmax, losses and sums of gradients are float32, or float64 for float64 features.
    """

    smoothing: float = 0.0  # ε
    chunk_tokens: int = 1024
    product_dtype: Optional[torch.dtype] = None  # of the matrix products; None: that of features
    count_correct: bool = False

    def __call__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        target: Tensor,
        reduce: bool = True,
        counted: Optional[Tensor] = None,
    ) -> Losses:
        """Compute the losses of features (N x C) whose logits are features · weightᵀ + bias.

        weight: V x C, bias: V or None, target: N. ``reduce`` sums over the N tokens. ``counted``
        (N, booleans) says which tokens have a loss; None: all. Only ``loss`` of the result has a
        gradient, and no second derivative.
        """
        inputs = features, weight, bias
        if not torch.is_grad_enabled():  # which a Function cannot see
            return _summed(_sweep(self, inputs, target, counted)[0], reduce)
        return Losses(*_Loss.apply(*inputs, target, counted, self, reduce))


class _Loss(torch.autograd.Function):
    """The chunked loss as an autograd function.

    With ``reduce`` its forward pass computes the gradients. Without, each token has its own
    incoming gradient, so that the backward pass computes them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        target: Tensor,
        counted: Optional[Tensor],
        options: ChunkedLoss,
        reduce: bool,
    ) -> tuple[Tensor, ...]:
        inputs = features, weight, bias
        ctx.options, ctx.reduce = options, reduce
        if reduce:
            losses, gradients = _sweep(options, inputs, target, counted, ctx.needs_input_grad[:3])
            ctx.save_for_backward(*gradients)
        else:  # each token has its own incoming gradient, so that sums must wait for it
            losses, _ = _sweep(options, inputs, target, counted)
            ctx.save_for_backward(*inputs, target, counted)
        losses = _summed(losses, reduce)
        ctx.mark_non_differentiable(losses.nll, losses.correct)
        return tuple(losses)

    @staticmethod
    def backward(ctx: Any, above: Tensor, *_: Any) -> tuple[Optional[Tensor], ...]:
        if torch.is_grad_enabled():  # once_differentiable allows this, with wrong results
            raise RuntimeError("the chunked loss has no second derivatives (create_graph)")
        if ctx.reduce:
            gradients = tuple(None if g is None else g * above for g in ctx.saved_tensors)
        else:
            *inputs, target, counted = ctx.saved_tensors
            wanted = ctx.needs_input_grad[:3]
            _, gradients = _sweep(ctx.options, inputs, target, counted, wanted, above)
        return (*gradients, None, None, None, None)  # autograd casts them to the inputs' dtypes


def _summed(losses: Losses, reduce: bool) -> Losses:
    """Sum the losses over all tokens, if ``reduce`` is set."""
    return Losses(losses.loss.sum(), losses.nll.sum(), losses.correct) if reduce else losses


def _sweep(
    options: ChunkedLoss,
    inputs: Inputs,
    target: Tensor,
    counted: Optional[Tensor] = None,
    wanted: tuple[bool, ...] = (False, False, False),
    factors: Optional[Tensor] = None,
) -> tuple[Losses, Gradients]:
    """Compute each token's loss and the ``wanted`` gradients of the losses' sum, chunk by chunk.

    ``wanted`` has a flag each for features, weight and bias. ``factors`` (N) are the weights of the
    tokens in the sum; None: 1. Tokens that are not ``counted`` (N) have neither loss nor gradient.
    """
    features = inputs[0]
    rows = _slices(len(features), options.chunk_tokens)
    products = _Products(inputs, options, rows)
    gradients = _Sums(products, wanted, counted, factors)
    losses = products.features.new_empty((2, len(features)), dtype=products.exact)
    correct = target.new_zeros(())
    for chunk in rows:
        logits, targets = products.project(chunk), target[chunk, None]
        scales = gradients.scales(chunk) if any(wanted) else None
        if products.fused:
            found = softmax_losses(logits, target[chunk], options.smoothing, scales)
            losses[:, chunk] = found
            gradients.add(chunk, logits)
            continue
        if options.count_correct:
            hits = logits.argmax(1, keepdim=True).eq(targets)
            correct += (hits if counted is None else hits & counted[chunk, None]).sum()
        for part in _slices(len(logits), _at_once(logits)):
            softmax = _Softmax(logits[part], targets[part], options.smoothing)
            losses[:, chunk][:, part] = torch.stack(softmax.losses())
            if scales is not None:
                softmax.turn_into_gradient(scales[part, None])
        gradients.add(chunk, logits)
    if counted is not None:
        losses = losses.masked_fill_(~counted, 0)
    return Losses(losses[0], losses[1], correct), gradients.finish()


class _Softmax:
    """Softmax of logits (n x V), computed in the logits' memory; its losses and their gradient."""

    def __init__(self, logits: Tensor, targets: Tensor, smoothing: float) -> None:
        """Subtract each row's maximum from ``logits``, exponentiate in place; targets: n x 1."""
        self.types = logits.shape[1]
        self.spread = smoothing / (self.types - 1) if smoothing else 0.0  # ε_i
        self.peak = 1 - smoothing - self.spread
        self.targets = targets
        logits.sub_(logits.amax(1, keepdim=True))
        self.own = logits.gather(1, targets)
        self.sum = logits.sum(1, keepdim=True) if smoothing else 0.0
        self.exp = logits.exp_()
        self.total = self.exp.sum(1, keepdim=True)

    def losses(self) -> tuple[Tensor, Tensor]:
        """Return the loss and −log p of each target, n values each."""
        log_total = self.total.log()
        nll = log_total - self.own
        loss = self.peak * nll + self.spread * (self.types * log_total - self.sum)
        return loss.squeeze(1), nll.squeeze(1)

    def turn_into_gradient(self, scales: Tensor) -> None:
        """Overwrite the logits' memory with the losses' gradients, each times its scale (n x 1)."""
        gradient = self.exp.mul_(scales / self.total)
        if self.spread:
            gradient.sub_(scales * self.spread)
        gradient.scatter_add_(1, self.targets, -self.peak * scales)


class _Products:
    """The matrix products of features and weight, by chunks, in memory that all chunks share."""

    def __init__(self, inputs: Inputs, options: ChunkedLoss, rows: list[slice]) -> None:
        features, weight, self.bias = inputs
        dtype = options.product_dtype or features.dtype
        self.features, self.weight = features.to(dtype), weight.to(dtype)
        self.exact = torch.promote_types(features.dtype, torch.float32)
        size = max((chunk.stop - chunk.start for chunk in rows), default=0), len(weight)
        self.raw = _aligned(size, dtype, features.device)
        self.fused = fuses(self.raw) and self.bias is None and not options.count_correct
        plain = not self.fused and dtype != self.exact
        self.logits = _aligned(size, self.exact, features.device) if plain else self.raw

    def project(self, chunk: slice) -> Tensor:
        """Compute the logits of one chunk, n x V, in the shared memory."""
        features = self.features[chunk]
        logits, raw = self.logits[: len(features)], self.raw[: len(features)]
        torch.mm(features, self.weight.t(), out=raw)
        if raw.dtype != logits.dtype:
            logits.copy_(raw)
        return logits if self.bias is None else logits.add_(self.bias)

    def operand(self, logits: Tensor) -> Tensor:
        """Return ``logits`` (n x V) in the dtype of the matrix products."""
        if self.raw.dtype == logits.dtype:
            return logits
        return self.raw[: len(logits)].copy_(logits)


class _Sums:
    """The wanted gradients (of features, weight and bias), accumulated chunk by chunk."""

    def __init__(
        self,
        products: _Products,
        wanted: tuple[bool, ...],
        counted: Optional[Tensor],
        factors: Optional[Tensor],
    ) -> None:
        self.products, self.counted, self.factors = products, counted, factors
        shapes = products.features.shape, products.weight.shape, products.weight.shape[:1]
        self.features, self.weight, self.bias = (
            self._zeros(shape) if want else None for shape, want in zip(shapes, wanted)
        )
        self.scale = 1.0
        if products.raw.dtype == torch.float16 and factors is None:
            # keeps small values above float16's rounding, with room for sums over a chunk
            self.scale = 2.0 ** (13 - len(products.raw).bit_length())

    def _zeros(self, shape: torch.Size) -> Tensor:
        return self.products.raw.new_zeros(shape, dtype=self.products.exact)

    def scales(self, chunk: slice) -> Tensor:
        """Return the factors (n) by which the gradients of one chunk's losses are multiplied."""
        scales = self._zeros(self.products.features[chunk].shape[:1]) + self.scale
        for factor in (self.factors, self.counted):
            if factor is not None:
                scales = scales * factor[chunk]
        return scales

    def add(self, chunk: slice, gradient: Tensor) -> None:
        """Add one chunk's part; ``gradient`` (n x V) is that of its logits, times ``scales``."""
        if self.bias is not None:
            self.bias.add_(gradient.sum(0))
        if self.features is None and self.weight is None:
            return
        operand = self.products.operand(gradient)
        if self.features is not None:
            _multiply(operand, self.products.weight, self.features[chunk])
        if self.weight is not None:
            _add_product(operand.t(), self.products.features[chunk], self.weight)

    def finish(self) -> Gradients:
        """Return the gradients of features, weight and bias, unscaled; None where not wanted."""
        found = self.features, self.weight, self.bias
        if self.scale != 1:
            for gradient in found:
                if gradient is not None:
                    gradient.div_(self.scale)
        return found


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write left · right to ``out``; both factors may have a lower precision than ``out``."""
    if left.dtype == out.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


def _add_product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Add left · right to ``out``; both factors may have a lower precision than ``out``."""
    if left.dtype == out.dtype:
        out.addmm_(left, right)
        return
    for part in _slices(len(out), _at_once(out)):
        out[part].add_(left[part] @ right)


def _aligned(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate a matrix whose rows start at multiples of ``ALIGNMENT`` bytes."""
    rows, columns = size
    step = ALIGNMENT // torch.finfo(dtype).bits * 8
    return torch.empty(rows, -(-columns // step) * step, dtype=dtype, device=device)[:, :columns]


def _at_once(matrix: Tensor) -> int:
    """Return how many rows to process together.

    On a CPU they are as many as fit in its cache; on a GPU all, since more launches cost time.
    """
    on_cpu = matrix.device.type == "cpu"
    return max(1, CACHED // matrix.shape[1]) if on_cpu else max(1, len(matrix))


def _slices(length: int, most: int) -> list[slice]:
    """Split ``length`` into the fewest slices of at most ``most``, of about equal length."""
    count = -(-length // most)
    ends = [length * i // count for i in range(count + 1)] if count else [0]
    return [slice(*pair) for pair in zip(ends, ends[1:])]
