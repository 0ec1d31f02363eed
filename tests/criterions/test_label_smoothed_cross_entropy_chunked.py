"""The criterion, against fairseq's on whole models and by the real command."""

import importlib
import re
from argparse import Namespace
from types import SimpleNamespace

import fairseq.utils
import pytest
import torch
import torch.distributed as dist
from fairseq import criterions
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.distributed import ModuleProxyWrapper
from fairseq.models import build_model
from fairseq.models.transformer import TransformerModelBase
from fairseq.models.transformer_lm import TransformerLanguageModel, TransformerLanguageModelConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from admin_fairseq.config import AdminLanguageModelConfig, AdminTransformerConfig, resolve
from admin_fairseq.criterions import label_smoothed_cross_entropy_chunked as module
from admin_fairseq.criterions.label_smoothed_cross_entropy_chunked import (
    NAME,
    ChunkedConfig,
    LabelSmoothedCrossEntropyChunked,
    decoder_of,
)
from admin_fairseq.errors import AdminError
from tests.integration.conftest import data, run  # noqa: F401  fixtures

from ..conftest import wants_more_than_torch_2_1

SIZES = {"encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
LM_SIZES = {"decoder_layers": 1, "dropout": 0.0}


def stock_translation(task, **options):
    config = AdminTransformerConfig(_name="postln_transformer_tiny", **SIZES, **options)
    return TransformerModelBase.build_model(resolve(config).nested(), task)


def our_translation(task, **options):
    config = AdminTransformerConfig(_name="admin_transformer_tiny", **SIZES, **options)
    return build_model(config, task)


def our_language_model(task, **options):
    config = AdminLanguageModelConfig(_name="admin_transformer_lm_tiny", **LM_SIZES, **options)
    return build_model(config, task)


def stock_language_model(task, **options):
    config = AdminLanguageModelConfig(_name="postln_transformer_lm_tiny", **LM_SIZES, **options)
    stock = vars(TransformerLanguageModelConfig(decoder_layers_to_keep=None))
    args = Namespace(**{**stock, **vars(resolve(config)), "tokens_per_sample": 64})
    return TransformerLanguageModel.build_model(args, task)


BUILDERS = {
    "transformer": stock_translation,
    "admin_transformer": our_translation,
    "transformer_lm": stock_language_model,
    "admin_transformer_lm": our_language_model,
}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """fairseq's softmax is float32 even in a float64 model."""

    def log_softmax(x, dim, onnx_trace=False):
        return torch.log_softmax(x, dim, dtype=torch.promote_types(x.dtype, torch.float32))

    monkeypatch.setattr(fairseq.utils, "log_softmax", log_softmax)


def sample_of(task, lengths, seed=0, language_model=False):
    """A batch whose targets have these lengths, 0 included."""
    dictionary = task.target_dictionary
    generator = torch.Generator().manual_seed(seed)
    size = len(lengths), max(max(lengths), 1)
    words = torch.randint(dictionary.nspecial, len(dictionary), size, generator=generator)
    target = words.clone()
    for row, length in zip(target, lengths):
        row[length:] = dictionary.pad()
    before = words.roll(1, dims=1)
    before[:, 0] = dictionary.eos()
    source_lengths = torch.full(size[:1], size[1])
    if language_model:
        net_input = {"src_tokens": before, "src_lengths": source_lengths}
    else:
        net_input = {"src_tokens": words.flip(1), "src_lengths": source_lengths}
        net_input["prev_output_tokens"] = before
    return {"net_input": net_input, "target": target, "ntokens": sum(lengths)}


def both(task, chunk=3, smoothing=0.1, **options):
    """fairseq's criterion and ours."""
    given = {"sentence_avg": False, "label_smoothing": smoothing, **options}
    return (
        LabelSmoothedCrossEntropyCriterion(task, **given),
        LabelSmoothedCrossEntropyChunked(task, **given, chunk_tokens=chunk),
    )


def step(criterion, model, sample, reduce=True):
    """What the criterion returns, and all gradients; single losses weigh differently."""
    model.zero_grad()
    loss, sample_size, logged = criterion(model, sample, reduce)
    factors = torch.arange(1, loss.numel() + 1).to(loss).view_as(loss)
    (loss * factors).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return loss, sample_size, logged, gradients


def assert_same(found, expected, tolerance=1e-12):
    loss, sample_size, logged, gradients = found
    assert loss.shape == expected[0].shape
    assert torch.allclose(loss, expected[0], rtol=tolerance, atol=tolerance)
    assert sample_size == expected[1]
    assert logged.keys() == expected[2].keys()
    for name, value in expected[2].items():
        assert torch.allclose(
            torch.as_tensor(logged[name]), torch.as_tensor(value), rtol=tolerance, atol=tolerance
        ), name
    assert gradients.keys() == expected[3].keys()
    largest = max(g.abs().max() for g in expected[3].values() if g is not None)
    for name, gradient in expected[3].items():
        assert (gradient is None) == (gradients[name] is None), name
        if gradient is not None:
            assert (gradients[name] - gradient).abs().max() <= tolerance * largest, name


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", BUILDERS)
def test_everything_is_as_with_fairseqs(name, tied, task):
    model = BUILDERS[name](task, share_decoder_input_output_embed=tied).double().train()
    sample = sample_of(task, [5, 2, 0, 7], language_model=name.endswith("lm"))
    for reduce in (True, False):
        theirs, ours = both(task, report_accuracy=True)
        expected = step(theirs, model, sample, reduce)
        assert_same(step(ours, model, sample, reduce), expected)
        assert expected[3]["decoder.output_projection.weight" if not tied else TIED].any()


TIED = "decoder.embed_tokens.weight"


@pytest.fixture(scope="module")
def small(task):
    return our_translation(task).double().train()


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_batch_and_options(small, task, data):  # noqa: F811
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    theirs, ours = both(
        task,
        chunk=data.draw(st.sampled_from([1, 2, 5, 1000])),
        smoothing=data.draw(st.floats(0, 0.5)),
        ignore_prefix_size=data.draw(st.integers(0, 6)),
        sentence_avg=data.draw(st.booleans()),
        report_accuracy=data.draw(st.booleans()),
    )
    sample, reduce = sample_of(task, lengths), data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairseq.utils, "log_softmax", lambda x, dim, **_: torch.log_softmax(x, dim))
        expected = step(theirs, small, sample, reduce)
    assert_same(step(ours, small, sample, reduce), expected)


@pytest.mark.parametrize("name", ["transformer", "admin_transformer"])
def test_float32(name, task):
    model = BUILDERS[name](task).train()
    theirs, ours = both(task, report_accuracy=True)
    sample = sample_of(task, [5, 2, 0, 7])
    assert_same(step(ours, model, sample), step(theirs, model, sample), 1e-6)


def test_bias_of_the_projection_counts(task):
    model = stock_translation(task).double().train()
    model.decoder.output_projection.bias = nn.Parameter(torch.randn(len(task.target_dictionary)))
    model.double()
    sample = sample_of(task, [5, 2])
    theirs, ours = both(task)
    expected = step(theirs, model, sample)
    assert expected[3]["decoder.output_projection.bias"].any()
    assert_same(step(ours, model, sample), expected)


def test_a_batch_of_padding_gives_zeros(task):
    model = our_translation(task).train()
    _, ours = both(task, report_accuracy=True)
    loss, _, logged, gradients = step(ours, model, sample_of(task, [0, 0]))
    assert loss == logged["nll_loss"] == logged["n_correct"] == logged["total"] == 0
    assert all(not g.any() for g in gradients.values() if g is not None)
    assert gradients["decoder.output_projection.weight"] is not None


def test_evaluation_makes_no_gradients(task):
    model = our_translation(task).eval()
    sample = sample_of(task, [5, 2])
    theirs, ours = both(task)
    with torch.no_grad():
        loss, _, logged = ours(model, sample)
        assert not loss.requires_grad
        assert torch.allclose(loss, theirs(model, sample)[0])
        assert logged["nll_loss"] > 0


@wants_more_than_torch_2_1("autocast leaves attention's masks in float32")
@pytest.mark.parametrize("where", ["decoder", "caller"])
def test_autocast_reaches_the_projection(where, task):
    model = stock_translation(task).train()
    sample = sample_of(task, [5, 2])
    theirs, ours = both(task)
    plain = ours(model, sample, reduce=False)[0]
    features = model(**sample["net_input"], features_only=True)[0]
    if where == "decoder":
        projection = model.decoder.output_projection
        features = features.detach().requires_grad_()
        fixed = SimpleNamespace(autocast_dtype=torch.bfloat16, output_projection=projection)
        loss = ours._losses(fixed, features, sample["target"], False)[0].loss
        with torch.autocast("cpu", torch.bfloat16):
            logits = projection(features)
        expected = theirs.compute_loss(model, (logits, None), sample, reduce=False)[0]
    else:
        with torch.autocast("cpu", torch.bfloat16):
            loss, expected = (c(model, sample, reduce=False)[0] for c in (ours, theirs))
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert not torch.allclose(loss, plain, rtol=1e-6)
    loss.sum().backward()
    assert model.decoder.output_projection.weight.grad.dtype == torch.float32


def test_updates_of_several_batches_add_up(task):
    model = our_translation(task).double().train()
    samples = [sample_of(task, lengths, seed) for seed, lengths in enumerate([[3, 4], [6], [2, 0]])]
    found = []
    for criterion in both(task):
        model.zero_grad()
        for sample in samples:
            criterion(model, sample)[0].backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, rtol=1e-10, atol=1e-13), name


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("tied", [False, True])
def test_ddp(tied, task, group):
    model = our_translation(task, share_decoder_input_output_embed=tied).double().train()
    theirs, ours = both(task)
    sample = sample_of(task, [5, 2, 0, 7])
    expected = step(theirs, model, sample)
    loss, sample_size, logged, gradients = step(
        ours, ModuleProxyWrapper(DistributedDataParallel(model)), sample
    )
    plain = {name.replace("module.", ""): gradient for name, gradient in gradients.items()}
    assert_same((loss, sample_size, logged, plain), expected)
    # as DDP does not see the projection being used, it would be reduced too early
    seeking = DistributedDataParallel(model, find_unused_parameters=True)
    with pytest.raises(AdminError, match="--find-unused-parameters"):
        ours(ModuleProxyWrapper(seeking), sample)


class FullyShardedDataParallel(nn.Module):
    """As much of fairscale's as counts; it need not be installed."""

    def __init__(self, wrapped):
        super().__init__()
        self.module = wrapped

    def forward(self, **given):
        return self.module(**given)


class WithoutFeatures(TransformerModelBase):
    def forward(self, src_tokens, src_lengths, prev_output_tokens):
        return super().forward(src_tokens, src_lengths, prev_output_tokens)


def adaptive(task):
    return stock_language_model(task, adaptive_softmax_cutoff="5,10")


def without_features(task):
    model = stock_translation(task)
    model.__class__ = WithoutFeatures
    return model


def other_projection(task):
    model = stock_translation(task)
    model.decoder.output_projection = nn.Sequential(model.decoder.output_projection)
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (adaptive, "an adaptive softmax"),
        (without_features, "a WithoutFeatures, which does not return its features"),
        (other_projection, "TransformerModelBase, which has no linear decoder.output_projection"),
        (lambda task: nn.Linear(2, 2), "a Linear, which has no linear"),
        (lambda task: FullyShardedDataParallel(stock_translation(task)), "fully_sharded"),
    ],
)
def test_models_it_cannot_take_are_told_in_one_line(build, message, task):
    with pytest.raises(AdminError, match=re.escape(message)) as error:
        decoder_of(build(task))
    assert len(str(error.value).splitlines()) == 1 and NAME in str(error.value)


@pytest.mark.parametrize("chunk", [0, -3])
def test_chunks_have_tokens(chunk, task):
    with pytest.raises(AdminError, match="--chunk-tokens"):
        both(task, chunk=chunk)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("label_smoothing", 2.0), ("label_smoothing", float("nan")), ("label_smoothing", -0.1)),
        *(("ignore_prefix_size", -1), ("chunk_tokens", 10**30)),
    ],
)
def test_numbers_that_make_no_loss_are_named(option, value, task):
    options = {"label_smoothing": 0.1, option: value}
    with pytest.raises(AdminError, match=f"--{option.replace('_', '-')} takes a"):
        LabelSmoothedCrossEntropyChunked(task, sentence_avg=False, **options)


def test_fairseq_knows_it_however_often_it_is_imported(task):
    importlib.reload(module)
    options = {"label_smoothing": 0.3, "chunk_tokens": 7, "sentence_avg": True}
    config = ChunkedConfig(report_accuracy=True, ignore_prefix_size=2, **options)
    criterion = criterions.CRITERION_REGISTRY[NAME].build_criterion(config, task)
    assert isinstance(criterion, LabelSmoothedCrossEntropyCriterion)
    assert (criterion.eps, criterion.chunk_tokens, criterion.sentence_avg) == (0.3, 7, True)
    assert criterion.report_accuracy and criterion.ignore_prefix_size == 2
    assert criterion.logging_outputs_can_be_summed()


@pytest.mark.slow
def test_training_by_the_real_command(run, data, tmp_path):  # noqa: F811
    """The same losses, training and validation, as with fairseq's criterion."""
    words = ["--max-update", 2, "--update-freq", 2, "--report-accuracy", "--dropout", 0]
    logs = [
        run.train(data, tmp_path / name, *words, "--criterion", name, *more, validate=True)
        for name, more in (
            ("label_smoothed_cross_entropy", ()),
            (NAME, ("--chunk-tokens", "17")),
        )
    ]
    theirs, ours = (
        [float(loss) for loss in log.losses()]
        + [float(re.search(rf"\| valid \|.* {name} ([0-9.]+)", log)[1]) for name in VALID]
        for log in logs
    )
    assert len(ours) == 2 + len(VALID) and ours == pytest.approx(theirs, abs=0.0015)
    for updates, name in (3, NAME), (4, "label_smoothed_cross_entropy"):  # from fairseq's and back
        words = ["--max-update", updates, "--criterion", name]
        log = run.train(data, tmp_path / "label_smoothed_cross_entropy", *words)
        assert len(log.losses()) == 1


VALID = ["loss", "nll_loss", "accuracy"]
