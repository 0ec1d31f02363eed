"""Every scheme on a GPU that is not there: torch's fake tensors have a device, a shape and a dtype,
but no values, so that whatever reads one on the host raises an error.

What a model must know of a batch it has seen before the batch was moved (``see``). Left out is what
reads values by design: the choice of hypotheses in beam search.
"""

import ctypes
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
    unset_fake_temporarily,
)

from admin_fairseq.criterions.label_smoothed_cross_entropy_chunked import (
    LabelSmoothedCrossEntropyChunked,
)
from admin_fairseq.criterions.packed_loss import PackedLoss, Sides
from admin_fairseq.fast import attention
from admin_fairseq.fast import layout as layouts
from admin_fairseq.fast.layout import Layout
from admin_fairseq.fast.packed import Sizes, pack
from admin_fairseq.hooks.recorder import Recorder, residual_sites
from admin_fairseq.kernels import fused_residual, fused_softmax
from admin_fairseq.kernels.chunked_loss import ChunkedLoss
from admin_fairseq.modules import residual as residuals
from admin_fairseq.optim.adam_steps import AdamSteps
from admin_fairseq.schemes import SCHEMES

from .conftest import TORCH

pytestmark = pytest.mark.skipif(TORCH < (2, 2), reason="not tried with torch 2.1")
PRECISIONS = [torch.float32, torch.float16, torch.bfloat16]
CUDA, META = 1, 14  # numbers of torch's device types
KERNELS = ["fused_residual_triton.forward_kernel", "fused_residual_triton.backward_kernel"]
KERNELS += ["fused_softmax_triton.softmax_kernel"]
SIZES = {"encoder_layers": 1, "decoder_layers": 1, "share_all_embeddings": True}
# fairseq computes sinusoids on the host
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}


@pytest.fixture(scope="module")
def cuda():
    """Makes fake tensors on "cuda" possible with a torch that was built without it.

    Such a torch does not know how to select the device. As with the device "meta", nothing is to
    do.
    """
    if torch.backends.cuda.is_built():
        yield
        return
    library = ctypes.CDLL(str(Path(torch.__path__[0], "lib", "libc10.so")))
    guards = (ctypes.c_void_p * (META + 1)).in_dll(
        library, "_ZN3c104impl26device_guard_impl_registryE"
    )
    guards[CUDA] = guards[META]
    yield
    guards[CUDA] = None


@pytest.fixture
def launched(monkeypatch):
    """The kernels that are launched; they compute nothing."""
    names = []

    class Kernel:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            assert all(type(size) is int for size in grid)
            return lambda *args, **constants: names.append(self.name)

    for name in KERNELS:
        monkeypatch.setattr(f"admin_fairseq.kernels.{name}", Kernel(name.partition(".")[2]))
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
    return names


def choose(monkeypatch, kernels):
    for module in (fused_residual, fused_softmax):
        monkeypatch.setattr(module, "works", lambda *_: kernels)


TOKENS = torch.tensor([[1, 1, 4, 5, 6], [7, 8, 4, 5, 6], [7, 8, 9, 5, 6]])  # 1 is padding
INPUTS = {"src_tokens": TOKENS, "prev_output_tokens": TOKENS.flip(1)}
BATCH = {"net_input": INPUTS, "target": TOKENS.flip(1)}


@contextmanager
def fake(device):
    with FakeTensorMode() as mode, torch.device(device):
        yield mode


def seen(model, mode, device, monkeypatch):
    """The batch on the device, after the model has seen it on the host."""

    def moved(tensor, device):
        with mode:
            return torch.empty_like(mode.from_tensor(tensor), device=device)

    monkeypatch.setattr(layouts, "_moved", moved)
    inputs = {name: moved(tokens, device) for name, tokens in INPUTS.items()}
    batch = {"net_input": inputs, "target": moved(BATCH["target"], device), "ntokens": 13}
    with unset_fake_temporarily():
        model.note_layouts(BATCH, batch)
    inputs["src_lengths"] = torch.full((3,), 5)
    return batch


def built(build, dtype, **options):
    """A fake model; its parameters are replaced, as a fake one cannot change its dtype in place."""
    model, new = build(**SIZES, **LEARNED, **options), {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                cast = new.setdefault(parameter, torch.nn.Parameter(parameter.detach().to(dtype)))
                module._parameters[name] = cast
        for name, kept in module._buffers.items():
            if kept is not None and kept.is_floating_point():
                module._buffers[name] = kept.to(dtype)
    return model


def test_a_read_of_a_value_is_an_error(cuda):
    with fake("cuda"), pytest.raises(DataDependentOutputException):
        Layout.of(torch.zeros(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_forward_passes_read_nothing(scheme, dtype, cuda, launched, build, monkeypatch):
    monkeypatch.setattr(attention, "_has_flash_attention", lambda device: True)
    with fake("cuda") as mode:
        model = built(build, dtype, init_type=scheme).train()
        batch = seen(model, mode, "cuda", monkeypatch)
        for kernels in (False, True):
            assert not launched
            choose(monkeypatch, kernels)
            logits, extra = model(**batch["net_input"])
            assert logits.shape == (3, 5, 24) and logits.dtype == dtype and logits.is_cuda
            assert {state.dtype for state in extra["inner_states"]} == {dtype}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_backward_passes_read_nothing(scheme, dtype, launched, build, monkeypatch):
    """On a CPU, as torch's autograd wants a GPU for what is on one."""
    monkeypatch.setattr(residuals, "fuses", lambda x, branch: True)
    with fake("cpu") as mode:
        model = built(build, dtype, init_type=scheme).train()
        batch = seen(model, mode, "cpu", monkeypatch)
        model(**batch["net_input"])[0].float().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.shape == parameter.shape and parameter.grad.dtype == dtype, name
    assert launched.count("forward_kernel") == launched.count("backward_kernel")


@pytest.mark.parametrize("chunked", [True, False])
def test_losses_and_updates_read_nothing(chunked, launched, build, task, monkeypatch):
    kind = LabelSmoothedCrossEntropyChunked if chunked else LabelSmoothedCrossEntropyCriterion
    with fake("cpu") as mode:
        model = built(build, torch.bfloat16).train()
        batch = seen(model, mode, "cpu", monkeypatch)
        optimizer = AdamSteps(model.parameters())
        for _ in range(2):
            loss, _, _ = kind(task, False, 0.1)(model, batch)
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("dtype", PRECISIONS[1:])  # those that flash attention has
@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"])
def test_the_loss_of_packed_batches_reads_nothing(
    kernels, dtype, cuda, launched, build, monkeypatch
):
    choose(monkeypatch, kernels)
    with fake("cuda"):
        loss = PackedLoss(built(build, dtype).train(), ChunkedLoss(0.1, 16), padding=1)
        tokens = torch.randint(4, 20, (3, 5))
        sides = Sides(*Sizes.of(tokens.shape, tokens.shape))
        (source, _), (target, _) = (pack(tokens, 1, sizes) for sizes in sides)
        found = loss(sides, *source, *target, target.tokens)
    assert [value.shape for value in found] == [()] * 3
    assert found[0].dtype == torch.float32 and found[0].is_cuda
    assert ("softmax_kernel" in launched) is kernels


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_steps_of_decoding_read_nothing(dtype, cuda, build, monkeypatch):
    choose(monkeypatch, False)
    with fake("cuda"), torch.no_grad():
        decoder = built(build, dtype).eval().decoder
        memory = torch.zeros(7, 2, 64, dtype=dtype)
        state = {}
        for _ in range(3):
            x = torch.zeros(1, 2, 64, dtype=dtype)
            states, weights = decoder._states(
                *(x, memory, 0),
                incremental_state=state,
                layout=Layout(),
                memory_layout=Layout(),
            )
    assert states[-1].shape == (1, 2, 64) and states[-1].dtype == dtype and states[-1].is_cuda
    assert weights.shape[1:] == (2, 1, 7)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_profiling_pass_reads_moments_at_its_end(dtype, cuda, build, monkeypatch):
    """Of the encoder's layers, as fairseq's own stack reads whether there is padding."""
    read = []
    monkeypatch.setattr(Recorder, "_add", lambda self, measured: read.append(measured))
    with fake("cuda"), torch.no_grad():
        encoder = built(build, dtype, init_type="adaptive-auto").train().encoder
        recorder = Recorder(residual_sites(torch.nn.ModuleDict({"encoder": encoder})))
        with recorder.batch():
            encoder.layers[0](torch.zeros(5, 3, 64, dtype=dtype))
    (measured,) = read
    assert [(value.shape, value.dtype) for value in measured.values()] == [
        ((7,), torch.float64)
    ] * 2
    assert all(value.is_cuda for value in measured.values())
