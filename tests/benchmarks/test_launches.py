import os
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch

from admin_fairseq.benchmarks import pretended
from admin_fairseq.benchmarks.launches import Count
from admin_fairseq.benchmarks.pretended import STAND_INS

from ..conftest import wants_more_than_torch_2_1

pytest.importorskip("triton", reason="Triton is not installed (torch's CUDA builds bring it)")
from admin_fairseq.kernels import fused_residual_triton

pytestmark = wants_more_than_torch_2_1("today's Triton beside it")

ONE = ["--encoder-layers", "1", "--decoder-layers", "1", "--threads", "1"]
QUICK = ["--updates", "1", "--blocks", "2", "--warmup-updates", "1"]
PACKED = "--criterion label_smoothed_cross_entropy_chunked --optimizer adam_fused"


def test_operators_that_launch_a_kernel_and_those_whose_result_is_read():
    x = torch.ones(2, 3)
    with Count() as count:
        torch.empty(2)
        y = x.t().reshape(6)[0]  # a view, a copy, a view
        y.add_(1)
    assert (count.launches, count.waits) == (2, 0)
    with Count() as count:
        float(x.sum()), x[x > 0], x.nonzero()
    assert count.waits == 3


class Kernel:
    """In place of a kernel of Triton, which the interpreter would run (tests/conftest.py)."""

    def __getitem__(self, grid):
        return lambda *args, **constants: "launched"


@pytest.fixture
def kernels(monkeypatch):
    for name in pretended.KERNELS:
        monkeypatch.setattr(f"admin_fairseq.kernels.{name}", Kernel())


def test_the_fast_path_launches_less_and_stand_ins_are_gone_afterwards(command, capsys, kernels):
    before = {path: resolve_name(path) for path in STAND_INS}
    result = command("launches", *ONE, *QUICK, "--ours", PACKED)
    for phase in ("forward", "backward", "optimizer"):
        ours, stock = (result[side][phase] for side in ("ours", "stock"))
        assert 0 < ours["launches"] < stock["launches"]
        assert ours["waits"] == 0
    assert len(result["ratios"]["forward and backward"]["by_block"]) == 2
    assert "forward and backward: launches" in capsys.readouterr().out
    assert before == {path: resolve_name(path) for path in STAND_INS}


def test_recording_is_refused(command):
    with pytest.raises(SystemExit, match="--cuda-graphs needs a GPU, and this benchmark has none"):
        command("launches", *ONE, *QUICK, "--ours", f"{PACKED} --cuda-graphs")


def test_the_cache_of_made_up_launches_is_gone_afterwards(kernels):
    before = os.environ.get("TRITON_CACHE_DIR")
    with pretended.gpu():
        folder = Path(os.environ["TRITON_CACHE_DIR"])
        assert folder.is_dir()
    assert not folder.exists() and os.environ.get("TRITON_CACHE_DIR") == before


def test_kernels_of_triton_are_launches(kernels):
    with pretended.gpu() as counted:
        for _ in range(2):
            assert fused_residual_triton.forward_kernel[(1,)]() == "launched"
    assert counted.launched == 2
