"""Which class of Hugging Face's transformers computes what a folded model computes, and its weights
and settings there.

Shapes: C channels, P positions, V types in the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, NamedTuple

import torch
from fairseq.data import Dictionary
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor
from torch.nn.functional import pad

from admin_fairseq.bounds import spelled
from admin_fairseq.checkpoints.fold import POSITIONS
from admin_fairseq.checkpoints.storage import Weights
from admin_fairseq.errors import AdminError

Options = Mapping[str, Any]

PAD, EOS, BOS = Dictionary().pad(), Dictionary().eos(), Dictionary().bos()
FIRST_POSITION = PAD + 1
"""Row of fairseq's position tables that the first token gets."""

UNSUPPORTED = (
    *("adaptive_input", "adaptive_softmax_cutoff", "base_layers", "character_embeddings"),
    *("cross_self_attention", "merge_src_tgt_embed", "no_cross_attention", "no_decoder_final_norm"),
    *("no_token_positional_embeddings", "quant_noise_pq"),
    *("scale_attn", "scale_fc", "scale_heads", "scale_resids"),
)
"""Options of a model that no class in ``CLASSES`` has."""

SAME = (
    ("encoder_normalize_before", "decoder_normalize_before"),
    ("encoder_embed_dim", "decoder_embed_dim"),
    ("decoder_input_dim", "decoder_embed_dim"),
    ("decoder_output_dim", "decoder_embed_dim"),
)
"""Pairs of options that must have the same value, because the classes have one for both."""

ACTIVATIONS = {
    **{name: name for name in ("relu", "gelu", "tanh")},
    **dict.fromkeys(("gelu_accurate", "gelu_fast"), "gelu_new"),
}
"""fairseq's name of an activation function → that of transformers."""

DROPPED = (
    *(".version", "._float_tensor", ".embed_positions.weights"),
    *(".embed_tokens.weight", ".embed_positions.weight", ".output_projection.weight"),
)
"""How the names end of what is no weight, and of the weights that need more than a new name."""


@dataclass(frozen=True)
class HuggingFaceClass:
    """A class of transformers, and how a folded model of fairseq becomes one.

    ``settings`` and ``convert`` map (weights, options) of the folded model to settings and weights
    of the class; ``needs`` are the values that options of the model must have.
    """

    name: str
    config: str
    auto: str  # the class with which users load it
    settings: Callable[[Weights, Options], dict[str, Any]]
    convert: Callable[[Weights, Options], Weights]
    needs: Options = field(default_factory=dict)
    code: str = ""  # a class for the folder, if the stock one cannot be saved again


class Kind(NamedTuple):
    """What decides about the class: fairseq's model, Pre-LN or Post-LN, --layernorm-embedding."""

    model: str
    pre_norm: bool
    layernorm_embedding: bool


def class_of(options: Options) -> HuggingFaceClass:
    """Return the class that computes the same as a folded model with these ``options``.

    Raises AdminError that names the option for which there is none.
    """
    for option in UNSUPPORTED:
        if options.get(option):
            raise AdminError(f"transformers has no class with {spelled(option)}")
    for one, other in SAME:
        if one in options and options[one] != options.get(other):
            raise AdminError(
                f"transformers has no class with {spelled(one)} {options[one]} and "
                f"{spelled(other)} {options.get(other)}; they must be the same"
            )
    if options["activation_fn"] not in ACTIVATIONS:
        raise AdminError(f"transformers has no --activation-fn {options['activation_fn']}")
    norms = (options.get("decoder_normalize_before"), options.get("layernorm_embedding"))
    kind = Kind(options["_name"], *map(bool, norms))
    if kind not in CLASSES:
        raise AdminError(f"transformers has no class for {_described(kind)}")
    found = CLASSES[kind]
    for option, value in found.needs.items():
        if bool(options.get(option)) != value:
            needs = "with" if value else "without"
            raise AdminError(
                f"transformers has no class for {_described(kind)} but {found.name}, which is one "
                f"{needs} {spelled(option)}"
            )
    return found


def _described(kind: Kind) -> str:
    placement = "Pre-LN" if kind.pre_norm else "Post-LN"
    embedding = " with --layernorm-embedding" if kind.layernorm_embedding else ""
    return f"a {placement} {kind.model}{embedding}"


STACK_SETTINGS = {
    "layers": "layers",
    "attention_heads": "attention_heads",
    "ffn_dim": "ffn_embed_dim",
}
"""Setting of a stack in transformers → in fairseq."""


def _translation_settings(weights: Weights, options: Options) -> dict[str, Any]:
    """Return the settings that all classes with encoder and decoder share."""
    return {
        **_common_settings(options),
        **{
            f"{stack}_{theirs}": options[f"{stack}_{ours}"]
            for stack in POSITIONS
            for theirs, ours in STACK_SETTINGS.items()
        },
        **{f"{stack}_layerdrop": _share(options, f"{stack}_layerdrop") for stack in POSITIONS},
        "d_model": options["decoder_embed_dim"],
        "vocab_size": len(weights["encoder.embed_tokens.weight"]),
        "max_position_embeddings": max(options[name] for name in POSITIONS.values()),
        "scale_embedding": not options.get("no_scale_embedding"),
        "activation_dropout": _share(options, "activation_dropout"),
        "tie_word_embeddings": _tied(options),
        "bos_token_id": BOS,
        "decoder_start_token_id": EOS,
        "forced_eos_token_id": EOS,
    }


def _common_settings(options: Options) -> dict[str, Any]:
    return {
        "activation_function": ACTIVATIONS[options["activation_fn"]],
        "dropout": _share(options, "dropout"),
        "attention_dropout": _share(options, "attention_dropout"),
        "pad_token_id": PAD,
        "eos_token_id": EOS,
    }


def _share(options: Options, name: str) -> float:
    return float(options.get(name) or 0)


def _marian_settings(weights: Weights, options: Options) -> dict[str, Any]:
    return {
        **_translation_settings(weights, options),
        "decoder_vocab_size": len(weights["decoder.embed_tokens.weight"]),
        "share_encoder_decoder_embeddings": bool(options.get("share_all_embeddings")),
    }


def _opt_settings(weights: Weights, options: Options) -> dict[str, Any]:
    return {
        **_common_settings(options),
        "vocab_size": len(weights["decoder.embed_tokens.weight"]),
        "hidden_size": options["decoder_embed_dim"],
        "word_embed_proj_dim": options["decoder_embed_dim"],
        "ffn_dim": options["decoder_ffn_embed_dim"],
        "num_hidden_layers": options["decoder_layers"],
        "num_attention_heads": options["decoder_attention_heads"],
        "max_position_embeddings": options["max_target_positions"],
        "do_layer_norm_before": bool(options.get("decoder_normalize_before")),
        "layerdrop": _share(options, "decoder_layerdrop"),
        "tie_word_embeddings": False,
        "bos_token_id": EOS,  # fairseq's language models begin with the end symbol
    }


def _renamed(weights: Weights) -> Weights:
    """Return the weights that keep their name, below ``model``: the layers and layer norms."""
    return {f"model.{name}": w for name, w in weights.items() if not name.endswith(DROPPED)}


def _tied(options: Options) -> bool:
    """Return whether the output projection has no weights of its own."""
    shared = ("share_all_embeddings", "share_decoder_input_output_embed")
    return any(map(options.get, shared))


def _embeddings(weights: Weights, options: Options) -> Weights:
    """Return the embedding tables (V x C) and, if it is not tied, the output projection."""
    if options.get("share_all_embeddings"):
        return {"model.shared.weight": weights["encoder.embed_tokens.weight"]}
    tables = [f"{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")]
    found = {f"model.{name}": weights[name] for name in tables}
    if not _tied(options):
        found["lm_head.weight"] = weights["decoder.output_projection.weight"]
    return found


def _positions(weights: Weights, options: Options, first: int = 0) -> Weights:
    """Return the tables of positions, P x C, without the rows before ``first``.

    The shorter of two gets rows of zeros, which no sentence that fairseq takes can reach.
    """
    stacks = [stack for stack in POSITIONS if f"{stack}.embed_tokens.weight" in weights]
    tables = {stack: _table(weights, options, stack)[first:] for stack in stacks}
    rows = max(map(len, tables.values()))
    return {
        f"model.{stack}.embed_positions.weight": pad(table, (0, 0, 0, rows - len(table)))
        for stack, table in tables.items()
    }


def _table(weights: Weights, options: Options, stack: str) -> Tensor:
    """Return a stack's position embeddings, learned or sinusoids, (P + ``FIRST_POSITION``) x C."""
    learned = weights.get(f"{stack}.embed_positions.weight")
    if learned is not None:
        return learned
    rows = options[POSITIONS[stack]] + FIRST_POSITION
    return SinusoidalPositionalEmbedding.get_embedding(rows, options[f"{stack}_embed_dim"], PAD)


def _logits_bias(weights: Weights) -> Weights:
    return {"final_logits_bias": torch.zeros(1, len(weights["decoder.embed_tokens.weight"]))}


def _marian(weights: Weights, options: Options) -> Weights:
    positions = _positions(weights, options, FIRST_POSITION)
    known = {**_renamed(weights), **_embeddings(weights, options), **_logits_bias(weights)}
    return {**known, **positions}


def _m2m100(weights: Weights, options: Options) -> Weights:
    return {**_renamed(weights), **_embeddings(weights, options)}


def _bart(weights: Weights, options: Options) -> Weights:
    known = {**_m2m100(weights, options), **_logits_bias(weights)}
    return {**known, **_positions(weights, options)}


def _opt(weights: Weights, options: Options) -> Weights:
    """OPT does not scale its embeddings, and names the final layer norm differently."""
    scale = 1.0 if options.get("no_scale_embedding") else math.sqrt(options["decoder_embed_dim"])
    embeddings = weights["decoder.embed_tokens.weight"]
    renamed = {
        name.replace("decoder.layer_norm", "decoder.final_layer_norm"): weight
        for name, weight in _renamed(weights).items()
    }
    return {
        **renamed,
        "model.decoder.embed_tokens.weight": embeddings * scale,
        "lm_head.weight": weights.get("decoder.output_projection.weight", embeddings),
        **_positions(weights, options),
    }


MARIAN_CODE = '''\
"""MarianMTModel that also saves its table of positions, which is not the one that it would make."""

from transformers import MarianMTModel


class Model(MarianMTModel):
    _keys_to_ignore_on_save = None
'''

TRANSLATION, TEXT = "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"
JOINED = {"share_all_embeddings": True}
SINUSOIDS = {"encoder_learned_pos": False, "decoder_learned_pos": False}

MARIAN = HuggingFaceClass(
    *("MarianMTModel", "MarianConfig", TRANSLATION, _marian_settings, _marian), code=MARIAN_CODE
)
M2M100 = HuggingFaceClass(
    *("M2M100ForConditionalGeneration", "M2M100Config", TRANSLATION),
    *(_translation_settings, _m2m100, {**JOINED, **SINUSOIDS}),
)
BART = HuggingFaceClass(
    *("BartForConditionalGeneration", "BartConfig", TRANSLATION),
    *(_translation_settings, _bart, JOINED),
)
MBART = HuggingFaceClass(
    *("MBartForConditionalGeneration", "MBartConfig", TRANSLATION),
    *(_translation_settings, _bart, JOINED),
)
OPT = HuggingFaceClass("OPTForCausalLM", "OPTConfig", TEXT, _opt_settings, _opt)

CLASSES = {
    Kind("transformer", pre_norm=False, layernorm_embedding=False): MARIAN,
    Kind("transformer", pre_norm=True, layernorm_embedding=False): M2M100,
    Kind("transformer", pre_norm=False, layernorm_embedding=True): BART,
    Kind("transformer", pre_norm=True, layernorm_embedding=True): MBART,
    Kind("transformer_lm", pre_norm=False, layernorm_embedding=False): OPT,
    Kind("transformer_lm", pre_norm=True, layernorm_embedding=False): OPT,
}
"""What decides about the class → the class."""
