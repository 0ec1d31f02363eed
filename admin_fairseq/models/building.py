"""The steps that all models' ``build_model`` share, and their registration with fairseq."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import (
    ARCH_CONFIG_REGISTRY,
    ARCH_MODEL_REGISTRY,
    MODEL_REGISTRY,
    BaseFairseqModel,
    register_model,
    register_model_architecture,
)
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, OmegaConf
from torch import nn

from admin_fairseq import dynamics
from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import CONFIGS, PluginOptions, architecture
from admin_fairseq.errors import AdminError
from admin_fairseq.fast.layout import TARGET, Layout, note
from admin_fairseq.initialize import Rule, initialize
from admin_fairseq.layers.transformer_stack import shard_layers
from admin_fairseq.profiling.run import set_omegas
from admin_fairseq.repairs import batches
from admin_fairseq.schemes import BERT_WEIGHTS, HEAD_WEIGHTS
from admin_fairseq.starting import run_of, starts_afresh


class TrainsFast(nn.Module):
    """A model for whose updates the host works less, and seldom waits for the GPU."""

    inputs: ClassVar[dict[str, str]]
    """What a batch calls the tokens that it has for the model → the stack that reads them."""

    def train(self, mode: bool = True) -> TrainsFast:
        """Set the mode of every module; do nothing if the model and its stacks train already.

        fairseq calls ``train()`` twice in every update, and torch visits each module: milliseconds.
        """
        trains = all(module.training for module in (self, *self.children()))
        return self if mode and trains else super().train(mode)

    def note_layouts(self, batch: dict[str, Any], moved: dict[str, Any]) -> None:
        """Note where ``batch`` has padding, so that no layer has to read ``moved`` to find out.

        ``moved`` is the same batch on the model's device; to read it is to wait for a GPU. Tokens
        that a task gives other names than ``inputs`` are left out, and read later.
        """
        given, there = batch.get("net_input"), moved.get("net_input", {})
        for name, stack in self.inputs.items():
            if isinstance(given, dict) and torch.is_tensor(given.get(name)):
                getattr(self, stack).note_layout(given[name], there[name])
        if torch.is_tensor(batch.get("target")):
            last = [*self.inputs.values()][-1]  # the stack that predicts the target
            padding = getattr(self, last).padding_idx
            kept = batch["target"].ne(padding).flatten().nonzero().squeeze(1)
            note(moved["target"], Layout(kept=kept).to(moved["target"].device), TARGET)


def finish_building(
    model: BaseFairseqModel, config: PluginOptions, task: FairseqTask, cfg: Any
) -> None:
    """Initialise the weights of ``model``, set ω in a new run, and shard the layers.

    ω are Admin's residual scales; they are set only where a training run starts from newly drawn
    weights. ``cfg`` is the argument of ``build_model``, ``config`` the same options completed and
    checked. Raises AdminError if the profile (measured per-layer variances), the run's precision or
    its criterion does not fit the model.
    """
    run, scheme = run_of(cfg), config.scheme
    check_precision(config, run)
    _check_criterion(model, run)
    if run is not None:
        dynamics.check(config.log_dynamics, run)
        batches.apply(task, run)
    initialize(model, _base_draw(config) + scheme.weights, *config.depths)
    if run is not None and starts_afresh(run, scheme):
        set_omegas(model, config, task, run)
    shard_layers(model, config)


def _base_draw(config: PluginOptions) -> tuple[Rule, ...]:
    """Return the rules that draw a model's weights before the rules of its scheme."""
    if getattr(config, "bert_init", False):
        return BERT_WEIGHTS
    return HEAD_WEIGHTS + config.scheme.starts_from


def forget_files_of_embeddings(config: PluginOptions, cfg: Any) -> None:
    """Remove the paths of pretrained embeddings from ``config`` if a run restores a checkpoint.

    The checkpoint has the embeddings, so the files need not exist any more. Changes ``config`` in
    place.
    """
    run = run_of(cfg)
    if run is not None and not starts_afresh(run, config.scheme):
        config.encoder_embed_path = config.decoder_embed_path = None


def check_precision(config: PluginOptions, run: Optional[DictConfig]) -> None:
    """Raise AdminError if ``run`` sets --fp16, --bf16 or --amp in addition to --autocast."""
    for other in ("fp16", "bf16", "amp"):
        if config.autocast and run is not None and run.common[other]:
            raise AdminError(
                f"--autocast {config.autocast} keeps weights in float32, --{other} has a precision "
                "of its own; leave one of them out"
            )


def _check_criterion(model: BaseFairseqModel, run: Optional[DictConfig]) -> None:
    """Call ``check_model`` of the run's criterion, if it has one, which may raise AdminError."""
    name = OmegaConf.select(run, "criterion._name") if run is not None else None
    check = getattr(CRITERION_REGISTRY.get(name), "check_model", None)
    if check is not None:
        check(model, run)


def register(name: str, model: type) -> None:
    """Register ``model`` with fairseq under ``name``, together with its architectures."""
    # Registering a name twice is an error in fairseq; importing a module twice is not.
    if name not in MODEL_REGISTRY:
        register_model(name, dataclass=CONFIGS[name])(model)
    for arch, entry in ARCHITECTURES.items():
        if entry.model == name and arch not in ARCH_MODEL_REGISTRY:
            register_model_architecture(name, arch)(architecture(arch))
    # fairseq has registered an empty function under the model's own name
    ARCH_CONFIG_REGISTRY[name] = architecture(name)
