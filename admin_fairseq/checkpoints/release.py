"""Convert checkpoints of the original Admin release, a fork of fairseq 0.8, to this plugin's."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass
from typing import Any, Mapping

from fairseq.tasks import TASK_REGISTRY
from torch import nn

from admin_fairseq.bounds import spelled
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.dictionaries import DataBin
from admin_fairseq.checkpoints.storage import (
    Weights,
    check_weights,
    run_options,
    without_training_state,
)
from admin_fairseq.config import UNSUPPORTED_OPTIONS
from admin_fairseq.errors import AdminError

INIT_TYPES = {
    "default": "default",
    "adaptive": "adaptive",
    "adaptive-profiling": "adaptive",
    "rezero": "rezero",
    "rezero_postln": "rezero_postln",
    "deepnet": "deepnet",
    "looklinear": "looklinear",
}
"""The original release's --init-type → this plugin's."""
NOT_OURS = UNSUPPORTED_OPTIONS | {"layer_wise_attention"}


@dataclass(frozen=True)
class Rename:
    """A rule that renames parameters: those whose whole name matches ``old`` become ``new``.

    If there are several new names, they share the tensor or, with ``split``, each gets an equal
    part of its rows.
    """

    old: str
    new: tuple[str, ...]
    split: bool = False

    def apply(self, weights: Weights) -> Weights:
        """Return ``weights`` with this rule applied; other names are unchanged."""
        renamed: Weights = {}
        for name, weight in weights.items():
            match = re.fullmatch(self.old, name)
            if match is None:
                renamed[name] = weight
                continue
            parts = weight.chunk(len(self.new)) if self.split else [weight] * len(self.new)
            renamed.update({match.expand(new): part for new, part in zip(self.new, parts)})
        return renamed


ENCODER, DECODER = r"(encoder\.layers\.\d+)\.", r"(decoder\.layers\.\d+)\."
RENAMES = (
    Rename(ENCODER + "attention_ratio_change", (r"\1.residuals.self_attn.omega",)),
    Rename(ENCODER + "fc_ratio_change", (r"\1.residuals.ffn.omega",)),
    Rename(DECODER + "self_ratio_change", (r"\1.residuals.self_attn.omega",)),
    Rename(DECODER + "encoder_ratio_change", (r"\1.residuals.encoder_attn.omega",)),
    Rename(DECODER + "fc_ratio_change", (r"\1.residuals.ffn.omega",)),
    Rename(ENCODER + "rezero_weight", (r"\1.residuals.self_attn.alpha", r"\1.residuals.ffn.alpha")),
    Rename(
        DECODER + "rezero_weight",
        tuple(rf"\1.residuals.{name}.alpha" for name in ("self_attn", "encoder_attn", "ffn")),
    ),
    Rename(
        r"(.*_attn)\.in_proj_(weight|bias)",
        (r"\1.q_proj.\2", r"\1.k_proj.\2", r"\1.v_proj.\2"),
        split=True,
    ),
    Rename(r"(.*_attn)\.([qkv])_proj_weight", (r"\1.\2_proj.weight",)),
)
"""From the original release's parameter names to the plugin's; fairseq converts other old names."""


def import_release(state: Mapping[str, Any], data: DataBin) -> dict[str, Any]:
    """Convert a checkpoint of the original Admin release to an equivalent one of this plugin.

    The result has no optimiser state, as that belonged to the fused q, k and v parameters, which
    are now separate. Raises AdminError if ``state`` is not a checkpoint of the release, lacks
    parameters, or was trained on other data than ``data``.
    """
    data.check(state["model"])
    options = _options(state)
    weights: Weights = dict(state["model"])
    for rename in RENAMES:
        weights = rename.apply(weights)
    outline = building.outline(options, state["model"])
    complete = {**_constants(outline), **weights}
    scales = (name for name in outline.state_dict() if ".residuals." in name)
    missing = next((name for name in scales if name not in complete), None)
    if missing is not None:  # fairseq would fill it in when loading
        raise AdminError(f"damaged checkpoint: it has no counterpart of {missing}")
    check_weights(weights)
    building.check_outline(outline, complete)
    model = building.empty_model(options, state["model"])
    building.load_weights(model, {**_constants(model), **weights})
    model.to(state["model"]["decoder.embed_tokens.weight"].dtype)

    cfg = run_options(state)
    cfg["model"] = options
    cfg["task"].update(data=data.folder, source_lang=data.source_lang, target_lang=data.target_lang)
    cfg["common"]["user_dir"] = "admin_fairseq"
    imported = {"args": None, "cfg": cfg, "model": model.state_dict()}
    return {**without_training_state(state), **imported}


def _constants(model: nn.Module) -> Weights:
    """Return DeepNorm's α of all residual connections, which the release does not save."""
    return {name: kept for name, kept in model.named_buffers() if ".residuals." in name}


def _options(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the plugin's model, converted from those of the original Admin release.

    Raises AdminError if the release's model has no equivalent.
    """
    args = vars(state["args"]) if isinstance(state.get("args"), Namespace) else {}
    arch, init_type, task = (str(args.get(name)) for name in ("arch", "init_type", "task"))
    if init_type not in INIT_TYPES or not arch.startswith("transformer"):
        raise AdminError(
            f"not a transformer of the original Admin release "
            f"(--arch {arch}, --init-type {init_type})"
        )
    if task not in TASK_REGISTRY:
        raise AdminError(f"was trained for --task {task}, which the installed fairseq lacks")
    unsupported = sorted(option for option in NOT_OURS if args.get(option))
    if unsupported:
        option = spelled(unsupported[0])
        raise AdminError(f"was trained with {option}, which this plugin's models do not have")
    ours = {
        **args,
        "_name": "admin_transformer",
        "init_type": INIT_TYPES[init_type],
        "encoder_embed_path": None,  # the weights are in the checkpoint
        "decoder_embed_path": None,
        "activation_dropout": args.get("activation_dropout") or args.get("relu_dropout", 0),
    }
    return dict(vars(building.resolved(ours)))
