"""--autocast and --compile: the layers' own, wherever they run."""

import copy
import pickle
from functools import partial

import pytest
import torch

from admin_fairseq.schemes import SCHEMES

from ..conftest import HALF
from ..layers.test_transformer_layer import loss_and_gradients, moved


@pytest.mark.parametrize("scheme", SCHEMES)
def test_products_in_bfloat16_and_all_else_in_float32(scheme, build, batch):
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    results = []
    for precision in (None, "bfloat16"):
        torch.manual_seed(1)
        model = moved(build(init_type=scheme, autocast=precision, **sizes))
        products = []
        for layer in (*model.encoder.layers.children(), *model.decoder.layers.children()):
            note = partial(lambda seen, layer, inputs, out: seen.append(out.dtype), products)
            layer.fc1.register_forward_hook(note)
        logits, gradients = loss_and_gradients(model, batch)
        assert set(products) == {getattr(torch, precision) if precision else torch.float32}
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert all(g.dtype == torch.float32 for g in gradients.values())
        states = model(**batch)[1]["inner_states"]
        assert {state.dtype for state in states} == {torch.float32}
        results.append((logits.float()[batch["prev_output_tokens"].ne(1)], gradients))
    (exact, _), (found, gradients) = results
    assert all(torch.isfinite(g).all() for g in gradients.values())
    assert 0 < (found - exact).abs().max() < 0.1 * exact.abs().max()


def test_a_layer_that_runs_again_does_so_in_the_same_precision(build, batch):
    """Activation checkpointing: the second pass is outside of the model's forward."""
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        sizes = {"encoder_layers": 2, "decoder_layers": 2}
        model = moved(build(autocast="bfloat16", checkpoint_activations=checkpointing, **sizes))
        results.append(loss_and_gradients(model, batch)[1])
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[1][name]), name


@pytest.mark.parametrize("options", [{"autocast": "bfloat16"}, {"compile": True}])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_computes_with_its_own_weights(duplicate, options, build, batch):
    """fairseq keeps a moving average of the weights (--store-ema) in one."""
    model = moved(build(encoder_layers=1, decoder_layers=1, **options)).eval()
    twin, expected = duplicate(model), model(**batch)[0]
    with torch.no_grad():
        for stack in (model.encoder, model.decoder):
            for parameter in stack.layers.parameters():
                parameter.add_(torch.randn_like(parameter))
    assert torch.equal(twin(**batch)[0], expected)
    assert not torch.equal(model(**batch)[0], expected)


@pytest.mark.parametrize("half", HALF)
def test_half_precision_takes_its_place(half, build, batch):
    """fairseq-generate --fp16 makes a model's weights half, whatever it was trained in."""
    model = moved(build(autocast="bfloat16", encoder_layers=1, decoder_layers=1)).eval()
    plain = moved(build(encoder_layers=1, decoder_layers=1)).eval()
    plain.load_state_dict(model.state_dict())
    found, expected = (m.to(half)(**batch)[0] for m in (model, plain))
    assert found.dtype == half and torch.equal(found, expected)


def test_translations_step_by_step_in_bfloat16(build, batch):
    model = moved(build(autocast="bfloat16", encoder_layers=1, decoder_layers=2)).eval()
    encoded, tokens = model.encoder(batch["src_tokens"]), batch["prev_output_tokens"]
    whole, state = model.decoder(tokens, encoded)[0], {}
    for t in range(1, tokens.shape[1] + 1):
        step = model.decoder(tokens[:, :t], encoded, incremental_state=state)[0]
        assert step.dtype == torch.bfloat16
        real = tokens[:, t - 1].ne(1)
        assert (step[real, 0] - whole[real, t - 1]).abs().max() < 0.05 * whole.abs().max()
