"""The Triton kernels of ``fused_residual``, imported only where they run.

A row is one position's C channels. All arithmetic is in float32. The dropout mask comes from
Philox, a counter-based generator (Salmon et al. 2011), so that position and seed reproduce it. A
draw gives four numbers and costs more than the rest of an element's work: with dropout, four rows
(``ROWS``, otherwise 1) are processed together, and each uses one of the numbers.
"""

import triton
import triton.language as tl


@triton.jit
def _kept(seed_of, at, p):
    """Draw which elements of four rows dropout keeps: one bit per row, the first row's lowest."""
    a, b, c, d = tl.rand4x(tl.load(seed_of), at)
    kept = (a >= p).to(tl.int32) + (b >= p).to(tl.int32) * 2
    return kept + (c >= p).to(tl.int32) * 4 + (d >= p).to(tl.int32) * 8


@triton.jit
def _joined(x_of, f_of, omega, at, inside, factor, SCALES: tl.constexpr):
    """Load a row of x and of the branch f; return the row of x, and ω ⊙ x + f · ``factor``."""
    x = tl.load(x_of + at, mask=inside, other=0.0).to(tl.float32)
    f = tl.load(f_of + at, mask=inside, other=0.0).to(tl.float32)
    total = x
    if SCALES:
        total = x * omega
    return x, total + f * factor


@triton.jit
def forward_kernel(
    x_of,
    f_of,
    omega_of,
    weight_of,
    bias_of,
    seed_of,
    y_of,
    total_of,
    moments_of,
    rows,
    channels,
    eps,
    p,
    scale,
    SCALES: tl.constexpr,
    DROPS: tl.constexpr,
    KEEPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute y and the moments of each row: mean and reciprocal deviation.

    Each program handles ``ROWS`` rows.
    """
    group = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < channels
    weight = tl.load(weight_of + columns, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_of + columns, mask=inside, other=0.0).to(tl.float32)
    omega = 1.0
    if SCALES:
        omega = tl.load(omega_of + columns, mask=inside, other=0.0).to(tl.float32)
    if DROPS:
        kept = _kept(seed_of, group * channels + columns, p)
    row = group * ROWS
    end = tl.minimum(row + ROWS, rows)
    while row < end:  # range() of a tensor fails in Triton's interpreter with numpy 2.4
        factor = 1.0
        if DROPS:
            factor = tl.where((kept & 1) == 1, scale, 0.0)
            kept = kept >> 1
        at = row * channels + columns
        _, total = _joined(x_of, f_of, omega, at, inside, factor, SCALES)
        if KEEPS:
            rounded = total.to(total_of.dtype.element_ty)
            tl.store(total_of + at, rounded, mask=inside)
            total = rounded.to(tl.float32)
        mean = tl.sum(total, axis=0) / channels
        centred = tl.where(inside, total - mean, 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / channels + eps)
        y = centred * rstd * weight + bias
        tl.store(y_of + at, y.to(y_of.dtype.element_ty), mask=inside)
        tl.store(moments_of + row, mean)
        tl.store(moments_of + rows + row, rstd)
        row += 1


@triton.jit
def backward_kernel(
    dy_of,
    dtotal_of,
    x_of,
    f_of,
    omega_of,
    weight_of,
    seed_of,
    moments_of,
    dx_of,
    df_of,
    sums_of,
    rows,
    channels,
    programs,
    p,
    scale,
    SCALES: tl.constexpr,
    DROPS: tl.constexpr,
    KEEPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute the gradients of x and f, and partial sums of those of ω, weight and bias.

    With ``KEEPS``, ``x_of`` holds the sum of x and f, with a gradient of its own in ``dtotal_of``.
    Each program processes every ``programs``-th of the forward kernel's groups of rows, and writes
    its partial sums as one row of three matrices.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < channels
    weight = tl.load(weight_of + columns, mask=inside, other=0.0).to(tl.float32)
    omega = 1.0
    if SCALES:
        omega = tl.load(omega_of + columns, mask=inside, other=0.0).to(tl.float32)
    domega = tl.zeros((BLOCK,), tl.float32)
    dweight = tl.zeros((BLOCK,), tl.float32)
    dbias = tl.zeros((BLOCK,), tl.float32)
    group = program
    while group * ROWS < rows:
        if DROPS:
            kept = _kept(seed_of, group * channels + columns, p)
        row = group * ROWS
        end = tl.minimum(row + ROWS, rows)
        while row < end:
            factor = 1.0
            if DROPS:
                factor = tl.where((kept & 1) == 1, scale, 0.0)
                kept = kept >> 1
            at = row * channels + columns
            if KEEPS:
                total = tl.load(x_of + at, mask=inside, other=0.0).to(tl.float32)
                x = total
            else:
                x, total = _joined(x_of, f_of, omega, at, inside, factor, SCALES)
            dy = tl.load(dy_of + at, mask=inside, other=0.0).to(tl.float32)
            rstd = tl.load(moments_of + rows + row)
            normed = tl.where(inside, (total - tl.load(moments_of + row)) * rstd, 0.0)
            inner = dy * weight
            along = tl.sum(inner * normed, axis=0) / channels
            mean = tl.sum(inner, axis=0) / channels
            dtotal = tl.where(inside, (inner - mean - normed * along) * rstd, 0.0)
            if KEEPS:
                dtotal += tl.load(dtotal_of + at, mask=inside, other=0.0).to(tl.float32)
            dx = dtotal
            if SCALES:
                dx = dtotal * omega
                domega += dtotal * x
            tl.store(dx_of + at, dx.to(dx_of.dtype.element_ty), mask=inside)
            tl.store(df_of + at, (dtotal * factor).to(df_of.dtype.element_ty), mask=inside)
            dweight += dy * normed
            dbias += dy
            row += 1
        group += programs
    to = sums_of + program * channels + columns
    tl.store(to, domega, mask=inside)
    tl.store(to + programs * channels, dweight, mask=inside)
    tl.store(to + 2 * programs * channels, dbias, mask=inside)
