"""Kernels that do not work on a machine; on a CPU through Triton's interpreter
(tests/conftest.py)."""

import logging
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest
import torch

from admin_fairseq.kernels import chunked_loss, fused_residual, fused_softmax
from admin_fairseq.kernels.chunked_loss import ChunkedLoss
from admin_fairseq.kernels.trial import works
from admin_fairseq.modules import residual as residuals
from tests.conftest import wants_more_than_torch_2_1

build = pytest.importorskip("triton.runtime.build", reason="Triton is not installed")
pytestmark = wants_more_than_torch_2_1("today's Triton finds no interpreter beside it")

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
KERNELS = {
    "forward": "fused_residual_triton.forward_kernel",
    "backward": "fused_residual_triton.backward_kernel",
    "softmax": "fused_softmax_triton.softmax_kernel",
}


@pytest.fixture(autouse=True)
def no_verdicts(monkeypatch):
    """Nothing has been tried yet; a CPU passes for a GPU that Triton supports."""
    if DEVICE.type == "cpu":
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    works.cache_clear()
    yield
    works.cache_clear()


def residual_works(*dtypes):
    return works("residual connection", fused_residual.compared, DEVICE, *dtypes)


def softmax_works(dtype):
    return works("chunked loss", fused_softmax.compared, DEVICE, dtype)


class Launched:
    """In place of a kernel: ``launch(kernel, arguments, constants)`` at each launch."""

    def __init__(self, kernel, launch):
        self.kernel, self.launch = kernel, launch

    def __getitem__(self, grid):
        return lambda *args, **constants: self.launch(self.kernel[grid], args, constants)


def replace(monkeypatch, name, launch):
    path = f"admin_fairseq.kernels.{KERNELS[name]}"
    monkeypatch.setattr(path, Launched(resolve_name(path), launch))


def without_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return "RuntimeError: Failed to find C compiler"


def with_broken_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return "CalledProcessError"


def without_cache_folder(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "file"))
    return "NotADirectoryError"


BROKEN = [without_compiler, with_broken_compiler, without_cache_folder]


def compile_launcher(*_):
    """What Triton does first at a launch on a GPU: compile code of its own in C."""
    build.compile_module_from_src("int x;", "launcher")


def of_residual():
    """Output and gradients of a residual connection with layer norm."""
    torch.manual_seed(0)
    residual, norm = residuals.ScaledResidual(16).to(DEVICE), torch.nn.LayerNorm(16, device=DEVICE)
    x, branch = torch.randn(2, 3, 4, 16, device=DEVICE).requires_grad_().unbind(0)
    dropout = torch.nn.Dropout(0.0)
    dropout.apply_during_inference = False
    out = residual.norm(x, branch, norm, dropout)
    return [out, *torch.autograd.grad(out.square().sum(), (x, branch, residual.omega))]


def of_loss():
    """Chunked loss and its gradients."""
    torch.manual_seed(0)
    inputs = [torch.randn(n, 8, device=DEVICE).requires_grad_() for n in (6, 30)]
    found = ChunkedLoss(0.1, 4)(*inputs, None, torch.arange(6, device=DEVICE))
    return [found.loss, found.nll, *torch.autograd.grad(found.loss, inputs)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_kernels_pass_in_every_precision(dtype, caplog):
    assert residual_works(dtype, dtype) and softmax_works(dtype)
    assert residual_works(torch.float32, dtype)  # autocast
    assert not caplog.records


@pytest.mark.parametrize("broken", BROKEN)
def test_what_does_not_compile_is_computed_plainly(broken, monkeypatch, tmp_path, caplog):
    expected = of_residual(), of_loss()
    reason = broken(monkeypatch, tmp_path)
    for name in KERNELS:
        replace(monkeypatch, name, compile_launcher)
    monkeypatch.setattr(residuals, "fuses", lambda x, branch: residual_works(x.dtype, branch.dtype))
    monkeypatch.setattr(chunked_loss, "fuses", lambda logits: softmax_works(logits.dtype))
    for _ in range(2):  # the second time without a warning
        found = of_residual(), of_loss()
        for mine, theirs in zip(found, expected):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs))
    warned = [record.getMessage() for record in caplog.records]
    assert [w.partition(":")[0] for w in warned] == ["residual connection", "chunked loss"]
    assert all(reason in w and "\n" not in w and f"on {DEVICE} (float32)" in w for w in warned)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def multiplied(at, factor):
    """Launch as ever, then multiply one result, the argument number ``at`` (and a part of it)."""
    argument, *part = at if isinstance(at, tuple) else (at,)

    def launch(kernel, args, constants):
        kernel(*args, **constants)
        if args[argument] is not None:
            args[argument][tuple(part)].mul_(factor)

    return launch


@pytest.mark.parametrize(
    ("name", "at", "wrong"),
    [
        ("forward", 6, "output, norm of sum"),
        ("forward", 7, "sum"),
        ("backward", 8, "x, x of sum"),
        ("backward", 9, "branch, branch of sum"),
        ("backward", (10, 0), "omega"),
        ("backward", (10, 1), "weight, weight of sum"),
        ("backward", (10, 2), "bias, bias of sum"),
        ("softmax", 0, "gradient"),
        ("softmax", 3, "loss"),
        ("softmax", 4, "nll"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_wrong_numbers_are_told(name, at, wrong, dtype, monkeypatch, caplog):
    replace(monkeypatch, name, multiplied(at, 1.01))
    assert not (softmax_works(dtype) if name == "softmax" else residual_works(dtype, dtype))
    (record,) = caplog.records
    assert f"more slowly: wrong numbers ({wrong}" in record.getMessage()


def test_no_number_is_no_agreement(monkeypatch):
    replace(monkeypatch, "forward", multiplied(6, torch.nan))
    assert not residual_works(torch.float32, torch.float32)


def test_a_chip_that_triton_does_not_support(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert not softmax_works(torch.float16)
    assert "(6, 1)" in caplog.text


def test_a_trial_is_made_once_for_each_precision(monkeypatch):
    launched = []
    replace(monkeypatch, "softmax", lambda *_: launched.append(_))
    for dtype in (torch.float32, torch.float16, torch.float32):
        softmax_works(dtype)
    assert len(launched) == 2


def test_a_trial_depends_on_nothing_around_it_and_changes_nothing():
    before = torch.get_rng_state()
    hooks = torch.autograd.graph.saved_tensors_hooks(pytest.fail, pytest.fail)
    with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16), hooks:
        assert residual_works(torch.float32, torch.float32) and softmax_works(torch.float32)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("answer", [True, False])
def test_the_trial_decides(answer, monkeypatch):
    tried = []
    for module in (fused_residual, fused_softmax):
        monkeypatch.setattr(module, "works", lambda *given: tried.append(given) or answer)
    half, device = torch.float16, torch.device("cuda:1")
    x = SimpleNamespace(is_cuda=True, shape=(2, 8), dtype=half, device=device, stride=lambda dim: 1)
    assert fused_residual.fuses(x, x) is answer and fused_softmax.fuses(x) is answer
    assert [given[2:] for given in tried] == [(device, half, half), (device, half)]
