"""Build models from the options and weights of checkpoints, and check that both fit."""

from __future__ import annotations

import textwrap
import warnings
from argparse import Namespace
from types import SimpleNamespace
from typing import Any, Mapping, Optional

import torch
from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel, build_model

from admin_fairseq import bounds
from admin_fairseq.checkpoints.storage import Weights
from admin_fairseq.config import SIZES, PluginOptions, resolve
from admin_fairseq.errors import AdminError, blaming

STACKS = ("encoder", "decoder")
HEADS = ("lm_head.bias", "encoder.lm_head.bias")  # of a masked language model, ours or fairseq's
EMBEDDINGS = ("decoder.embed_tokens.weight", *HEADS)
"""Names of weights with a row for each type of the target dictionary, one of them in any model."""


def build(
    options: Mapping[str, Any], weights: Weights, autocast: Optional[str] = None
) -> BaseFairseqModel:
    """Build a model with these options and weights, for inference, at least in float32.

    ``autocast`` is the precision of the model's matrix products, instead of the one in ``options``.
    Raises AdminError that names an option or weight that does not fit.
    """
    options = {**options, "autocast": autocast}
    check_fit(options, weights)  # first: the options in a small file can ask for a huge model
    model = empty_model(options, weights)
    load_weights(model, weights)
    model.to(next(model.parameters()).dtype)  # heads that roberta has just added are float32
    return for_inference(model)


def check_fit(options: Mapping[str, Any], weights: Weights) -> None:
    """Raise AdminError, as ``build`` does, if no model has these options and weights."""
    check_outline(outline(options, weights), weights)


def outline(options: Mapping[str, Any], weights: Weights) -> BaseFairseqModel:
    """Build a model as ``empty_model`` does, without memory: on torch's meta device.

    An exception is roberta, which copies newly drawn weights from the CPU.
    """
    with torch.device("cpu" if options["_name"] == "roberta" else "meta"):
        return empty_model(options, weights)


def check_outline(model: BaseFairseqModel, weights: Weights) -> None:
    """Raise AdminError, as ``load_weights`` does, if ``weights`` do not fit the outline of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it copies nothing
        load_weights(model, weights)


def for_inference(model: BaseFairseqModel) -> BaseFairseqModel:
    """Return ``model`` in eval mode, with the fused inference path of fairseq's layers disabled."""
    for module in model.modules():
        if hasattr(module, "ever_training"):
            # keeps fairseq 0.12.2 off its fast path, which fails on padding under torch 2
            module.ever_training = True
    return model.eval()


def resolved(options: Mapping[str, Any]) -> PluginOptions:
    """Return the complete, checked options of one of the plugin's models from its flat ``options``.

    Raises AdminError if ``options`` are not those of such a model.
    """
    try:
        return resolve(Namespace(**options))
    except (AttributeError, TypeError, ValueError) as error:
        raise AdminError(f"the model's options are damaged: {error}") from None


def check_sizes(options: Mapping[str, Any], weights: Weights) -> None:
    """Raise AdminError if ``options`` describe a model of other dimensions than ``weights`` have.

    To be called before a model is built: the options in a small file can ask for 10^9 layers.
    """
    # "${task.tokens_per_sample}" refers to another part of the run's options
    said = {name: value for name, value in options.items() if not str(value).startswith("${")}
    with blaming("damaged checkpoint"):
        bounds.check(Namespace(**said), SIZES)
    for stack in STACKS:
        layers = {name.split(".")[2] for name in weights if name.startswith(f"{stack}.layers.")}
        if not layers:
            continue
        first = weights.get(f"{stack}.layers.0.fc1.weight", torch.empty(0))
        found = {f"{stack}_layers": len(layers), f"{stack}_embed_dim": (0, *first.shape)[-1]}
        for name, size in found.items():
            if options.get(name, size) != size:
                raise AdminError(
                    f"damaged checkpoint: its weights have {name} {size}, "
                    f"its options {options[name]!r}"
                )


def empty_model(options: Mapping[str, Any], weights: Weights) -> BaseFairseqModel:
    """Build a model with these options and newly initialised weights, not those of ``weights``.

    ``weights`` give the vocabulary sizes and the precision (float64 or float32). Raises AdminError
    if no model can be built.
    """
    # files of pretrained embeddings are not needed: their weights are in the checkpoint
    options = {**options, "encoder_embed_path": None, "decoder_embed_path": None}
    options["load_checkpoint_heads"] = True  # those for classification
    check_sizes(options, weights)
    task = _minimal_task(weights)
    try:
        model = build_model(Namespace(**options), task)
    except AdminError:
        raise
    except Exception as error:  # whatever damaged options make fairseq raise
        reason = textwrap.shorten(str(error), 500)
        raise AdminError(f"no model can be built from its options: {reason}") from None
    dtypes = {weight.dtype for weight in weights.values()}
    return model.to(torch.float64 if torch.float64 in dtypes else torch.float32)


def load_weights(model: BaseFairseqModel, weights: Weights) -> None:
    """Load ``weights`` into ``model``; nothing may be missing, unknown or of another shape.

    Raises AdminError that names the weights that do not fit.
    """
    try:
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise AdminError(
            f"weights do not fit the model's options: {textwrap.shorten(reasons, 500)}"
        ) from None


def _minimal_task(weights: Weights) -> SimpleNamespace:
    """Return an object with the dictionaries that fairseq's models need of a task.

    The dictionaries are as large as the embeddings in ``weights``. Raises AdminError if there are
    none.
    """
    found = next((weights[name] for name in EMBEDDINGS if name in weights), None)
    if found is None:
        missing = EMBEDDINGS[0]
        raise AdminError(
            f"{missing} is missing: a damaged checkpoint, or one with --adaptive-input"
        )
    source = target = _dictionary(len(found))
    encoder_embeddings = weights.get("encoder.embed_tokens.weight")
    if encoder_embeddings is not None and len(encoder_embeddings) != len(target):
        source = _dictionary(len(encoder_embeddings))
    return SimpleNamespace(source_dictionary=source, target_dictionary=target)


def _dictionary(size: int) -> Dictionary:
    """Return a dictionary of ``size`` made-up types."""
    dictionary = Dictionary()
    for i in range(size - len(dictionary)):
        dictionary.add_symbol(f"word{i}")
    return dictionary
