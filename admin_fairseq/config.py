"""The model's options: those of fairseq's transformer, flat as on the command line, and ours.

What an architecture's name decides (sizes, scheme) has the default None and is filled in by
``apply_architecture``, so that ``--arch`` and ``model=`` in hydra go the same way.
"""

from argparse import Namespace
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from importlib.util import find_spec
from typing import Any, List, Optional, Tuple

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models.transformer import TransformerConfig
from omegaconf import OmegaConf, open_dict

from admin_fairseq.errors import AdminError
from admin_fairseq.schemes import SCHEMES, Norm, Scheme

# Options that our layers do not have, or that fairseq itself cannot read from a command line.
UNSUPPORTED = {
    "adaptive_input",
    "base_layers",
    "base_shuffle",
    "base_sublayers",
    "char_inputs",
    "cross_self_attention",
    "decoder_layers_to_keep",
    "decoder_xformers_att_config",
    "encoder_layers_to_keep",
    "encoder_xformers_att_config",
    "export",
}

TINY = {"encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128, "encoder_attention_heads": 2}
IWSLT = {"encoder_embed_dim": 512, "encoder_ffn_embed_dim": 1024, "encoder_attention_heads": 4}
BASE = {"encoder_embed_dim": 512, "encoder_ffn_embed_dim": 2048, "encoder_attention_heads": 8}
BIG = {"encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16}

SIZES = {
    "": BASE,
    "_tiny": TINY,  # 64-128-2: T-Fixup's ultra-deep study
    "_iwslt_de_en": IWSLT,
    "_wmt_en_de": BASE,
    "_wmt_en_de_big": {**BIG, "dropout": 0.3, "attention_dropout": 0.1},
}
"""Suffix of an architecture's name → its sizes, as fairseq's architectures have them."""

COMMON = {"encoder_layers": 6, "decoder_layers": 6, "dropout": 0.1, "attention_dropout": 0.0}


@dataclass(frozen=True)
class Family:
    """Architectures whose names begin alike: their first scheme and the norm they stand for."""

    init_type: str
    norm: Optional[Norm] = None  # None: whatever the scheme says

    def admits(self, scheme: Scheme) -> bool:
        flexible = scheme.norm is Norm.EACH and self.norm is not Norm.NONE
        return self.norm is None or scheme.norm is self.norm or flexible


FAMILIES = {
    "admin_transformer": Family("adaptive-auto"),
    "postln_transformer": Family("default", Norm.POST),
    "preln_transformer": Family("default", Norm.PRE),
    "tfixup_transformer": Family("tfixup", Norm.NONE),
}
ARCHITECTURES = {
    family + suffix: (FAMILIES[family], {**COMMON, **sizes})
    for family in FAMILIES
    for suffix, sizes in SIZES.items()
}
"""--arch → its family and its defaults."""

OWN_OPTIONS = {"init_type", "profile_path", "profile_batches"}
"""What fairseq's transformer does not have."""

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
}


def _stock_fields(config: type, prefix: str = "") -> List[Tuple[str, Any, Any]]:
    """fairseq's nested transformer options as flat fields: encoder.layers → encoder_layers."""
    flat = []
    for stock in fields(config):
        name = prefix + stock.name
        if isinstance(stock.type, type) and issubclass(stock.type, FairseqDataclass):
            flat += _stock_fields(stock.type, name + "_")
        elif name in DECIDED_BY_ARCHITECTURE:
            flat.append((name, Optional[stock.type], field(default=None, metadata=stock.metadata)))
        elif name not in UNSUPPORTED and stock.name != "_name":
            default = stock.default_factory() if stock.default is MISSING else stock.default
            flat.append((name, stock.type, field(default=default, metadata=stock.metadata)))
    return flat


StockOptions = make_dataclass(
    "StockOptions", _stock_fields(TransformerConfig), bases=(FairseqDataclass,)
)


@dataclass
class AdminTransformerConfig(StockOptions):
    init_type: Optional[ChoiceEnum(list(SCHEMES))] = field(
        default=None,
        metadata={
            "help": "the whole scheme: norm placement, residual connection and initialisation. "
            "Admin is 'adaptive-auto' (profile the first batch, then train; the default of "
            "admin_transformer), or in two runs 'adaptive-profiling' (profile, write the file, "
            "stop) and 'adaptive' (read the file, train)"
        },
    )
    profile_path: Optional[str] = field(
        default=None,
        metadata={"help": "file with Admin's profile (default: profile.json in --save-dir)"},
    )
    profile_batches: int = field(
        default=1, metadata={"help": "profile this many batches on every worker"}
    )

    @property
    def scheme(self) -> Scheme:
        return SCHEMES[self.init_type]

    def nested(self) -> TransformerConfig:
        """The same options as fairseq's encoder and decoder read them; ours come along."""
        return TransformerConfig.from_namespace(Namespace(**vars(self)))


def apply_architecture(config: Any, name: Optional[str] = None) -> None:
    """Fill in, in place, what the named architecture decides and the user did not; then check.

    ``config`` is a Namespace, a DictConfig or the dataclass. Raises AdminError where the options
    contradict one another.
    """
    name = name or getattr(config, "_name", None) or "admin_transformer"
    family, defaults = ARCHITECTURES[name]

    def fill(key: str, value: Any) -> None:
        if getattr(config, key, None) is None:
            setattr(config, key, value)

    fill("init_type", family.init_type)
    for key, value in defaults.items():
        fill(key, value)
    for size in ("embed_dim", "ffn_embed_dim", "attention_heads"):
        fill(f"decoder_{size}", getattr(config, f"encoder_{size}"))
    fill("decoder_input_dim", config.decoder_embed_dim)
    fill("decoder_output_dim", config.decoder_embed_dim)

    _check_norm(config, name, family)
    if Norm.PRE in (family.norm, SCHEMES[config.init_type].norm):
        config.encoder_normalize_before = config.decoder_normalize_before = True


def _check_norm(config: Any, name: str, family: Family) -> None:
    scheme = SCHEMES[config.init_type]
    if not family.admits(scheme):
        raise AdminError(
            f"--arch {name} stands for {family.norm.value}, --init-type {config.init_type} for "
            f"{scheme.norm.value}; use --arch {_widest(name)} --init-type {config.init_type}"
        )
    before = [s for s in ("encoder", "decoder") if getattr(config, f"{s}_normalize_before", False)]
    if before and scheme.norm in (Norm.POST, Norm.NONE):
        raise AdminError(
            f"--{before[0]}-normalize-before asks for Pre-LN, --init-type {config.init_type} "
            f"stands for {scheme.norm.value}; leave one of them out"
        )
    if len(before) == 2 and family.norm is Norm.POST:
        raise AdminError(
            "--encoder-normalize-before and --decoder-normalize-before together ask for Pre-LN, "
            f"--arch {name} stands for Post-LN; use --arch {name.replace('post', 'pre')}"
        )
    if scheme.norm is Norm.NONE and getattr(config, "layernorm_embedding", False):
        raise AdminError(
            f"--layernorm-embedding contradicts --init-type {config.init_type}, "
            f"which stands for {scheme.norm.value}; leave one of them out"
        )


def _widest(name: str) -> str:
    """The architecture of the same size that takes every scheme."""
    family = next(f for f in FAMILIES if name.startswith(f))
    return "admin_transformer" + name[len(family) :]


def resolve(config: Any) -> AdminTransformerConfig:
    """A checked, complete copy of what fairseq hands to ``build_model``."""
    if OmegaConf.is_config(config):
        given = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    else:
        given = dict(vars(config))
    known = {f.name for f in fields(AdminTransformerConfig)}
    resolved = AdminTransformerConfig(**{k: v for k, v in given.items() if k in known})
    if resolved.init_type not in (None, *SCHEMES):
        raise AdminError(
            f"unknown --init-type {resolved.init_type}; there are {', '.join(SCHEMES)}"
        )
    apply_architecture(resolved)
    for option in ("encoder_layers", "decoder_layers", "profile_batches"):
        if getattr(resolved, option) < 1:
            name = option.replace("_", "-")
            raise AdminError(f"--{name} must be at least 1, not {getattr(resolved, option)}")
    return resolved


def architecture(name: str):
    """The function that fairseq calls for ``--arch name``."""

    def apply(config: Any) -> None:
        if OmegaConf.is_config(config):
            with open_dict(config):
                apply_architecture(config, name)
        else:
            apply_architecture(config, name)
            _keep_bf16_off_tpu(config)

    return apply


def _keep_bf16_off_tpu(args: Namespace) -> None:
    """fairseq's command line takes --bf16 for --tpu; without torch_xla it means the GPU."""
    if getattr(args, "bf16", False) and find_spec("torch_xla") is None:
        args.tpu = False
