"""Whole stacks: the fast paths against fairseq's kernels, padding left out or not."""

import pytest
import torch
from fairseq.models import build_model
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.config import AdminLanguageModelConfig
from admin_fairseq.errors import AdminError
from admin_fairseq.fast import attention
from admin_fairseq.layers import transformer_stack
from admin_fairseq.layers.transformer_stack import on_reference_kernels
from admin_fairseq.schemes import SCHEMES

from ..conftest import sentences
from .test_transformer_layer import moved


def step(model, batch):
    """The logits on tokens, and the gradients of a loss that looks at those alone."""
    model.zero_grad()
    logits, _ = model(**batch)
    logits = logits[batch["prev_output_tokens"].ne(1)]
    torch.manual_seed(8)
    (logits * torch.randn_like(logits)).sum().backward()
    return {"logits": logits.detach()} | {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def assert_same(found, expected, bound):
    """To within ``bound`` of the largest logit and of the largest gradient."""
    assert found.keys() == expected.keys()
    sizes = {name: float(tensor.abs().max()) for name, tensor in expected.items()}
    of_logits = sizes.pop("logits")
    for name, tensor in expected.items():
        scale = of_logits if name == "logits" else max(sizes.values())
        assert (found[name] - tensor).abs().max() <= bound * scale, name


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("lengths", [([5, 5], [4, 4]), ([6, 2, 4], [7, 3, 1])])
def test_every_scheme_steps_as_on_fairseqs_kernels(scheme, lengths, build, task):
    """Not to float64's precision: fairseq takes softmax and sinusoids in float32."""
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    model = moved(build(init_type=scheme, **sizes)).double().train()
    batch = sentences(task.source_dictionary, *lengths, seed=3)
    found = step(model, batch)
    with on_reference_kernels(model):
        assert_same(found, step(model, batch), 3e-6)


LENGTHS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=15)
@given(LENGTHS, st.integers(0, 99))
def test_any_padding_and_empty_rows(build, task, lengths, seed):
    source, target = zip(*lengths)
    model = moved(build(encoder_layers=2, decoder_layers=2, dropout=0.0)).double().train()
    batch = sentences(task.source_dictionary, source, [*target[:-1], 8], seed)
    found = step(model, batch)
    filled = batch["prev_output_tokens"].ne(1).any(1)  # the others make fairseq's numbers NaN
    with on_reference_kernels(model):
        expected = step(model, {name: value[filled] for name, value in batch.items()})
    assert_same(found, expected, 1e-6)


def test_a_target_may_be_padded_on_the_left(build, task):
    """As with --left-pad-target."""
    model = moved(build(encoder_layers=1, decoder_layers=2)).double().eval()
    lengths = [6, 3, 0, 1]
    right = sentences(task.source_dictionary, [5, 4, 3, 2], lengths, seed=1)
    shifted = [row.roll(6 - n) for row, n in zip(right["prev_output_tokens"], lengths)]
    left = {**right, "prev_output_tokens": torch.stack(shifted)}
    found, expected = (step(model, batch) for batch in (left, right))
    assert_same(found, expected, 1e-12)


def test_inner_states_are_those_of_whole_batches(build, task):
    model = moved(build(encoder_layers=2, decoder_layers=3)).double().eval()
    batch = sentences(task.source_dictionary, [7, 2], [6, 1], seed=1)
    found = model.encoder(batch["src_tokens"], return_all_hiddens=True)
    extra = model(**batch)[1]
    with on_reference_kernels(model):
        wanted = model.encoder(batch["src_tokens"], return_all_hiddens=True)
        wanted_extra = model(**batch)[1]
    pairs = [
        (found["encoder_states"], wanted["encoder_states"], batch["src_tokens"]),
        (extra["inner_states"], wanted_extra["inner_states"], batch["prev_output_tokens"]),
    ]
    for states, expected, tokens in pairs:
        real = tokens.ne(1).t()
        assert len(states) == len(expected) and states[-1].shape == expected[-1].shape
        for state, other in zip(states[1:], expected[1:]):
            assert torch.allclose(state[real], other[real], atol=1e-6)
    real = batch["prev_output_tokens"].ne(1)
    assert torch.allclose(extra["attn"][0][real], wanted_extra["attn"][0][real], atol=1e-6)
    assert torch.equal(found["src_lengths"][0], wanted["src_lengths"][0])


@pytest.mark.parametrize("heads", [None, 1])
def test_attention_of_a_layer_that_is_asked_for(build, batch, heads):
    model = moved(build(encoder_layers=1, decoder_layers=3)).double().eval()
    asked = {"alignment_layer": 1, "alignment_heads": heads}
    attention = model(**batch, **asked)[1]["attn"][0]
    with on_reference_kernels(model):
        expected = model(**batch, **asked)[1]["attn"][0]
    real = batch["prev_output_tokens"].ne(1)
    assert torch.allclose(attention[real], expected[real], atol=1e-6)


def test_attention_weights_in_training_are_computed_when_accessed(build, batch, monkeypatch):
    asked = []
    plainly = attention.attend_plainly
    monkeypatch.setattr(
        attention, "attend_plainly", lambda *args: asked.append(args) or plainly(*args)
    )
    model = moved(build(encoder_layers=1, decoder_layers=2, dropout=0.0)).train()
    _, extra = model(**batch)
    assert not asked and len(extra["attn"]) == 1
    weights = extra["attn"][0]
    assert len(asked) == 1
    (gradient,) = torch.autograd.grad(
        weights.square().sum(), model.decoder.layers[1].encoder_attn.k_proj.weight
    )
    assert gradient.any()
    with on_reference_kernels(model):
        expected = model(**batch)[1]["attn"][0]
    real = batch["prev_output_tokens"].ne(1)
    assert torch.allclose(weights[real], expected[real], atol=1e-6)
    assert extra["attn"][:] == [weights] and len(asked) == 1, "computed once"
    with pytest.raises(IndexError):
        extra["attn"][1]


def test_attention_weights_computed_later_have_the_precision_of_the_pass(build, batch):
    model = moved(
        build(encoder_layers=1, decoder_layers=1, dropout=0.0, autocast="bfloat16")
    ).train()
    _, extra = model(**batch)
    found = extra["attn"][0]
    model.decoder.defers_attn = False
    (expected,) = model(**batch)[1]["attn"]
    assert found.dtype == expected.dtype and torch.equal(found, expected)


def test_each_stack_asks_for_the_width_of_its_heads(build, batch, monkeypatch):
    asked = []
    monkeypatch.setattr(transformer_stack, "reads_rows", lambda x, width: asked.append(width))
    sizes = {"encoder_embed_dim": 64, "encoder_attention_heads": 2}
    build(**sizes, decoder_embed_dim=96, decoder_attention_heads=4)(**batch)
    assert asked == [32, 24]


def test_a_shared_output_is_as_wide_as_the_embeddings(build, task):
    told = pytest.raises(AdminError, match=r"--decoder-output-dim .*: the output shares")
    with told:
        build(share_decoder_input_output_embed=True, decoder_output_dim=32)
    options = {"decoder_input_dim": 32, "share_decoder_input_output_embed": True}
    with told:
        build_model(AdminLanguageModelConfig(_name="admin_transformer_lm_tiny", **options), task)


def test_full_context(build, batch):
    """Without the causal mask, as for alignments."""
    model = moved(build(encoder_layers=1, decoder_layers=2)).double().eval()
    tokens, encoded = batch["prev_output_tokens"], model.encoder(batch["src_tokens"])
    found = model.decoder(tokens, encoded, full_context_alignment=True)[0]
    with on_reference_kernels(model):
        expected = model.decoder(tokens, encoded, full_context_alignment=True)[0]
    real = batch["prev_output_tokens"].ne(1)
    assert torch.allclose(found[real], expected[real], atol=1e-6)
    assert not torch.allclose(found[real], model(**batch)[0][real], atol=1e-3)


def test_the_choice_of_kernels_comes_back(build, batch):
    model = build(encoder_layers=1, decoder_layers=1)
    with pytest.raises(ZeroDivisionError), on_reference_kernels(model):
        assert model.encoder.reference_kernels and model.decoder.reference_kernels
        1 / 0  # noqa: B018
    assert not model.encoder.reference_kernels and not model.decoder.reference_kernels
    assert build(reference_kernels=True).encoder.reference_kernels


@pytest.mark.parametrize("part", [None, "encoder", "decoder"])
def test_scripting_points_to_fold(part, build):
    model = build(encoder_layers=1, decoder_layers=1)
    with pytest.raises(AdminError, match=r"TorchScript.*admin-fairseq fold") as error:
        torch.jit.script(getattr(model, part) if part else model)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("arch", ["rezero_transformer_tiny", "subln_transformer_tiny"])
def test_scripting_says_where_there_is_nothing_to_fold_to(arch, build):
    with pytest.raises(AdminError, match=r"TorchScript.* no model of fairseq computes the same: "):
        torch.jit.script(build(arch, encoder_layers=1, decoder_layers=1))
