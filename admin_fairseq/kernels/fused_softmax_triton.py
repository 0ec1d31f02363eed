"""Triton kernel of ``fused_softmax``, imported only where it runs."""

import triton
import triton.language as tl


@triton.jit
def softmax_kernel(
    logits_of,
    target_of,
    scale_of,
    loss_of,
    nll_of,
    stride,
    types,
    spread,
    peak,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each program processes one row. ``spread`` is ε_i, ``peak`` 1 − ε − ε_i (chunked_loss.py)."""
    row = tl.program_id(0).to(tl.int64)
    x_of = logits_of + row * stride
    target = tl.load(target_of + row)
    own = tl.load(x_of + target).to(tl.float32)
    lanes = tl.arange(0, BLOCK)

    highest = tl.full((BLOCK,), float("-inf"), tl.float32)
    start = 0
    while start < types:
        x = tl.load(x_of + start + lanes, mask=start + lanes < types, other=float("-inf"))
        highest = tl.maximum(highest, x.to(tl.float32))
        start += BLOCK
    largest = tl.max(highest, axis=0)

    exps = tl.zeros((BLOCK,), tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    start = 0
    while start < types:
        inside = start + lanes < types
        x = tl.load(x_of + start + lanes, mask=inside, other=0.0).to(tl.float32) - largest
        exps += tl.where(inside, tl.exp(x), 0.0)
        sums += tl.where(inside, x, 0.0)
        start += BLOCK
    total = tl.sum(exps, axis=0)
    log_total = tl.log(total)
    nll = log_total - (own - largest)
    loss = peak * nll + spread * (types * log_total - tl.sum(sums, axis=0))
    tl.store(loss_of + row, loss)
    tl.store(nll_of + row, nll)

    if GRADIENT:
        scale = tl.load(scale_of + row)
        start = 0
        while start < types:
            at = start + lanes
            x = tl.load(x_of + at, mask=at < types, other=0.0).to(tl.float32) - largest
            gradient = tl.exp(x) * (scale / total) - scale * spread
            gradient -= tl.where(at == target, scale * peak, 0.0)
            tl.store(x_of + at, gradient.to(x_of.dtype.element_ty), mask=at < types)
            start += BLOCK
