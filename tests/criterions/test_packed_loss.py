"""--cuda-graphs: the loss of packed batches, and what cannot be recorded."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.data import data_utils
from omegaconf import OmegaConf

from admin_fairseq.criterions import packed_loss
from admin_fairseq.criterions.label_smoothed_cross_entropy_chunked import (
    LabelSmoothedCrossEntropyChunked,
)
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES

pytestmark = pytest.mark.usefixtures("recordings")


def batch_of(dictionary, sources, targets, seed=0, left=True):
    """As fairseq's translation task collates it: sources are padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    symbols = len(dictionary) - dictionary.nspecial

    def sentence(length):
        words = torch.randint(symbols, (length - 1,), generator=generator) + dictionary.nspecial
        return torch.cat([words, torch.tensor([dictionary.eos()])])

    source, target = ([sentence(n) for n in lengths] for lengths in (sources, targets))

    def collated(values, left_pad=False, move=False):
        symbols = dictionary.pad(), dictionary.eos()
        return data_utils.collate_tokens(values, *symbols, left_pad, move_eos_to_beginning=move)

    return {
        "net_input": {
            "src_tokens": collated(source, left),
            "src_lengths": torch.tensor(sources),
            "prev_output_tokens": collated(target, move=True),
        },
        "target": collated(target),
        "ntokens": sum(targets),
    }


def results(model, criterion, samples):
    model.zero_grad()
    logged = []
    for sample in samples:
        loss, size, found = criterion(model, sample)
        loss.backward()
        found = {name: float(value) for name, value in found.items()}
        logged.append({"backward": float(loss), "size": size, **found})
    return logged, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


BATCHES = [([6, 2, 4], [7, 3, 1]), ([3, 9], [8, 2]), ([5, 5], [4, 4]), ([1, 6, 5], [7, 6, 2])]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_losses_and_gradients_are_those_of_batches(build, task, scheme):
    """The batches of an update, in every scheme; float64, no dropout."""
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    model = build("admin_transformer_tiny", init_type=scheme, **sizes).double().train()
    samples = [batch_of(task.source_dictionary, *b, seed=i) for i, b in enumerate(BATCHES)]
    options = {"label_smoothing": 0.1, "ignore_prefix_size": 1, "report_accuracy": True}
    plain = LabelSmoothedCrossEntropyChunked(task, False, **options)
    replayed = LabelSmoothedCrossEntropyChunked(task, False, **options, cuda_graphs=True)
    expected, gradients = results(model, plain, samples)
    found, others = results(model, replayed, samples)
    for mine, theirs in zip(found, expected):
        assert mine == pytest.approx(theirs, rel=1e-12)
    for name, gradient in gradients.items():
        assert torch.allclose(others[name], gradient, rtol=1e-9, atol=1e-10), name
    # batches of about one size share a recording
    assert len(replayed.graphed.graphs.recordings) == len(BATCHES) - 1


@pytest.mark.parametrize("positions", [1024, 50])  # sizes are rounded up to 128
def test_learned_positions_and_embeddings_of_another_width(positions, build, task):
    model = build(
        "admin_transformer_tiny",
        encoder_learned_pos=True,
        decoder_learned_pos=True,
        max_source_positions=positions,
        max_target_positions=positions,
        layernorm_embedding=True,
        decoder_input_dim=16,
        decoder_output_dim=16,
        dropout=0.0,
    )
    model = model.double().train()
    samples = [batch_of(task.source_dictionary, *b, left=False) for b in BATCHES]
    expected, found = (
        results(model, LabelSmoothedCrossEntropyChunked(task, False, 0.1, cuda_graphs=g), samples)
        for g in (False, True)
    )
    for mine, theirs in zip(found[0], expected[0]):
        assert mine == pytest.approx(theirs, rel=1e-12)
    for name, gradient in expected[1].items():
        assert torch.allclose(found[1][name], gradient, rtol=1e-9, atol=1e-10), name


def test_validation_takes_the_ordinary_way(build, task):
    model = build("admin_transformer_tiny", encoder_layers=1, decoder_layers=1).eval()
    criterion = LabelSmoothedCrossEntropyChunked(task, False, 0.1, cuda_graphs=True)
    with torch.no_grad():
        criterion(model, batch_of(task.source_dictionary, [3], [4]))
    assert criterion.graphed is None


def run(**changes):
    values = {
        "model": {},
        "common": {"cpu": False, "fp16": True, "bf16": False},
        "distributed_training": {"distributed_world_size": 1, "ddp_backend": "pytorch_ddp"},
    }
    return OmegaConf.merge(OmegaConf.create(values), OmegaConf.create(changes))


def heads(encoder, decoder):
    """An encoder-decoder model whose attention heads have so many channels."""
    stacks = (SimpleNamespace(head_dim=n, forward_packed=None) for n in (encoder, decoder))
    return SimpleNamespace(**dict(zip(("encoder", "decoder"), stacks)))


ENCODER_DECODER = heads(64, 64)
REFUSED = [
    (run(common={"cpu": True}), "needs a GPU"),
    (run(common={"fp16": False}), "needs --fp16 or --bf16"),
    (run(distributed_training={"distributed_world_size": 2}), "--ddp-backend legacy_ddp alone"),
    *(
        (run(model={name: 0.5 if "noise" in name else True}), name.replace("_", "-"))
        for name in packed_loss.CHANGES_EACH_PASS
    ),
]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))


@pytest.mark.parametrize(("run", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_cannot_be_recorded_is_refused(gpu, run, reason):
    with pytest.raises(AdminError, match=f"^--cuda-graphs .*{reason}; leave it out$"):
        packed_loss.check(ENCODER_DECODER, run)


@pytest.mark.parametrize(
    "changes",
    [{}, {"distributed_training": {"distributed_world_size": 2, "ddp_backend": "no_c10d"}}],
)
def test_what_can_be_recorded_is_not(gpu, changes):
    packed_loss.check(ENCODER_DECODER, run(**changes))


@pytest.mark.parametrize("widths", [(64, 20), (256, 64)])
def test_heads_that_flash_attention_cannot_take_are_refused(gpu, widths):
    found = ", ".join(map(str, sorted(widths)))
    with pytest.raises(AdminError, match=f"multiple of 8 channels, 192 at most; {found} found"):
        packed_loss.check(heads(*widths), run())
    packed_loss.check(heads(192, 8), run())


def test_other_models_and_old_gpus_are_refused(gpu, monkeypatch):
    with pytest.raises(AdminError, match="encoder-decoder model of this plugin"):
        packed_loss.check(SimpleNamespace(decoder=None), run())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(AdminError, match=r"compute capability 8\.0"):
        packed_loss.check(ENCODER_DECODER, run())
