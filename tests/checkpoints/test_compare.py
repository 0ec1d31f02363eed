import pytest
import torch

from admin_fairseq.checkpoints import building, compare
from admin_fairseq.errors import AdminError

from ..conftest import wants_more_than_torch_2_1


def test_a_model_is_rebuilt_from_its_options_and_weights(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1, share_all_embeddings=True)
    again = building.build(options, model.state_dict())
    assert compare.largest_difference(model, again) == 0
    assert not again.training


@wants_more_than_torch_2_1("autocast leaves attention's masks in float32")
def test_the_precision_of_its_training_is_not_asked_for(trained):
    model, options = trained(encoder_layers=1, decoder_layers=1, dtype=torch.float32)
    options["autocast"] = "bfloat16"
    again = building.build(options, model.state_dict())
    assert compare.largest_difference(model, again) == 0
    fast = building.build(options, model.state_dict(), autocast="bfloat16")
    assert compare.largest_difference(model, fast) > 1e-4


def test_the_smallest_change_is_seen(trained):
    model, options = trained(encoder_layers=2, decoder_layers=1)
    weights = dict(model.state_dict())
    name = "encoder.layers.0.fc1.bias"
    weights[name] = weights[name] + 1e-9
    changed = building.build(options, weights)
    assert 1e-14 < compare.largest_difference(model, changed) < 1e-6


def test_vocabularies_of_different_sizes(trained):
    _, options = trained(encoder_layers=1, decoder_layers=1)
    sizes = {"encoder.embed_tokens.weight": 50, "decoder.embed_tokens.weight": 30}
    weights = {name: torch.zeros(rows, 64) for name, rows in sizes.items()}
    model = building.empty_model(options, weights)
    found = {stack: len(getattr(model, stack).dictionary) for stack in ("encoder", "decoder")}
    assert found == {"encoder": 50, "decoder": 30}


def test_models_with_few_positions(trained):
    few = {"max_source_positions": 5, "max_target_positions": 3}
    model, options = trained(encoder_layers=1, decoder_layers=1, encoder_learned_pos=True, **few)
    again = building.build(options, model.state_dict())
    assert compare.largest_difference(model, again) == 0


def test_options_of_which_no_model_can_be_built(trained):
    model, options = trained(encoder_layers=1, decoder_layers=1)
    with pytest.raises(AdminError, match=r"^no model can be built from its options"):
        building.build({**options, "activation_fn": "magic"}, model.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_layers": 10**9},
        {"decoder_layers": 0},
        {"encoder_embed_dim": 10**9},
        {"decoder_embed_dim": "64"},
        {"max_source_positions": 10**12},
        {"max_target_positions": "x"},
        {"max_target_positions": 0},
    ],
)
def test_options_of_another_size_than_the_weights_are_told_before_anything_is_built(
    change, trained
):
    model, options = trained(encoder_layers=1, decoder_layers=1)
    (name,) = change
    option = f"({name}|--{name.replace('_', '-')})"
    with pytest.raises(AdminError, match=rf"^damaged checkpoint: .*{option}"):
        building.check_sizes({**options, **change}, model.state_dict())
    building.check_sizes(options, model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("encoder.layers.0.fc1.bias"), "encoder.layers.0.fc1.bias"),
        (lambda weights: weights.pop("decoder.embed_tokens.weight"), "embed_tokens.weight is miss"),
        (lambda weights: weights.update(odd=torch.ones(1)), "odd"),
        (
            lambda weights: weights.update({"encoder.layers.0.fc1.bias": torch.ones(5)}),
            r"size mismatch for encoder.layers.0.fc1.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(trained, change, message):
    model, options = trained(encoder_layers=2, decoder_layers=1)
    weights = dict(model.state_dict())
    change(weights)
    with pytest.raises(AdminError, match=message) as error:
        building.build(options, weights)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
