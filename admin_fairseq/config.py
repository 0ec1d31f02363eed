"""The models' options: those of fairseq's transformer, with flat names, and the plugin's own.

A flat name is one as on the command line: encoder_layers, not encoder.layers.

Options that the architecture's name determines (sizes, scheme) have the default None and are filled
in by ``apply_architecture``, so that ``--arch`` and hydra's ``model=`` work alike.
"""

import re
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from importlib.util import find_spec
from typing import Any, Callable, Iterator, List, Optional, Tuple

from fairseq import utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models.transformer import DEFAULT_MAX_SOURCE_POSITIONS, TransformerConfig
from fairseq.models.transformer_lm import DEFAULT_MAX_TARGET_POSITIONS
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import II, OmegaConf, open_dict

from admin_fairseq import bounds
from admin_fairseq.architectures import ARCHITECTURES, MODELS
from admin_fairseq.bounds import SHARE, Bounds, counting, numbers, spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES, Norm, Scheme, scheme_of

AUTOCAST = ["bfloat16"]
"""The values of --autocast."""
# Options that our layers do not have, or that fairseq itself cannot read from a command line.
UNSUPPORTED_OPTIONS = {
    "adaptive_input",
    "adaptive_input_cutoff",
    "adaptive_input_factor",
    "base_layers",
    "base_shuffle",
    "base_sublayers",
    "char_embedder_highway_layers",
    "char_inputs",
    "character_embedding_dim",
    "character_embeddings",
    "character_filters",
    "cross_self_attention",
    "decoder_layers_to_keep",
    "decoder_xformers_att_config",
    "encoder_layers_to_keep",
    "encoder_xformers_att_config",
    "export",
    "scale_attn",
    "scale_fc",
    "scale_heads",
    "scale_resids",
    "tie_adaptive_proj",
    "tie_adaptive_weights",
}

# Options that a model without a decoder lacks: its positions are roberta's --max-positions.
NEED_A_DECODER = re.compile(
    r"decoder_.*|adaptive_softmax_.*|share_.*|max_.*_positions|merge_src_tgt_embed|"
    r"no_decoder_final_norm|no_cross_attention|encoder_embed_path"
)

DECIDED_BY_ARCHITECTURE = {
    "encoder_embed_dim",
    "encoder_ffn_embed_dim",
    "encoder_layers",
    "encoder_attention_heads",
    "decoder_embed_dim",
    "decoder_ffn_embed_dim",
    "decoder_layers",
    "decoder_attention_heads",
    "decoder_input_dim",
    "decoder_output_dim",
    "dropout",
    "attention_dropout",
    "activation_fn",
}

SYNONYMS = {"admin": "adaptive-auto"}
"""Other names that --init-type accepts → the scheme that they stand for."""

INIT_TYPES = [*SCHEMES, *SYNONYMS]

LAYERS = counting(1, 10_000)
"""Range of the number of layers of an encoder or decoder.

The highest is ten times all layers of the deepest published model (Wang et al. 2022, DeepNet).
"""

WIDEST = 2**16
WIDTH = counting(4, WIDEST)
"""Range of the model's width (channels).

Sinusoidal positions need four channels; the widest published models have some 20,000.
"""

POSITIONS = counting(1, 1_000_000)

STACK_SIZES = {
    "layers": LAYERS,
    "embed_dim": WIDTH,
    "ffn_embed_dim": counting(1, 4 * WIDEST),
    "attention_heads": counting(1, WIDEST),
}

SIZES = {
    **{
        f"{s}_{option}": STACK_SIZES[option]
        for s in ("encoder", "decoder")
        for option in STACK_SIZES
    },
    **dict.fromkeys(("decoder_input_dim", "decoder_output_dim"), WIDTH),
    **dict.fromkeys(
        ("max_source_positions", "max_target_positions", "max_positions", "tokens_per_sample"),
        POSITIONS,
    ),
}
"""Options that determine a model's memory → the range of each; for fairseq's own models too."""

BOUNDS = {
    **SIZES,
    **dict.fromkeys(("encoder_layerdrop", "decoder_layerdrop"), SHARE),
    **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "relu_dropout"), SHARE),
    "pooler_dropout": SHARE,
    "adaptive_softmax_cutoff": counting(1),
    "adaptive_softmax_dropout": SHARE,
    "adaptive_softmax_factor": Bounds(1, 1000),
    **dict.fromkeys(("quant_noise_pq", "quant_noise_scalar"), SHARE),
    "quant_noise_pq_block_size": counting(1, WIDEST),
    "min_params_to_wrap": counting(0),
    "profile_batches": counting(1),
    "log_dynamics": counting(0),
    **{o.name: o.bounds for scheme in SCHEMES.values() for o in scheme.options if o.bounds},
}
"""Name of a numeric option → the range that its value must be in."""


def _stock_fields(config: type, prefix: str = "") -> List[Tuple[str, Any, Any]]:
    """List fairseq's options as (name, type, field), nested ones with flat names.

    For example, encoder.layers becomes encoder_layers. Unsupported options are left out; those that
    the architecture determines get the default None.
    """
    flat = []
    for stock in fields(config):
        name = prefix + stock.name
        if isinstance(stock.type, type) and issubclass(stock.type, FairseqDataclass):
            flat += _stock_fields(stock.type, name + "_")
        elif name in DECIDED_BY_ARCHITECTURE:
            flat.append((name, Optional[stock.type], field(default=None, metadata=stock.metadata)))
        elif name not in UNSUPPORTED_OPTIONS and stock.name != "_name":
            default = default_of(stock)
            flat.append((name, stock.type, field(default=default, metadata=stock.metadata)))
    return flat


def default_of(option: Field) -> Any:
    """Return the default value of a dataclass field, calling its factory if it has one."""
    if option.default_factory is MISSING:
        return option.default
    return option.default_factory()


def _scheme_fields() -> Iterator[Tuple[str, Any, Any]]:
    """Yield the options that belong to a single scheme, as (name, type, field) for a dataclass."""
    for name, scheme in SCHEMES.items():
        for option in scheme.options:
            kind = ChoiceEnum(list(option.choices)) if option.choices else type(option.default)
            help = f"with --init-type {name}: {option.help}"
            yield option.name, kind, field(default=option.default, metadata={"help": help})


OptionsOfOneScheme: Any = make_dataclass(
    "OptionsOfOneScheme", _scheme_fields(), bases=(FairseqDataclass,)
)


@dataclass
class PluginOptions(OptionsOfOneScheme):
    """The model options that this plugin adds to those of fairseq's transformer.

    fairseq expects the choices of an option as its type annotation, which no type checker can
    follow.
    """

    init_type: Optional[ChoiceEnum(INIT_TYPES)] = field(  # type: ignore[valid-type]
        default=None,
        metadata={
            "help": "the whole scheme: norm placement, residual connection and initialisation "
            "(`admin-fairseq schemes` lists them). "
            "Admin is 'adaptive-auto', or 'admin' for short (profile the first batch, then train; "
            "the default of admin_transformer), or in two runs 'adaptive-profiling' (profile, "
            "write the file, stop) and 'adaptive' (read the file, train)"
        },
    )
    profile_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "file with Admin's profile (measured per-layer variances; "
            "default: profile.json in --save-dir)"
        },
    )
    profile_batches: int = field(
        default=1, metadata={"help": "profile this many batches on every worker"}
    )
    autocast: Optional[ChoiceEnum(AUTOCAST)] = field(  # type: ignore[valid-type]
        default=None,
        metadata={
            "help": "precision of the layers' matrix products, on GPU and CPU; weights, residual "
            "stream and layer norm stay in float32. Not together with --fp16, --bf16, --amp"
        },
    )
    reference_kernels: bool = field(
        default=False,
        metadata={
            "help": "compute attention, dropout and residual connections as fairseq does, instead "
            "of by faster kernels with the same mathematics"
        },
    )

    compile: bool = field(
        default=False,
        metadata={
            "help": "compile the layers with torch.compile for training, which delays the first "
            "updates and needs a C++ compiler on a CPU, Triton on a GPU"
        },
    )
    log_dynamics: int = field(
        default=0,
        metadata={
            "help": "every N updates, write to dynamics.jsonl in --save-dir, for each sub-layer, "
            "ω or α, variances of input and branch, and norms of weights, gradient and update; at "
            "each validation the layer dependency β (0: do not)"
        },
    )

    @property
    def scheme(self) -> Scheme:
        """The scheme that --init-type selects, with the scheme's own options applied."""
        return scheme_of(self)

    @property
    def depths(self) -> Tuple[int, int]:
        """(N, M): the numbers of encoder and decoder layers, 0 for a model without that stack."""
        return getattr(self, "encoder_layers", 0), getattr(self, "decoder_layers", 0)

    @property
    def stacks(self) -> Tuple[str, ...]:
        """The stacks of the model: encoder and decoder, or one of them in a language model."""
        return MODELS[ARCHITECTURES[self._name].model].stacks

    def complete_positions(self: Any) -> None:
        """Set the longest sample that the model can read, as fairseq does, if no option did."""
        if self.max_target_positions is None:
            sample = getattr(self, "tokens_per_sample", None)
            self.max_target_positions = sample or DEFAULT_MAX_TARGET_POSITIONS

    def nested(self) -> TransformerConfig:
        """Return all these options nested (cfg.encoder.layers), as fairseq's stacks read them."""
        return TransformerConfig.from_namespace(Namespace(**vars(self)))


def _with_stock_options(model: str) -> type:
    """Make the options dataclass of ``model``: ``PluginOptions`` and fairseq's options for it."""
    kind = MODELS[model]
    given = [
        option
        for option in _stock_fields(kind.options)
        if "decoder" in kind.stacks or not NEED_A_DECODER.fullmatch(option[0])
    ]
    return make_dataclass(model, given, bases=(PluginOptions,))


TransformerOptions: Any = _with_stock_options("admin_transformer")
LanguageModelOptions: Any = _with_stock_options("admin_transformer_lm")
MaskedLanguageModelOptions: Any = _with_stock_options("admin_transformer_mlm")


@dataclass
class AdminTransformerConfig(TransformerOptions):
    _name: str = "admin_transformer"


@dataclass
class AdminLanguageModelConfig(LanguageModelOptions):
    _name: str = "admin_transformer_lm"


@dataclass
class AdminMaskedLanguageModelConfig(MaskedLanguageModelOptions):
    _name: str = "admin_transformer_mlm"
    max_positions: Optional[int] = field(
        default=II("task.tokens_per_sample"),
        metadata={"help": "longest sample that the model can read (default: --tokens-per-sample)"},
    )
    pooler_activation_fn: ChoiceEnum(utils.get_available_activation_fns()) = field(  # type: ignore
        default="tanh", metadata={"help": "activation function of a classification head"}
    )
    pooler_dropout: float = field(
        default=0.0, metadata={"help": "dropout probability of a classification head"}
    )
    load_checkpoint_heads: bool = field(
        default=False,
        metadata={"help": "also load classification heads that the task does not add"},
    )
    bert_init: bool = field(
        default=False,
        metadata={
            "help": "draw embeddings and linear maps from BERT's N(0, 0.02²), before the scheme "
            "draws or scales its own"
        },
    )

    def complete_positions(self: Any) -> None:
        self.max_positions = self.max_positions or DEFAULT_MAX_SOURCE_POSITIONS
        self.max_source_positions = self.max_positions  # as fairseq's encoder names it


CONFIGS = {
    config._name: config
    for config in (AdminTransformerConfig, AdminLanguageModelConfig, AdminMaskedLanguageModelConfig)
}
"""Name of a registered model → the dataclass of its options."""

PLUGIN_OPTIONS = {option.name for option in fields(PluginOptions)} - {"_name"} | {"bert_init"}
"""Names of the options that this plugin adds to those of fairseq's transformer."""


def apply_architecture(config: Any, name: str) -> None:
    """Fill in, in place, the options that the user did not give: the defaults of --arch ``name``.

    ``config`` is a Namespace, a DictConfig or the dataclass. Raises AdminError if --init-type is
    unknown, or if it, the architecture and the layer-norm options contradict each other.
    """
    architecture = ARCHITECTURES[name]
    stacks = MODELS[architecture.model].stacks

    def fill(key: str, value: Any) -> None:
        if getattr(config, key, None) is None:
            setattr(config, key, value)

    fill("init_type", architecture.family.init_type)
    if str(config.init_type) in SYNONYMS:
        config.init_type = SYNONYMS[str(config.init_type)]
    if str(config.init_type) not in SCHEMES:  # as in a checkpoint of a later version
        raise AdminError(
            f"unknown --init-type {config.init_type}; choose from {', '.join(SCHEMES)}"
        )
    for size in ("embed_dim", "ffn_embed_dim", "attention_heads"):
        # the decoder follows an encoder whose size was given
        if "decoder" in stacks and getattr(config, f"encoder_{size}", None) is not None:
            fill(f"decoder_{size}", getattr(config, f"encoder_{size}"))
    for key, value in architecture.defaults.items():
        fill(key, value)
    for key in ("decoder_input_dim", "decoder_output_dim") if "decoder" in stacks else ():
        fill(key, config.decoder_embed_dim)

    _check_norm(config, name)
    if architecture.family.norm is Norm.PRE or SCHEMES[config.init_type].norm.final:
        for stack in stacks:
            setattr(config, f"{stack}_normalize_before", True)


def _check_norm(config: Any, name: str) -> None:
    """Raise AdminError if options contradict each other about where layer norm is placed."""
    architecture, scheme = ARCHITECTURES[name], SCHEMES[config.init_type]
    family = architecture.family
    stacks = MODELS[architecture.model].stacks
    if family.norm is not None and not family.admits(scheme):
        raise AdminError(
            f"--arch {name} stands for {family.norm.value}, --init-type {config.init_type} for "
            f"{scheme.norm.value}; use --arch {architecture.widest} --init-type {config.init_type}"
        )
    before = [s for s in stacks if getattr(config, f"{s}_normalize_before", False)]
    if before and not (scheme.norm is Norm.EACH or scheme.norm.final):
        raise AdminError(
            f"--{before[0]}-normalize-before asks for Pre-LN, --init-type {config.init_type} "
            f"stands for {scheme.norm.value}; leave one of them out"
        )
    if len(before) == len(stacks) and family.norm is Norm.POST:
        asked = " with ".join(f"--{stack}-normalize-before" for stack in before)
        raise AdminError(
            f"{asked} asks for Pre-LN, --arch {name} stands for Post-LN; "
            f"use --arch {name.replace('post', 'pre')}"
        )
    if scheme.norm is Norm.NONE and getattr(config, "layernorm_embedding", False):
        raise AdminError(
            f"--layernorm-embedding contradicts --init-type {config.init_type}, "
            f"which stands for {scheme.norm.value}; leave one of them out"
        )


def _check_scheme_options(config: PluginOptions) -> None:
    """Raise AdminError for options of another scheme, unknown choices, and LayerDrop with DLCL."""
    for name, scheme in SCHEMES.items():
        for option in scheme.options:
            value = getattr(config, option.name)
            if name != config.init_type and value != option.default:
                raise AdminError(
                    f"{spelled(option.name)} belongs to --init-type {name}, "
                    f"not to --init-type {config.init_type}"
                )
            if option.choices and value not in option.choices:
                raise AdminError(
                    f"unknown {spelled(option.name)} {value}; "
                    f"choose from {', '.join(option.choices)}"
                )
    for stack in config.stacks:
        if config.scheme.connections and getattr(config, f"{stack}_layerdrop"):
            raise AdminError(
                f"--{stack}-layerdrop leaves out layers whose outputs "
                f"--init-type {config.init_type} combines; leave one of them out"
            )


def _check_numbers(config: PluginOptions) -> None:
    """Raise AdminError for numbers outside their range, and for sizes that do not fit together."""
    bounds.check(config, BOUNDS)
    for stack in config.stacks:
        width, heads = (
            getattr(config, f"{stack}_{key}") for key in ("embed_dim", "attention_heads")
        )
        if width % heads:
            raise AdminError(
                f"--{stack}-attention-heads {heads} does not divide --{stack}-embed-dim {width}"
            )
    cutoffs = getattr(config, "adaptive_softmax_cutoff", None)
    if cutoffs is not None and cutoffs != sorted(set(cutoffs)):
        raise AdminError(f"--adaptive-softmax-cutoff {cutoffs}: each must be above the one before")


@contextmanager
def telling_contradictions() -> Iterator[None]:
    """Turn fairseq's exceptions about the model's options in the ``with`` block into AdminError."""
    try:
        yield
    except (AssertionError, OSError, ValueError) as error:
        raise AdminError(f"the model's options: {str(error) or type(error).__name__}") from None


def _known(value: Any) -> Any:
    """Return ``value``, or None for an unresolved ``${...}``.

    Such an interpolation could only be resolved with the run's whole configuration.
    """
    return None if isinstance(value, str) and value.startswith("${") else value


def resolve(config: Any) -> PluginOptions:
    """Return a complete and checked copy of the options ``config``, as given to ``build_model``.

    Options that were not given have the architecture's defaults. Raises AdminError for options that
    are invalid or contradict each other.
    """
    given: Any
    if OmegaConf.is_config(config):
        given = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    else:
        given = vars(config)
    name = given.get("_name") or "admin_transformer"
    model = CONFIGS[ARCHITECTURES[name].model]
    options = {f.name: given.get(f.name, f.default) for f in fields(model)}
    resolved = model(**{k: _known(v) for k, v in options.items()})
    resolved._name = name
    resolved.complete_positions()
    if getattr(resolved, "adaptive_softmax_cutoff", None) is not None:
        resolved.adaptive_softmax_cutoff = numbers(resolved.adaptive_softmax_cutoff)
    apply_architecture(resolved, name)
    if resolved.autocast not in (None, *AUTOCAST):  # from a checkpoint, say
        raise AdminError(f"unknown --autocast {resolved.autocast}; choose {AUTOCAST[0]}")
    _check_numbers(resolved)
    _check_scheme_options(resolved)
    resolved.checkpoint_activations |= resolved.offload_activations  # as in fairseq
    return resolved


def architecture(name: str) -> Callable[[Any], None]:
    """Return the function that fairseq calls to fill in the options of ``--arch name``."""

    def apply(config: Any) -> None:
        if OmegaConf.is_config(config):
            with open_dict(config):
                apply_architecture(config, name)
        else:
            _check_task(config, name)
            _fill_positions(config)
            apply_architecture(config, name)
            _keep_bf16_off_tpu(config)

    return apply


def _check_task(args: Namespace, name: str) -> None:
    """Raise AdminError if --task is one for models of another kind than --arch ``name``."""
    kind, task = MODELS[ARCHITECTURES[name].model], getattr(args, "task", None)
    tasks = {name for other in MODELS.values() for name in (other.task, *other.further_tasks)}
    if task in tasks - {kind.task, *kind.further_tasks}:
        raise AdminError(f"--arch {name} is a model for --task {kind.task}, not for --task {task}")


def _fill_positions(args: Namespace) -> None:
    """Set --max-positions to the task's default, if it has one and the option was not given.

    A masked language model has this option too; its default is that of --task masked_lm, and the
    command line has but one.
    """
    task = getattr(args, "task", None)
    default = getattr(TASK_DATACLASS_REGISTRY.get(task), "max_positions", None)
    if default is not None and not hasattr(args, "max_positions"):
        args.max_positions = default


def _keep_bf16_off_tpu(args: Namespace) -> None:
    """Switch --tpu off for --bf16, unless torch_xla is installed, so that --bf16 runs on the GPU.

    fairseq's command line sets --tpu whenever --bf16 is given.
    """
    if getattr(args, "bf16", False) and find_spec("torch_xla") is None:
        args.tpu = False
