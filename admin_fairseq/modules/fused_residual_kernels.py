"""Triton kernels of ``fused_residual``; imported where they run.

A row is one position's C channels. All arithmetic is float32. The dropout mask of a row comes from
Philox, a generator that counts (Salmon et al. 2011): position and seed give it again.
"""

import triton
import triton.language as tl


@triton.jit
def _joined(
    x_of, f_of, omega_of, seed_of, at, columns, inside, p, SCALES: tl.constexpr, DROPS: tl.constexpr
):
    """A row of x, of the kept branch's factor (0 or 1/(1 − p)), and of their sum."""
    x = tl.load(x_of + at, mask=inside, other=0.0).to(tl.float32)
    f = tl.load(f_of + at, mask=inside, other=0.0).to(tl.float32)
    factor = tl.full(f.shape, 1.0, tl.float32)
    if DROPS:
        factor = tl.where(tl.rand(tl.load(seed_of), at) >= p, 1.0 / (1.0 - p), 0.0)
    total = x
    if SCALES:
        total = x * tl.load(omega_of + columns, mask=inside, other=0.0).to(tl.float32)
    return x, factor, total + f * factor


@triton.jit
def forward_kernel(
    x_of,
    f_of,
    omega_of,
    weight_of,
    bias_of,
    seed_of,
    y_of,
    mean_of,
    rstd_of,
    channels,
    eps,
    p,
    SCALES: tl.constexpr,
    DROPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row a program."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < channels
    at = row * channels + columns
    _, _, total = _joined(x_of, f_of, omega_of, seed_of, at, columns, inside, p, SCALES, DROPS)
    mean = tl.sum(total, axis=0) / channels
    centred = tl.where(inside, total - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / channels + eps)
    weight = tl.load(weight_of + columns, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_of + columns, mask=inside, other=0.0).to(tl.float32)
    y = centred * rstd * weight + bias
    tl.store(y_of + at, y.to(y_of.dtype.element_ty), mask=inside)
    tl.store(mean_of + row, mean)
    tl.store(rstd_of + row, rstd)


@triton.jit
def backward_kernel(
    dy_of,
    x_of,
    f_of,
    omega_of,
    weight_of,
    seed_of,
    mean_of,
    rstd_of,
    dx_of,
    df_of,
    domega_of,
    dweight_of,
    dbias_of,
    rows,
    channels,
    programs,
    p,
    SCALES: tl.constexpr,
    DROPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every ``programs``-th row; what it adds up for ω and the norm is one row of theirs."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < channels
    weight = tl.load(weight_of + columns, mask=inside, other=0.0).to(tl.float32)
    domega = tl.zeros((BLOCK,), tl.float32)
    dweight = tl.zeros((BLOCK,), tl.float32)
    dbias = tl.zeros((BLOCK,), tl.float32)
    row = program
    while row < rows:
        at = row * channels + columns
        x, factor, total = _joined(
            x_of, f_of, omega_of, seed_of, at, columns, inside, p, SCALES, DROPS
        )
        dy = tl.load(dy_of + at, mask=inside, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_of + row)
        normed = tl.where(inside, (total - tl.load(mean_of + row)) * rstd, 0.0)
        inner = dy * weight
        along = tl.sum(inner * normed, axis=0) / channels
        mean = tl.sum(inner, axis=0) / channels
        dtotal = tl.where(inside, (inner - mean - normed * along) * rstd, 0.0)
        dx = dtotal
        if SCALES:
            dx = dtotal * tl.load(omega_of + columns, mask=inside, other=0.0).to(tl.float32)
            domega += dtotal * x
        tl.store(dx_of + at, dx.to(dx_of.dtype.element_ty), mask=inside)
        tl.store(df_of + at, (dtotal * factor).to(df_of.dtype.element_ty), mask=inside)
        dweight += dy * normed
        dbias += dy
        row += programs
    to = program * channels + columns
    tl.store(domega_of + to, domega, mask=inside)
    tl.store(dweight_of + to, dweight, mask=inside)
    tl.store(dbias_of + to, dbias, mask=inside)
