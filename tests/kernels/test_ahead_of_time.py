"""Triton's kernels compile for the GPUs that are in use, though none is here."""

import json
import os
import subprocess
import sys

import pytest

from ..conftest import wants_more_than_torch_2_1
from ..integration.shims import ROOT

pytest.importorskip("triton", reason="Triton is not installed (torch's CUDA builds bring it)")
pytestmark = [pytest.mark.slow, wants_more_than_torch_2_1("today's Triton beside it")]
CAPABILITIES = [70, 80, 90, 100]
REGISTERS = 255  # of a thread, at most
SPILLED = 64
"""Bytes of a thread that may go to memory, as registers do not suffice (24 on sm_90)."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A dictionary for each kernel; by a process of its own, as Triton is interpreted in this."""
    knobs = pytest.importorskip("triton.knobs", reason="this Triton has no knobs")
    try:
        assert knobs.nvidia.ptxas.path and knobs.nvidia.ptxas_blackwell.path
    except RuntimeError as error:  # "Cannot find ptxas"
        pytest.skip(str(error))
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    words = [sys.executable, "-m", "tests.kernels.ahead_of_time", *map(str, CAPABILITIES)]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_kernel_compiles(capability, compiled):
    mine = [kernel for kernel in compiled if kernel["capability"] == capability]
    names = [kernel["kernel"] for kernel in mine]
    assert names == ["forward_kernel", "backward_kernel"] * 5 + ["softmax_kernel"] * 2
    for kernel in mine:
        assert kernel["registers"] <= REGISTERS and kernel["spilled"] <= SPILLED, kernel
