import re
from argparse import Namespace
from dataclasses import MISSING, fields

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.models.transformer import transformer_config as stock
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from omegaconf import OmegaConf

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import (
    CONFIGS,
    UNSUPPORTED_OPTIONS,
    AdminTransformerConfig,
    architecture,
    resolve,
)
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES

FAMILIES = {
    "admin_transformer": "adaptive-auto",
    "postln_transformer": "default",
    "preln_transformer": "default",
    "tfixup_transformer": "tfixup",
    "fixup_transformer": "fixup",
    "rezero_transformer": "rezero",
    "subln_transformer": "subln",
    "b2t_transformer": "b2t",
    "dlcl_transformer": "dlcl",
}
PRE = {"preln_transformer", "subln_transformer", "dlcl_transformer"}
STOCK_ARCHITECTURES = {
    "": "transformer_wmt_en_de",
    "_iwslt_de_en": "transformer_iwslt_de_en",
    "_wmt_en_de": "transformer_wmt_en_de",
    "_wmt_en_de_big": "transformer_wmt_en_de_big",
}
STOCK_LANGUAGE_MODELS = {
    "_lm_gpt": "transformer_lm_gpt",
    "_lm_big": "transformer_lm_big",
}
SUFFIXES = [
    *(*STOCK_ARCHITECTURES, "_tiny"),
    *(*STOCK_LANGUAGE_MODELS, "_lm", "_lm_tiny"),
    *("_mlm", "_mlm_tiny", "_mlm_base"),
]
SIZES = [
    f"{stack}_{size}"
    for stack in ("encoder", "decoder")
    for size in ("embed_dim", "ffn_embed_dim", "attention_heads", "layers")
]
DECIDED_BY_ARCHITECTURE = {
    *SIZES,
    "decoder_input_dim",
    "decoder_output_dim",
    "dropout",
    "attention_dropout",
    "activation_fn",
}


def resolved(arch="admin_transformer", **given):
    return resolve(CONFIGS[ARCHITECTURES[arch].model](_name=arch, **given))


def typed(*words):
    """The options of `fairseq-train data WORDS`, before hydra spends a third of a second."""
    args = options.parse_args_and_arch(options.get_training_parser(), ["data", *words])
    args._name = args.arch
    return args


def parsed(*words):
    """What `fairseq-train data WORDS` hands to build_model."""
    return convert_namespace_to_omegaconf(typed(*words)).model


def stock_options():
    """Every option of fairseq's transformer: (name on our command line, its field)."""
    nested = {
        "encoder": stock.EncDecBaseConfig,
        "decoder": stock.DecoderConfig,
        "quant_noise": stock.QuantNoiseConfig,
    }
    for option in fields(stock.TransformerConfig):
        if option.name in nested:
            for inner in fields(nested[option.name]):
                if inner.name != "_name":
                    yield f"{option.name}_{inner.name}", inner
        elif option.name != "_name":
            yield option.name, option


ALL_STOCK_OPTIONS = {
    "admin_transformer": dict(stock_options()),
    "admin_transformer_lm": {
        option.name: option
        for option in fields(TransformerLanguageModelConfig)
        if option.name != "_name"
    },
}
STOCK_OPTIONS = {
    model: {name: option for name, option in options.items() if name not in UNSUPPORTED_OPTIONS}
    for model, options in ALL_STOCK_OPTIONS.items()
}


# Architectures


def test_every_family_has_every_size():
    assert set(ARCHITECTURES) == {family + suffix for family in FAMILIES for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", STOCK_ARCHITECTURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_architecture_has_the_options_of_the_stock_one(family, suffix):
    expected = Namespace()
    ARCH_CONFIG_REGISTRY[STOCK_ARCHITECTURES[suffix]](expected)
    if family in PRE:
        expected.encoder_normalize_before = expected.decoder_normalize_before = True
    ours = vars(resolved(family + suffix))
    shared = {name: value for name, value in vars(expected).items() if name in ours}
    assert set(shared) >= DECIDED_BY_ARCHITECTURE
    assert {name: ours[name] for name in shared} == shared


@pytest.mark.parametrize("suffix", STOCK_LANGUAGE_MODELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_language_model_has_the_options_of_the_stock_one(family, suffix):
    expected = Namespace()
    ARCH_CONFIG_REGISTRY[STOCK_LANGUAGE_MODELS[suffix]](expected)
    # the stock architectures are Pre-LN throughout; fairseq's older ones leave this one open
    expected.decoder_normalize_before = family in PRE
    ours = vars(resolved(family + suffix))
    shared = {name: value for name, value in vars(expected).items() if name in ours}
    shared.pop("add_bos_token")  # the task's
    decoders = {size for size in DECIDED_BY_ARCHITECTURE if not size.startswith("encoder")}
    assert set(shared) >= decoders
    assert {name: ours[name] for name in shared} == shared


def test_language_model_has_the_sizes_of_fairseqs_by_default():
    ours, theirs = resolved("postln_transformer_lm"), TransformerLanguageModelConfig()
    for name in ("embed_dim", "ffn_embed_dim", "attention_heads", "layers", "output_dim"):
        assert getattr(ours, f"decoder_{name}") == getattr(theirs, f"decoder_{name}")
    assert (ours.dropout, ours.activation_fn) == (theirs.dropout, theirs.activation_fn)


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_language_model_has_the_sizes_of_roberta(family):
    expected = Namespace()
    ARCH_CONFIG_REGISTRY["roberta_base"](expected)
    ours = vars(resolved(f"{family}_mlm_base"))
    for name in (*SIZES[:4], "dropout", "attention_dropout", "activation_dropout", "activation_fn"):
        assert ours[name] == getattr(expected, name), name
    small = [resolved(family + suffix) for suffix in ("_mlm", "_mlm_tiny")]
    assert [[getattr(config, size) for size in SIZES[:4]] for config in small] == [
        [512, 2048, 8, 6],
        [64, 128, 2, 6],
    ]
    assert {config.activation_fn for config in small} == {"gelu"}


def test_masked_language_model_has_no_options_of_a_decoder():
    config = resolved("admin_transformer_mlm", max_positions=96)
    assert not [name for name in vars(config) if "decoder" in name and "subln" not in name]
    assert config.depths == (6, 0) and config.stacks == ("encoder",)
    assert config.max_source_positions == 96
    assert resolved("admin_transformer_mlm").max_source_positions == 1024


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_is_that_of_tfixups_ultra_deep_study(family):
    config = resolved(f"{family}_tiny")
    assert [getattr(config, size) for size in SIZES] == [64, 128, 2, 6] * 2
    assert (config.dropout, config.attention_dropout) == (0.1, 0.0)
    lm = resolved(f"{family}_lm_tiny")
    assert [getattr(lm, size) for size in SIZES[4:]] == [64, 128, 2, 6]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_stands_for_its_scheme(arch):
    family = next(family for family in FAMILIES if arch.startswith(family))
    config = resolved(arch)
    assert config.init_type == FAMILIES[family]
    for stack in config.stacks:
        assert getattr(config, f"{stack}_normalize_before") is (family in PRE)


# models' own names have another way in
@pytest.mark.parametrize("arch", [a for a in ARCHITECTURES if a not in CONFIGS])
def test_architecture_completes_an_empty_namespace(arch):
    namespace = Namespace()
    ARCH_CONFIG_REGISTRY[arch](namespace)
    config = resolved(arch)
    stack = config.stacks[-1]
    assert set(vars(namespace)) >= {f"{stack}_layers", f"{stack}_embed_dim", "dropout", "init_type"}
    for name, value in vars(namespace).items():
        assert getattr(config, name) == value, name


# What the user gives wins


def test_decoder_follows_the_sizes_of_the_encoder():
    config = resolved(encoder_embed_dim=96, encoder_ffn_embed_dim=160, encoder_attention_heads=3)
    assert config.decoder_embed_dim == config.decoder_input_dim == config.decoder_output_dim == 96
    assert config.decoder_ffn_embed_dim == 160
    assert config.decoder_attention_heads == 3


def test_decoder_keeps_the_sizes_it_is_given():
    config = resolved(encoder_embed_dim=96, decoder_embed_dim=64, decoder_output_dim=32)
    assert (config.encoder_embed_dim, config.decoder_embed_dim) == (96, 64)
    assert (config.decoder_input_dim, config.decoder_output_dim) == (64, 32)


@pytest.mark.parametrize("given", [{"encoder_layers": 12}, {"decoder_layers": 3}])
def test_depths_are_independent(given):
    expected = {"encoder_layers": 6, "decoder_layers": 6, **given}
    config = resolved(**given)
    assert {depth: getattr(config, depth) for depth in expected} == expected


def test_zero_is_a_value_too():
    assert resolved(dropout=0.0).dropout == 0.0
    assert resolved("admin_transformer_wmt_en_de_big", attention_dropout=0.0).attention_dropout == 0


@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("decoder", [False, True])
def test_default_lets_each_stack_choose_its_norm(encoder, decoder):
    config = resolved(
        init_type="default", encoder_normalize_before=encoder, decoder_normalize_before=decoder
    )
    assert config.encoder_normalize_before is encoder
    assert config.decoder_normalize_before is decoder


# Contradictions


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            "--arch preln_transformer --init-type adaptive",
            ["--arch preln_transformer", "--init-type adaptive", "Pre-LN", "Post-LN"],
        ),
        (
            "--arch preln_transformer --init-type tfixup",
            ["--arch preln_transformer", "--init-type tfixup"],
        ),
        (
            "--arch postln_transformer --init-type tfixup",
            ["--arch postln_transformer", "--init-type tfixup"],
        ),
        (
            "--arch tfixup_transformer_tiny --init-type adaptive",
            ["--arch tfixup_transformer_tiny", "--init-type adaptive"],
        ),
        (
            "--arch tfixup_transformer --init-type default",
            ["--arch tfixup_transformer", "--init-type default"],
        ),
        (
            "--arch admin_transformer --init-type adaptive --encoder-normalize-before",
            ["--encoder-normalize-before", "--init-type adaptive"],
        ),
        (
            "--arch admin_transformer --decoder-normalize-before",
            ["--decoder-normalize-before", "--init-type adaptive-auto"],
        ),
        (
            "--arch admin_transformer --init-type tfixup --encoder-normalize-before",
            ["--encoder-normalize-before", "--init-type tfixup"],
        ),
        (
            "--arch tfixup_transformer --layernorm-embedding",
            ["--layernorm-embedding", "--init-type tfixup"],
        ),
        ("--arch admin_transformer --profile-batches 0", ["--profile-batches"]),
        (
            "--arch subln_transformer_tiny --init-type adaptive",
            ["Sub-LN", "Post-LN", "use --arch admin_transformer_tiny --init-type adaptive"],
        ),
        (
            "--arch preln_transformer --init-type b2t",
            ["--arch preln_transformer", "--init-type b2t", "Pre-LN", "B2T"],
        ),
        (
            "--arch b2t_transformer --decoder-normalize-before",
            ["--decoder-normalize-before", "--init-type b2t"],
        ),
        (
            "--arch dlcl_transformer --encoder-layerdrop 0.1",
            ["--encoder-layerdrop", "--init-type dlcl"],
        ),
        (
            "--arch dlcl_transformer --decoder-layerdrop 0.1",
            ["--decoder-layerdrop", "--init-type dlcl"],
        ),
        (
            "--task language_modeling --arch dlcl_transformer_lm --decoder-layerdrop 0.1",
            ["--decoder-layerdrop", "--init-type dlcl"],
        ),
        (
            "--arch postln_transformer --omega-trainable",
            ["--omega-trainable", "--init-type admin-torch", "--init-type default"],
        ),
        (
            "--arch postln_transformer --init-type dsinit --output-change-scale O(1)",
            ["--output-change-scale", "--init-type admin-torch", "--init-type dsinit"],
        ),
        (
            "--arch admin_transformer --branchnorm-updates 7",
            ["--branchnorm-updates", "--init-type branchnorm", "--init-type adaptive-auto"],
        ),
        (
            "--arch admin_transformer --init-type branchnorm --branchnorm-updates 0",
            ["--branchnorm-updates"],
        ),
        (
            "--task language_modeling --arch postln_transformer_lm --decoder-normalize-before",
            ["--decoder-normalize-before", "use --arch preln_transformer_lm"],
        ),
        (
            "--task language_modeling --arch preln_transformer_lm_tiny --init-type adaptive",
            ["use --arch admin_transformer_lm_tiny --init-type adaptive"],
        ),
        (
            "--task masked_lm --arch preln_transformer_mlm --init-type adaptive",
            ["use --arch admin_transformer_mlm --init-type adaptive"],
        ),
        (
            "--task masked_lm --arch tfixup_transformer_mlm --layernorm-embedding",
            ["--layernorm-embedding", "--init-type tfixup"],
        ),
        ("--task masked_lm --arch admin_transformer_lm", ["--task language_modeling", "masked_lm"]),
        (
            "--task language_modeling --arch admin_transformer_mlm",
            ["--task language_modeling", "--task masked_lm"],
        ),
        (
            "--task sentence_prediction --arch admin_transformer_lm",
            ["--task language_modeling", "--task sentence_prediction"],
        ),
    ],
)
def test_contradiction_is_told_in_one_line(words, named):
    with pytest.raises(AdminError) as error:
        resolve(typed(*words.split()))
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert [option for option in named if option not in message] == []


def test_contradiction_names_an_architecture_that_takes_the_scheme():
    with pytest.raises(AdminError, match="use --arch admin_transformer_tiny --init-type adaptive"):
        resolved("preln_transformer_tiny", init_type="adaptive")
    assert resolved("admin_transformer_tiny", init_type="adaptive").encoder_embed_dim == 64


# Numbers


@pytest.mark.parametrize("wrong", [0, -1, 10_001, 10**26, "6", True, 6.0])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_depths_are_bounded(stack, wrong):
    with pytest.raises(AdminError, match=f"--{stack}-layers takes a whole number from 1 to 10,000"):
        resolved(**{f"{stack}_layers": wrong})


def test_ten_thousand_layers_are_allowed():
    assert resolved(encoder_layers=10_000, decoder_layers=1000).depths == (10_000, 1000)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("encoder_embed_dim", 0),
        ("decoder_embed_dim", -4),
        ("encoder_embed_dim", 2),  # sinusoidal positions divide by 0
        ("encoder_embed_dim", 10**9),
        ("encoder_ffn_embed_dim", 0),
        ("decoder_ffn_embed_dim", 10**9),
        ("encoder_attention_heads", 0),
        ("decoder_output_dim", -1),
        ("dropout", 2.0),
        ("dropout", float("nan")),
        ("attention_dropout", -0.1),
        ("activation_dropout", "x"),
        ("encoder_layerdrop", 2.0),
        ("max_source_positions", 0),
        ("max_target_positions", 10**12),
        ("max_target_positions", "x"),
        ("adaptive_softmax_dropout", 7.0),
        ("adaptive_softmax_factor", 0.0),
        ("quant_noise_pq", 1.5),
        ("quant_noise_pq_block_size", 0),
        ("min_params_to_wrap", -1),
        ("profile_batches", 10**30),
    ],
)
def test_numbers_that_no_model_has_are_named(option, wrong):
    with pytest.raises(AdminError, match=f"--{option.replace('_', '-')} takes a"):
        resolved(**{option: wrong})


def test_heads_divide_the_dimension():
    with pytest.raises(AdminError, match="--decoder-attention-heads 3 does not divide --decoder-e"):
        resolved("admin_transformer_tiny", decoder_attention_heads=3)


@pytest.mark.parametrize("cutoffs", ["4,6", "[4, 6]", [4, 6]])
def test_cutoffs_may_be_text(cutoffs):
    assert resolved(adaptive_softmax_cutoff=cutoffs).adaptive_softmax_cutoff == [4, 6]


@pytest.mark.parametrize("wrong", ["", "x", "[]", [6, 4], [4, 4], [0], "__import__('os').abort()"])
def test_wrong_cutoffs_are_told_and_never_run(wrong):
    told = re.escape("" if wrong == "[]" else str(wrong))
    with pytest.raises(AdminError, match=rf"--adaptive-softmax-cutoff.*{told}"):
        resolved(adaptive_softmax_cutoff=wrong)


def test_a_precision_that_is_not_there_is_told():
    """A checkpoint may name any."""
    assert resolved(autocast="bfloat16").autocast == "bfloat16"
    with pytest.raises(AdminError, match="unknown --autocast float16; choose bfloat16"):
        resolved(autocast="float16")


@pytest.mark.parametrize("wrong", ["heads, attn", "x", "", None, 3])
def test_parts_of_normformer_that_are_not_there_are_told(wrong):
    with pytest.raises(AdminError, match=f"takes heads, attn and fc, .* not {wrong!r}$"):
        resolved(init_type="normformer", normformer_parts=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_embed_dim": 32, "share_all_embeddings": True}, "--encoder-embed-dim to match"),
        ({"adaptive_softmax_cutoff": [10**6]}, "cutoff larger than vocab size"),
        ({"quant_noise_pq": 0.1, "quant_noise_pq_block_size": 7}, "multiple of block sizes"),
        ({"encoder_embed_path": "nowhere.vec"}, "nowhere.vec"),
    ],
)
def test_what_fairseq_finds_wrong_is_told_in_one_line(options, message, build):
    with pytest.raises(AdminError, match=message) as error:
        build("postln_transformer_tiny", **options)
    assert len(str(error.value).splitlines()) == 1


# The command line


@pytest.mark.parametrize("init_type", SCHEMES)
def test_admin_transformer_takes_every_scheme(init_type):
    model = typed("--arch", "admin_transformer", "--init-type", init_type)
    assert resolve(model).init_type == init_type


def test_command_line_reaches_the_model():
    words = (
        "--arch admin_transformer_iwslt_de_en --encoder-layers 12 --decoder-layers 3 --dropout 0.3 "
        "--share-all-embeddings --profile-path ratios --profile-batches 4"
    )
    config = resolve(parsed(*words.split()))
    assert (config.encoder_layers, config.decoder_layers, config.dropout) == (12, 3, 0.3)
    assert (config.encoder_embed_dim, config.encoder_ffn_embed_dim) == (512, 1024)
    assert config.share_all_embeddings
    assert (config.profile_path, config.profile_batches) == ("ratios", 4)


def test_a_schemes_own_options_reach_it():
    words = "--init-type admin-torch --output-change-scale O(1) --omega-trainable"
    config = resolve(parsed("--arch", "admin_transformer", *words.split()))
    assert (config.output_change_scale, config.omega_trainable) == ("O(1)", True)
    residual = config.scheme.residual(2)
    assert residual.omega.requires_grad
    words = "--init-type branchnorm --branchnorm-updates 7"
    config = resolve(parsed("--arch", "admin_transformer", *words.split()))
    assert config.scheme.residual(2).updates == 7


def test_unknown_output_change_scale():
    with pytest.raises(AdminError, match=r"choose from O\(logn\), O\(1\), O\(n\)"):
        resolved(init_type="admin-torch", output_change_scale="O(n2)")


def test_command_line_and_dataclass_agree():
    assert resolve(parsed("--arch", "preln_transformer_wmt_en_de_big")) == resolved(
        "preln_transformer_wmt_en_de_big"
    )


def test_unknown_scheme_is_refused_by_the_parser(capsys):
    with pytest.raises(SystemExit):
        parsed("--arch", "admin_transformer", "--init-type", "adaptive-profile")
    assert "--init-type" in capsys.readouterr().err


# fairseq's options


def test_unsupported_options_are_fairseqs_and_not_ours():
    assert {
        name for options in ALL_STOCK_OPTIONS.values() for name in options
    } >= UNSUPPORTED_OPTIONS
    for config in CONFIGS.values():
        assert not UNSUPPORTED_OPTIONS & {option.name for option in fields(config)}


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model in STOCK_OPTIONS for name in STOCK_OPTIONS[model]]
)
def test_stock_option_is_ours_too(model, name):
    theirs = STOCK_OPTIONS[model][name]
    ours = CONFIGS[model].__dataclass_fields__[name]
    default = theirs.default_factory() if theirs.default is MISSING else theirs.default
    assert ours.default == (None if name in DECIDED_BY_ARCHITECTURE else default)
    assert dict(ours.metadata) == dict(theirs.metadata)


@pytest.mark.parametrize(
    "arch", ["admin_transformer", "admin_transformer_lm", "admin_transformer_mlm"]
)
def test_offloading_is_of_checkpointed_activations(arch):
    assert resolved(arch, offload_activations=True).checkpoint_activations
    assert not resolved(arch).checkpoint_activations


def test_nested_holds_every_option():
    config = resolved(profile_path="ratios")
    for number, name in enumerate(
        STOCK_OPTIONS["admin_transformer"], start=1000
    ):  # every option a value of its own
        setattr(config, name, number)
    nested = config.nested()
    assert isinstance(nested, stock.TransformerConfig)
    assert nested.encoder.layers == config.encoder_layers
    assert nested.decoder.ffn_embed_dim == config.decoder_ffn_embed_dim
    assert nested.quant_noise.pq_block_size == config.quant_noise_pq_block_size
    for option in fields(AdminTransformerConfig):
        assert getattr(nested, option.name) == getattr(config, option.name), option.name


def test_a_scheme_of_a_later_version_is_told_wherever_options_come_from():
    for config in (
        Namespace(init_type="adaptive-2030"),
        OmegaConf.create({"init_type": "adaptive-2030"}),
    ):
        with pytest.raises(AdminError, match="unknown --init-type adaptive-2030; choose from "):
            architecture("admin_transformer")(config)


def test_admin_means_adaptive_auto_wherever_options_come_from():
    namespace = Namespace(init_type="admin")
    architecture("admin_transformer")(namespace)
    assert namespace.init_type == "adaptive-auto"
    assert (
        parsed("--arch", "admin_transformer", "--init-type", "admin").init_type == "adaptive-auto"
    )
    assert resolved("admin_transformer_lm", init_type="admin").init_type == "adaptive-auto"
    with pytest.raises(AdminError, match="--arch preln_transformer stands for Pre-LN"):
        resolved("preln_transformer", init_type="admin")


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("sentence_prediction", {}, 512),
        ("sentence_prediction", {"max_positions": 24}, 24),
        ("masked_lm", {}, None),  # from --tokens-per-sample
    ],
)
def test_positions_follow_the_task(task, given, expected):
    args = Namespace(task=task, init_type="default", **given)
    ARCH_CONFIG_REGISTRY["admin_transformer_mlm_tiny"](args)
    assert getattr(args, "max_positions", None) == expected
