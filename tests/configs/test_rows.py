"""The rows of the published tables, as fairseq-hydra-train composes them."""

import json
import re
import shlex
from argparse import Namespace
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
import torch
import yaml
from fairseq.data import Dictionary
from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.models import ARCH_CONFIG_REGISTRY, build_model
from fairseq.models.transformer import TransformerModel
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from admin_fairseq.recipes import rows as rows_module
from admin_fairseq.recipes import scores
from admin_fairseq.schemes import Norm

from ..conftest import held

if hydra.__version__ < "1.1":
    from hydra.experimental import compose, initialize_config_dir

    VERSION = {}
else:
    from hydra import compose, initialize_config_dir

    VERSION = {"version_base": "1.1"}  # what fairseq-hydra-train runs under

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
PUBLISHED = json.loads((ROOT / "tests" / "recipes" / "published.json").read_text())
DATASETS = ("iwslt14_de_en", "wmt14_en_de", "wmt14_en_fr", "wmt17_en_de")


@dataclass(frozen=True)
class Row:
    recipe: str
    scheme: str
    layers: tuple[int, int]
    but: dict = field(default_factory=dict)  # what differs from the recipe
    gpus: int = 0  # 0: the recipe's


SIZES = {  # dimension, FFN, heads, fairseq's architecture and what that has otherwise
    "_iwslt_de_en": (512, 1024, 4, "transformer_iwslt_de_en", {}),
    "_wmt_en_de": (512, 2048, 8, "transformer_wmt_en_de", {}),
    "_tiny": (
        *(64, 128, 2, "transformer_tiny"),
        {"encoder_ffn_embed_dim": 128, "decoder_ffn_embed_dim": 128},
    ),
}
SCHEMES = {  # architecture's family and the scheme that the built model has
    "postln": ("postln_transformer", "default"),
    "preln": ("preln_transformer", "default"),
    "postln_preln": ("postln_transformer", "default"),
    "admin": ("admin_transformer", "adaptive-auto"),
    "admin_torch": ("admin_transformer", "admin-torch"),
    "deepnet": ("admin_transformer", "deepnet"),
    "rezero": ("rezero_transformer", "rezero"),
    "tfixup": ("tfixup_transformer", "tfixup"),
}
NO_NORM = {"rezero", "tfixup"}

IWSLT, EN_DE, EN_FR = "admin/iwslt14_de_en", "admin/wmt14_en_de", "admin/wmt14_en_fr"
TFIXUP = "tfixup/iwslt14_de_en"
ADMIN_TORCH, HUGE = "admin-torch/wmt14_en_de", "admin-torch/wmt14_en_de/huge"
SWEPT = {"optimization.lr": [1e-4], "optimizer.adam_betas": "(0.9, 0.99)"}
COMPARED = {"optimization.max_epoch": 45}  # admin-torch's README evaluates with "45 10"
# there --init-type stands in place of the scripts' fourth argument, which asks for these
ALONE = {"model.omega_trainable": False, "model.share_all_embeddings": False}


def _rows():
    for scheme in ("postln", "preln", "admin", "rezero"):
        yield f"iwslt14_de_en/{scheme}_6l_6l", Row(IWSLT, scheme, (6, 6))
    for scheme in ("postln", "preln", "admin"):
        yield (
            f"iwslt14_de_en/no_warmup_{scheme}",
            Row(f"{IWSLT}/no_warmup", scheme, (6, 6), SWEPT),
        )
        for depth in (6, 12, 18):
            yield f"wmt14_en_de/{scheme}_{depth}l_{depth}l", Row(EN_DE, scheme, (depth, depth))
        yield f"wmt14_en_fr/{scheme}_6l_6l", Row(EN_FR, scheme, (6, 6))
        yield f"wmt14_en_fr/{scheme}_60l_12l", Row(f"{EN_FR}/60l", scheme, (60, 12))
    yield "wmt14_en_de/admin_60l_12l", Row(EN_DE, "admin", (60, 12))
    for depth in (6, 12, 200):
        yield f"iwslt14_de_en/tfixup_{depth}l_{depth}l", Row(TFIXUP, "tfixup", (depth, depth))
    yield "wmt14_en_de/admin_100l_100l", Row(f"{EN_DE}/100l", "admin", (100, 100))
    yield "wmt14_en_de/postln_preln_18l_18l", Row(EN_DE, "postln_preln", (18, 18))
    for depth, recipe in ((6, ADMIN_TORCH), (18, ADMIN_TORCH), (100, HUGE)):
        name = f"wmt14_en_de/admin_torch_{depth}l_{depth}l"
        yield name, Row(recipe, "admin_torch", (depth, depth))
    for scheme, but in (("admin", ALONE), ("deepnet", ALONE), ("admin_torch", {})):
        for batch, recipe in (("8x4096", ADMIN_TORCH), ("128x4096", HUGE)):
            name = f"wmt17_en_de/{scheme}_{batch}"
            yield name, Row(recipe, scheme, (100, 100), {**but, **COMPARED})
    tokens = {"dataset.max_tokens": 4096, "optimization.update_freq": [16]}
    other = {"task.source_lang": "en", "task.target_lang": "de", "model.dropout": 0.1, **COMPARED}
    yield "wmt17_en_de/tfixup_6l_6l", Row(TFIXUP, "tfixup", (6, 6), {**tokens, **other}, gpus=8)


ROWS = dict(_rows())
rows = pytest.mark.parametrize("name", ROWS)


SCHEMA = OmegaConf.structured(FairseqConfig)


def hydra_composes(name, *overrides):
    """The row and its files."""
    dataset, row = name.split("/")
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONFIGS / dataset), **VERSION):
        return compose(row, overrides=["task.data=DATA", *overrides])


@cache
def composed(name):
    """The configuration of a row as it reaches fairseq; nobody changes it.

    fairseq-hydra-train has hydra merge every file into the schema, which takes seconds a row.
    """
    return OmegaConf.merge(SCHEMA, hydra_composes(name))


def test_composing_into_fairseqs_schema_gives_the_same():
    name = "wmt14_en_de/admin_torch_100l_100l"
    expected = composed(name)
    hydra_init("admin_torch_100l_100l")
    assert hydra_composes(name) == expected


def pre_ln_of(row):
    """Whether encoder and decoder are Pre-LN."""
    return {"preln": (True, True), "postln_preln": (False, True)}.get(row.scheme, (False, False))


def arch(name):
    size = "_iwslt_de_en" if name.startswith("iwslt14") else "_wmt_en_de"
    if "200l" in name:
        size = "_tiny"
    return SCHEMES[ROWS[name].scheme][0], size


def test_the_committed_rows_are_those_of_the_table():
    """If not, run: admin-fairseq configs configs"""
    committed = {
        str(path.relative_to(CONFIGS)): path.read_text()
        for folder in ("base", *DATASETS)
        for path in (CONFIGS / folder).glob("*.yaml")
    }
    assert committed == rows_module.row_files(), "run: admin-fairseq configs configs"


def test_there_is_a_row_for_every_score_and_no_other():
    files = {f"{d}/{path.stem}" for d in DATASETS for path in (CONFIGS / d).glob("*.yaml")}
    assert files == {*ROWS, *OF_OTHERS}
    for score in scores.SCORES:
        layers = score["encoder_layers"], score["decoder_layers"]
        scheme = score["scheme"].replace("-", "_")
        row = ROWS["{}/{}_{}l_{}l".format(score["dataset"], scheme, *layers)]
        assert (row.scheme, row.layers) == (scheme, layers)


def test_rows_of_admin_torch_have_the_scores_of_its_first_table():
    for depth, bleu in ((6, 27.84), (18, 28.91), (100, 29.65)):
        model = composed(f"wmt14_en_de/admin_torch_{depth}l_{depth}l").model
        found = scores.score("wmt14_en_de", "admin-torch", (depth, depth), model)
        assert found["bleu"] == bleu


def test_every_recipe_has_its_rows():
    assert {row.recipe for row in ROWS.values()} == set(PUBLISHED["recipes"])


@rows
def test_a_row_has_its_published_settings(name):
    row, config = ROWS[name], composed(name)
    recipe = PUBLISHED["recipes"][row.recipe]
    wanted = {**recipe["settings"], **row.but}
    assert {key: OmegaConf.select(config, key) for key in wanted} == wanted
    assert config.common.seed == recipe.get("seeds", [1111])[0]
    assert config.distributed_training.distributed_world_size == (row.gpus or recipe["gpus"])


@rows
def test_a_row_ends_with_the_checkpoints_that_are_averaged(name):
    row, config = ROWS[name], composed(name)
    decode = PUBLISHED["recipes"][row.recipe]["decode"]
    if "last_epoch" in decode and "optimization.max_epoch" not in row.but:
        assert config.optimization.max_epoch == decode["last_epoch"]
    assert config.optimization.max_epoch > 0
    assert config.checkpoint.keep_last_epochs == decode["average"]
    assert not config.checkpoint.no_epoch_checkpoints


@rows
def test_fairseq_takes_a_row(name):
    """The options that hydra does not know are known to the plugin, once it is imported."""
    config = OmegaConf.create(OmegaConf.to_container(composed(name)))
    add_defaults(config)
    assert not OmegaConf.select(config, "common.cpu")
    assert config.common.user_dir == "admin_fairseq"
    assert (config.common.log_format, config.common.log_interval) == ("simple", 100)
    assert config.task._name == "translation" and config.task.data == "DATA"
    assert config.optimizer.lr == config.optimization.lr
    assert config.lr_scheduler.lr == config.optimization.lr
    assert config.model._name == "".join(arch(name))


def documented_command(row):
    """The words of the command in a row's head."""
    text = (CONFIGS / row).read_text()
    comment = [line[1:] for line in text.splitlines() if line.startswith("#   ")]
    return shlex.split("".join(line.rstrip("\\") for line in comment), comments=True)


def test_the_documented_sweep_is_the_published_one():
    words = documented_command("iwslt14_de_en/no_warmup_admin.yaml")
    overrides = OverridesParser.create().parse_overrides([w for w in words if "=" in w])
    sweeps = {
        override.key_or_group: [yaml.safe_load(v) for v in override.sweep_string_iterator()]
        for override in overrides
        if override.is_sweep_override()
    }
    published = PUBLISHED["recipes"][f"{IWSLT}/no_warmup"]["sweep"]
    # YAML takes 1e-4, which has no dot, for a word
    sweeps["optimization.lr"] = [[float(lr)] for (lr,) in sweeps["optimization.lr"]]
    assert sweeps == published


B2T, DLCL = "wmt14_en_de/b2t_18l_18l", "wmt14_en_de/dlcl_30l_6l"
OF_OTHERS = {  # row of another paper → settings of its authors' command, and its depths
    B2T: (
        {
            "common.fp16": True,
            "common.fp16_scale_window": None,
            "common.threshold_loss_scale": None,
            "common.seed": 1,
            "optimizer._name": "adam",
            "optimizer.adam_betas": "(0.9, 0.98)",
            "optimizer.weight_decay": 0.0,
            "lr_scheduler._name": "inverse_sqrt",
            "lr_scheduler.warmup_updates": 4000,
            "lr_scheduler.warmup_init_lr": 1e-7,
            "optimization.lr": [1e-3],
            "optimization.clip_norm": 0.1,
            "optimization.max_update": 50000,
            "optimization.max_epoch": 0,
            "optimization.update_freq": [16],
            "dataset.max_tokens": 3584,
            "checkpoint.keep_last_epochs": 10,
            "model.dropout": 0.5,
            "model.attention_dropout": 0.0,
            "model.activation_dropout": 0.0,
            "model.share_all_embeddings": True,
        },
        (18, 18),
    ),
    DLCL: (
        {
            "common.fp16": False,
            "common.seed": 1,
            "optimizer._name": "adam",
            "optimizer.adam_betas": "(0.9, 0.997)",
            "optimizer.weight_decay": 0.0,
            "lr_scheduler._name": "inverse_sqrt",
            "lr_scheduler.warmup_updates": 16000,
            "lr_scheduler.warmup_init_lr": 1e-7,
            "optimization.lr": [2e-3],
            "optimization.clip_norm": 0.0,
            "optimization.max_epoch": 20,
            "optimization.max_update": 0,
            "optimization.update_freq": [2],
            "dataset.max_tokens": 4096,
            "checkpoint.keep_last_epochs": 5,
            "model.dropout": 0.1,
            "model.attention_dropout": 0.1,
            "model.activation_dropout": 0.1,
            "model.share_all_embeddings": True,
        },
        (30, 6),
    ),
}


OF_OTHERS["wmt14_en_de/b2t_6l_6l"] = ({**OF_OTHERS[B2T][0], "model.dropout": 0.3}, (6, 6))
OF_OTHERS["wmt14_en_de/b2t_100l_100l"] = (
    {**OF_OTHERS[B2T][0], "optimization.max_update": 25000},
    (100, 100),
)


@pytest.mark.parametrize("name", OF_OTHERS)
def test_fairseq_takes_a_row_of_another_paper(name):
    settings, layers = OF_OTHERS[name]
    config = composed(name)
    assert {key: OmegaConf.select(config, key) for key in settings} == settings
    assert (config.task.source_lang, config.task.target_lang) == ("en", "de")
    assert config.distributed_training.distributed_world_size == 8
    model = _built_with(config)
    add_defaults(OmegaConf.create(OmegaConf.to_container(config)))
    assert model.cfg.init_type == ("b2t" if "b2t" in name else "dlcl")
    assert (len(model.encoder.layers), len(model.decoder.layers)) == layers
    assert model.encoder.layers[0].fc1.weight.shape == (2048, 512)
    assert model.encoder.layers[0].dropout_module.p == settings["model.dropout"]


# fairseq 0.12.2 has copies of an encoder layer's weights
COPY = re.compile(r"layers\.\d+\.\w+_(weight|bias)$")


def _dictionary(words):
    dictionary = Dictionary()
    for word in range(words):
        dictionary.add_symbol(str(word))
    return dictionary


JOINED = SimpleNamespace(source_dictionary=_dictionary(9), target_dictionary=_dictionary(9))
SEPARATE = SimpleNamespace(source_dictionary=_dictionary(9), target_dictionary=_dictionary(5))


def _shapes(model):
    shapes = {name: tuple(weight.shape) for name, weight in held(model).items()}
    return {name: shape for name, shape in shapes.items() if not COPY.search(name)}


@cache
def _built(model):
    """The model with these options (JSON, so that rows that share a model build it once)."""
    options = json.loads(model)
    task = JOINED if options.get("share_all_embeddings") else SEPARATE
    with torch.device("meta"):
        return build_model(OmegaConf.create(options), task)


@cache
def _stock(size, layers, shared, tied, pre_ln):
    """Names and shapes in fairseq's own architecture."""
    *_, name, otherwise = SIZES[size]
    options = Namespace(
        **otherwise,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_normalize_before=pre_ln[0],
        decoder_normalize_before=pre_ln[1],
        share_all_embeddings=shared,
        share_decoder_input_output_embed=tied,
    )
    ARCH_CONFIG_REGISTRY[name](options)
    with torch.device("meta"):
        return _shapes(TransformerModel.build_model(options, JOINED if shared else SEPARATE))


def _built_with(config):
    return _built(json.dumps(OmegaConf.to_container(config.model), sort_keys=True))


def _built_row(name):
    return _built_with(composed(name))


@rows
def test_a_row_builds_the_published_model(name):
    row, config, model = ROWS[name], composed(name).model, _built_row(name)
    dim, ffn, heads, *_ = SIZES[arch(name)[1]]
    assert model.cfg.init_type == SCHEMES[row.scheme][1]
    for stack, depth, pre_ln in zip((model.encoder, model.decoder), row.layers, pre_ln_of(row)):
        assert len(stack.layers) == depth
        norm = Norm.NONE if row.scheme in NO_NORM else Norm.PRE if pre_ln else Norm.POST
        for layer in stack.layers:
            assert set(layer.norms.values()) == {norm}
            assert layer.fc1.weight.shape == (ffn, dim)
            assert layer.self_attn.num_heads == heads
            assert layer.dropout_module.p == config.dropout
            assert layer.self_attn.dropout_module.p == config.attention_dropout
            assert layer.activation_dropout_module.p == config.activation_dropout


@rows
def test_a_row_has_the_parameters_of_fairseqs_own_model_and_its_schemes(name):
    row, model, config = ROWS[name], _built_row(name), composed(name).model
    size = arch(name)[1]
    dim = SIZES[size][0]
    encoder, decoder = row.layers
    sublayers = 2 * encoder + 3 * decoder
    shared, tied = (
        bool(config.get(f"share_{which}"))
        for which in ("all_embeddings", "decoder_input_output_embed")
    )
    stock = _stock(size, row.layers, shared, shared or tied, pre_ln_of(row))
    own = 0
    if row.scheme in ("admin", "admin_torch", "deepnet"):
        own = sublayers * dim
    elif row.scheme == "rezero":
        own = encoder + decoder
    if row.scheme in NO_NORM:
        stock = {key: shape for key, shape in stock.items() if "layer_norm" not in key}
    ours = _shapes(model)
    added = {key for key in ours if ".residuals." in key}
    assert {key: ours[key] for key in ours if key not in added} == stock
    assert sum(ours[key][0] for key in added) == own
