"""Compile the Triton kernels for GPUs that are not there, with the ptxas that Triton brings.

``python -m tests.kernels.ahead_of_time 90`` prints a line of JSON for each kernel, compiled for
compute capability 9.0; with ``--all`` for every width, precision and variant. Kernels and arguments
are those of a launch by the package, which is caught.
"""

import io
import json
import re
import sys
from contextlib import redirect_stdout
from itertools import product

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from admin_fairseq.kernels import fused_residual_triton, fused_softmax_triton
from admin_fairseq.kernels.fused_residual import residual_norm, sum_and_norm
from admin_fairseq.kernels.fused_softmax import softmax_losses

FULL, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16
TYPES = {FULL: "fp32", HALF: "fp16", BRAIN: "bf16", torch.int64: "i64", int: "i32", float: "fp32"}
ALIGNED = [["tt.divisibility", 16]]

# dtypes of x and branch, channels, whether there is an ω, dropout
RESIDUALS = [
    (FULL, FULL, 512, True, 0.1),
    (HALF, HALF, 1024, True, 0.1),
    (BRAIN, BRAIN, 512, False, 0.1),
    (FULL, BRAIN, 512, True, 0.0),
]
EVERY_RESIDUAL = [
    (*dtypes, *rest)
    for dtypes, *rest in product(
        [(FULL, FULL), (HALF, HALF), (BRAIN, BRAIN), (FULL, BRAIN), (FULL, HALF)],
        [64, 512, 1024, 8192],
        [True, False],
        [0.0, 0.1],
    )
]
# dtype of the logits, types, whether gradients are computed
LOSSES = [(HALF, 32768, True), (FULL, 10000, False)]
EVERY_LOSS = list(product([FULL, HALF, BRAIN], [100, 10000, 32768], [True, False]))


class Compiled:
    """In place of a kernel, compiles it for ``capability`` instead of launching it."""

    def __init__(self, kernel, capability):
        self.kernel, self.target = kernel, GPUTarget("cuda", capability, 32)

    def __getitem__(self, grid):
        return self

    def __call__(self, *args, num_warps, **constants):
        given = dict(zip(self.kernel.arg_names, args))
        types = {name: signature(given.get(name)) for name in self.kernel.arg_names}
        nothing = {name: None for name, value in given.items() if value is None}
        aligned = {(i,): ALIGNED for i, value in enumerate(args) if is_aligned(value)}
        source = ASTSource(self.kernel, types, constants | nothing, aligned)
        with redirect_stdout(io.StringIO()) as log:
            triton.compile(source, target=self.target, options={"num_warps": num_warps})
        told = {
            "kernel": self.kernel.__name__,
            "capability": self.target.arch,
            "types": " ".join(t for t in types.values() if t.startswith("*")),
            **constants,
            "registers": int(re.search(r"Used (\d+) registers", log.getvalue())[1]),
            "spilled": int(re.search(r"(\d+) bytes spill stores", log.getvalue())[1]),
        }
        print(json.dumps(told))


def signature(value):
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}"
    return TYPES.get(type(value), "constexpr")


def is_aligned(value):
    if isinstance(value, torch.Tensor):
        return value.data_ptr() % 16 == 0
    return type(value) is int and value % 16 == 0


def residual(of_x, of_branch, channels, scaled, dropout):
    x, branch = (torch.zeros(3, channels, dtype=d, requires_grad=True) for d in (of_x, of_branch))
    omega, weight, bias = torch.zeros(3, channels, dtype=of_x)
    out = residual_norm(x, branch, omega if scaled else None, weight, bias, 1e-5, dropout)
    out.backward(torch.zeros_like(out))
    if not scaled:
        outputs = sum_and_norm(x, branch, weight, bias, 1e-5, dropout)
        torch.autograd.backward(outputs, [torch.zeros_like(out) for out in outputs])


def loss(dtype, types, gradient):
    targets = torch.zeros(3, dtype=torch.int64)
    scales = torch.ones(3) if gradient else None
    softmax_losses(torch.zeros(3, types, dtype=dtype), targets, 0.1, scales)


def main(words):
    triton.knobs.nvidia.dump_ptxas_log = triton.knobs.compilation.always_compile = True
    whole = "--all" in words
    kernels = [
        (fused_residual_triton, "forward_kernel"),
        (fused_residual_triton, "backward_kernel"),
        (fused_softmax_triton, "softmax_kernel"),
    ]
    kernels = [(module, name, getattr(module, name)) for module, name in kernels]
    for capability in (int(word) for word in words if word != "--all"):
        for module, name, kernel in kernels:
            setattr(module, name, Compiled(kernel, capability))
        for case in EVERY_RESIDUAL if whole else RESIDUALS:
            residual(*case)
        for case in EVERY_LOSS if whole else LOSSES:
            loss(*case)


if __name__ == "__main__":
    main(sys.argv[1:])
