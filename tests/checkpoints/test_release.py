"""Checkpoints in the release's form, made from our models by undoing the renaming."""

from argparse import Namespace

import pytest
import torch

from admin_fairseq.checkpoints import building, compare
from admin_fairseq.checkpoints.dictionaries import data_bin
from admin_fairseq.checkpoints.release import INIT_TYPES, Rename, import_release
from admin_fairseq.errors import AdminError

RATIOS = {
    "encoder": {"self_attn": "attention_ratio_change", "ffn": "fc_ratio_change"},
    "decoder": {
        "self_attn": "self_ratio_change",
        "encoder_attn": "encoder_ratio_change",
        "ffn": "fc_ratio_change",
    },
}


def as_release_names(weights, fused):
    """The state dict that the release would have saved."""
    old = {}
    for name, weight in weights.items():
        stack, *inner, kind = name.split(".")
        if name == "decoder.output_projection.weight":
            continue  # it is the decoder's embedding there
        if kind == "omega":
            if fused:  # DeepNorm has no such parameter
                old[".".join([stack, *inner[:2], RATIOS[stack][inner[-1]]])] = weight
        elif kind == "alpha":
            old[".".join([stack, *inner[:2], "rezero_weight"])] = weight
        elif inner and inner[-1] in ("q_proj", "k_proj", "v_proj"):
            attention = ".".join([stack, *inner[:-1]])
            if kind == "bias" or fused:
                old.setdefault(f"{attention}.in_proj_{kind}", {})[inner[-1]] = weight
            else:
                old[f"{attention}.{inner[-1]}_weight"] = weight
        else:
            old[name] = weight
    for name, parts in old.items():
        if isinstance(parts, dict):
            old[name] = torch.cat([parts[part] for part in ("q_proj", "k_proj", "v_proj")])
    for stack in ("encoder", "decoder"):
        old[f"{stack}.embed_positions._float_tensor"] = torch.ones(1)
    return old


@pytest.fixture
def data(tmp_path, task):
    for language in ("de", "en"):
        task.source_dictionary.save(str(tmp_path / f"dict.{language}.txt"))
    return data_bin(str(tmp_path), {"source_lang": "de", "target_lang": "en"})


@pytest.fixture
def release(trained):
    """release(init_type, **options) → (our model, the release's checkpoint of it)."""

    def release(init_type="adaptive", **options):
        model, options = trained(
            init_type=INIT_TYPES[init_type],
            dtype=torch.float32,
            encoder_layers=3,
            decoder_layers=2,
            share_all_embeddings=True,
            **options,
        )
        if init_type == "deepnet":
            for name, weight in model.named_buffers():
                if name.endswith("omega"):  # 0.81 (3⁴ · 2)^(1/16) and (3 · 2)^(1/4)
                    weight.data.fill_(1.11320 if name.startswith("encoder") else 1.56508)
        args = {
            **{k: v for k, v in options.items() if not k.startswith("profile_")},
            "arch": "transformer_iwslt_de_en",
            "init_type": init_type,
            "activation_dropout": 0,
            "relu_dropout": 0.1,
            "task": "translation",
            "source_lang": "de",
            "target_lang": "en",
            "data": "elsewhere",
            "criterion": "label_smoothed_cross_entropy",
            "optimizer": "radam",
            "lr": [0.002],
        }
        del args["_name"]
        return model, {
            "args": Namespace(**args),
            "model": as_release_names(model.state_dict(), fused=init_type != "deepnet"),
            "optimizer_history": [{"num_updates": 500, "optimizer_name": "FairseqRAdam"}],
            "extra_state": {"train_iterator": {"epoch": 3}, "train_meters": {}},
            "last_optimizer_state": {"state": {}},
        }

    return release


@pytest.mark.parametrize("init_type", INIT_TYPES)
def test_every_scheme_computes_what_it_did(init_type, release, data):
    model, state = release(init_type)
    imported = import_release(state, data)
    options = imported["cfg"]["model"]
    again = building.build(options, imported["model"])
    assert options["init_type"] == INIT_TYPES[init_type]
    most = 1e-4 if init_type == "deepnet" else 0  # its α stands above in six digits
    assert compare.largest_difference(model, again) <= most


@pytest.mark.parametrize("norm", [{}, {"encoder_normalize_before": True}])
def test_norm_placement_comes_along(release, data, norm):
    model, state = release("default", **norm)
    imported = import_release(state, data)
    again = building.build(imported["cfg"]["model"], imported["model"])
    assert compare.largest_difference(model, again) == 0


def test_the_result_is_a_checkpoint_of_today(release, data):
    _, state = release()
    imported = import_release(state, data)
    assert imported["args"] is None
    assert imported["cfg"]["model"]["_name"] == "admin_transformer"
    assert imported["cfg"]["model"]["activation_dropout"] == 0.1  # from --relu-dropout
    assert imported["cfg"]["task"]["data"] == data.folder
    assert imported["cfg"]["task"]["source_lang"] == "de"
    assert imported["cfg"]["common"]["user_dir"] == "admin_fairseq"
    assert imported["cfg"]["optimizer"]["_name"] == "radam"
    assert imported["optimizer_history"] == state["optimizer_history"]
    assert imported["extra_state"] == {"train_iterator": {"epoch": 3}}
    assert "last_optimizer_state" not in imported


def test_what_the_plugin_does_not_have_does_not_stop_it(release, data):
    model, state = release()
    state["args"].optimizer, state["args"].lr_scheduler = "novograd", "poly"
    state["args"].activation_dropout = 0.2  # goes before --relu-dropout
    imported = import_release(state, data)
    assert imported["cfg"]["model"]["activation_dropout"] == 0.2
    again = building.build(imported["cfg"]["model"], imported["model"])
    assert compare.largest_difference(model, again) == 0


@pytest.mark.parametrize(("value", "message"), [(0.0, "is zero"), (float("nan"), "is not finite")])
def test_omegas_that_cannot_be(release, data, value, message):
    _, state = release()
    state["model"]["decoder.layers.1.self_ratio_change"][5] = value
    with pytest.raises(AdminError, match=rf"decoder.layers.1.residuals.self_attn.omega {message}"):
        import_release(state, data)


def test_half_precision_stays(release, data):
    _, state = release()
    state["model"] = {name: weight.half() for name, weight in state["model"].items()}
    imported = import_release(state, data)
    assert {weight.dtype for weight in imported["model"].values()} == {torch.float16}


def test_rename_splits_or_repeats():
    weights = {"a.old": torch.arange(6), "a.older": torch.ones(1)}
    split = Rename(r"(.*)\.old", (r"\1.x", r"\1.y"), split=True).apply(weights)
    assert {name: weight.tolist() for name, weight in split.items()} == {
        "a.x": [0, 1, 2],
        "a.y": [3, 4, 5],
        "a.older": [1],
    }
    repeated = Rename(r"(.*)\.older", (r"\1.x", r"\1.y")).apply(weights)
    assert repeated["a.x"] is repeated["a.y"] is weights["a.older"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init_type": "tfixup"}, "not a transformer of the original Admin release"),
        ({"arch": "lstm"}, "not a transformer of the original Admin release"),
        ({"char_inputs": True}, "was trained with --char-inputs"),
        ({"layer_wise_attention": True}, "was trained with --layer-wise-attention"),
        ({"task": "of their own"}, "was trained for --task of their own"),
        ({"init_type": ["adaptive"]}, "not a transformer of the original Admin release"),
        ({"task": ["translation"]}, r"was trained for --task \['translation'\]"),
        ({"encoder_layers": 4}, "its weights have encoder_layers 3, its options 4"),
        ({"encoder_normalize_before": True}, "--encoder-normalize-before asks for Pre-LN"),
        ({"lr": "x"}, "the options of its run are damaged"),
    ],
)
def test_what_does_not_fit_is_refused(release, data, change, message):
    _, state = release()
    state["args"] = Namespace(**{**vars(state["args"]), **change})
    with pytest.raises(AdminError, match=message):
        import_release(state, data)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.layers.1.fc_ratio_change", "counterpart of encoder.layers.1.residuals.ffn.omega"),
        ("decoder.layers.0.encoder_attn.in_proj_weight", "encoder_attn.k_proj.weight"),
        ("decoder.layers.0.fc1.bias", "decoder.layers.0.fc1.bias"),
        ("encoder.embed_tokens.weight", "encoder.embed_tokens.weight is missing"),
    ],
)
def test_missing_parameters_are_named(release, data, name, message):
    _, state = release()
    del state["model"][name]
    with pytest.raises(AdminError, match=message):
        import_release(state, data)


def test_a_checkpoint_of_ours_is_not_the_releases(checkpoint_of_ours, data):
    with pytest.raises(AdminError, match="not a transformer of the original Admin release"):
        import_release(checkpoint_of_ours, data)


@pytest.fixture
def checkpoint_of_ours(trained):
    model, options = trained(encoder_layers=1, decoder_layers=1)
    return {"args": None, "cfg": {"model": options}, "model": model.state_dict()}


def test_a_dictionary_of_another_size(release, data, tmp_path):
    with open(tmp_path / "dict.en.txt", "a", encoding="utf-8") as file:
        file.write("more 1\n")
    with pytest.raises(AdminError, match=r"dict.en.txt: 25 types, but .* decoder .* 24"):
        import_release(release()[1], data)
