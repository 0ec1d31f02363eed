"""Log what happens inside a model while it trains (--log-dynamics N): dynamics.jsonl in --save-dir.

Every N updates, for each residual sub-layer: its scale (Admin's ω, or the α of a gated branch), the
variances of its input and branch before the update, and the norms of its weights (without that
scale), of their gradient and of their change. At every validation: the layer dependency β (Liu et
al. 2020, section 4.1) in the first validation batch.

The same numbers, but for β itself, go to TensorBoard, Weights & Biases and the like, where
fairseq's own options ask for them.

Measuring changes no result: variances and β come from further forward passes, which have no dropout
and draw no random numbers.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
import os
import re
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Sequence

import torch
import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils
from fairseq.logging.progress_bar import BaseProgressBar, progress_bar
from fairseq.trainer import Trainer
from omegaconf import DictConfig
from torch import Tensor, nn

from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.dependency import dependencies
from admin_fairseq.hooks.moments import moments_of, real_tokens
from admin_fairseq.hooks.recorder import Site, residuals_of, variances
from admin_fairseq.hooks.trace import traced
from admin_fairseq.repairs import private
from admin_fairseq.repairs.half_copies import float32_copies
from admin_fairseq.repairs.run_log import Dynamics, write

logger = logging.getLogger(__name__)

TAG = "dynamics"  # the name of the measurements in logs

OWNER = re.compile(
    r"(encoder|decoder)\.layers\.(\d+)\.(?:(?:residuals|inner_norms|output_norms)\.)?"
    r"(self_attn|encoder_attn|fc1|fc2|final_layer_norm|ffn)"
)
"""Matches the name of a parameter of a layer; the last group begins its sub-layer's name."""

FEED_FORWARD = ("fc1", "fc2", "final_layer_norm")


def apply() -> None:
    """Patch fairseq's trainer to measure the updates and validations of runs that ask for it."""
    Trainer.train_step = _measuring_updates(Trainer.train_step)
    Trainer.valid_step = _measuring_validations(Trainer.valid_step)


def check(interval: int, run: DictConfig) -> None:
    """Raise AdminError if --log-dynamics cannot work in ``run``; warn if no file will hold it."""
    if interval and run.checkpoint.no_save:
        logger.warning("--no-save: there will be no dynamics.jsonl in --save-dir")
    if interval and run.distributed_training.ddp_backend == "fully_sharded":
        raise AdminError(
            "--log-dynamics does not work with weights sharded by --ddp-backend fully_sharded; "
            "leave one of them out"
        )


def _interval(trainer: Trainer) -> int:
    """Return --log-dynamics; 0 for models that have no such option."""
    return getattr(trainer.cfg.model, "log_dynamics", 0) or 0


def _measuring_updates(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Trainer.train_step`` to log every N-th update."""

    @functools.wraps(train_step)
    def step(trainer: Trainer, samples: list[Any], *args: Any, **kwargs: Any) -> Any:
        interval, update = _interval(trainer), trainer.get_num_updates() + 1
        measured = "optimizer_step" in vars(trainer.task)  # --amp repeats an update by recursion
        if not interval or update % interval or measured:
            return train_step(trainer, samples, *args, **kwargs)
        # as fairseq does in the update: the α of a GrowingResidual depends on it
        trainer.get_model().set_num_updates(update - 1)
        spreads = _variances(trainer, samples[0])
        scales = _scales(trainer.get_model())
        with _norms(trainer) as norms:
            result = train_step(trainer, samples, *args, **kwargs)
        if norms and all(math.isfinite(norm.gradient) for norm in norms.values()):
            # else the update was skipped: its gradients are beyond float16's range
            _log(trainer, _entry(update, spreads, scales, norms))
        return result

    return step


def _measuring_validations(valid_step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Trainer.valid_step`` to log β of the first batch of every validation."""

    @functools.wraps(valid_step)
    def step(trainer: Trainer, sample: Any, *args: Any, **kwargs: Any) -> Any:
        update = trainer.get_num_updates()
        if _interval(trainer) and _is_master(trainer) and trainer.__dict__.get("seen") != update:
            trainer.seen = update
            _log(trainer, {"update": update, "dependency": _dependency(trainer, sample)})
        return valid_step(trainer, sample, *args, **kwargs)

    return step


@torch.no_grad()
def _variances(trainer: Trainer, sample: Any) -> dict[Site, list[float]]:
    """Return the variances of each sub-layer's input and branch in ``sample``, over all workers."""
    batch, is_dummy = private.prepared(trainer, sample)
    model = trainer.get_model()
    with _evaluating(model), moments_of(model, batch) as found:
        model(**batch["net_input"], features_only=True)
    moments = torch.stack(list(found.values())) * (not is_dummy)
    if trainer.data_parallel_world_size > 1:
        dist.all_reduce(moments, group=trainer.data_parallel_process_group)
    return dict(zip(found, variances(moments).tolist()))


def _scales(model: nn.Module) -> dict[Site, Tensor]:
    """Return each sub-layer's scale, where it has one: ω of the input, or α of the branch.

    With ReZero, the sub-layers of a layer share one α.
    """
    scales = {
        site: getattr(residual, "omega", getattr(residual, "alpha", None))
        for site, residual in residuals_of(model)
    }
    return {site: s.detach().float().clone() for site, s in scales.items() if s is not None}


def _owner(parameter: str) -> Optional[Site]:
    """Return the sub-layer that a parameter belongs to; None for embeddings and the like."""
    place = OWNER.match(parameter)
    if place is None:
        return None
    stack, layer, begin = place.groups()
    return Site(stack, int(layer), "ffn" if begin in FEED_FORWARD else begin)


class _Norms(NamedTuple):
    """Norms of the trained parameters of one sub-layer, or of all that belong to none."""

    weights: float
    gradient: float  # as the optimiser uses it: clipped, and without the loss scale
    update: float


@contextmanager
def _norms(trainer: Trainer) -> Iterator[dict[Optional[Site], _Norms]]:
    """Measure the optimiser's step inside the block; yield sub-layer → its norms (None: others).

    The dictionary stays empty if the update is skipped.
    """
    task, fairseqs = trainer.task, trainer.task.optimizer_step
    found: dict[Optional[Site], _Norms] = {}

    def optimizer_step(optimizer: Any, *args: Any, **kwargs: Any) -> None:
        names, weights, gradients = _parameters(trainer.get_model(), optimizer)
        before = [weight.detach().clone() for weight in weights]
        factor, nothing = private.factor_of(optimizer), before[0].new_zeros(())
        slopes = [nothing if g is None else _norm(g) * factor for g in gradients]
        fairseqs(optimizer, *args, **kwargs)
        changes = [_norm(new.detach() - old) for new, old in zip(weights, before)]
        found.update(_by_owner(names, [*map(_norm, before)], slopes, changes))

    task.optimizer_step = optimizer_step
    try:
        yield found
    finally:
        del task.optimizer_step


def _norm(tensor: Tensor) -> Tensor:
    """Return the Euclidean norm of a tensor, in float32."""
    return tensor.detach().float().norm()


def _parameters(
    model: nn.Module, optimizer: Any
) -> tuple[list[str], Sequence[Tensor], Sequence[Optional[Tensor]]]:
    """Return names, weights and gradients of the trained parameters.

    In half precision these are the optimiser's float32 copies, where it has such.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    weights, gradients = (float32_copies(optimizer, kind) for kind in ("data", "grad"))
    if weights is None or gradients is None:
        return list(trained), list(trained.values()), [p.grad for p in trained.values()]
    names = {id(parameter): name for name, parameter in trained.items()}
    return [names[id(p)] for p in optimizer.fp16_params], weights, gradients


def _by_owner(names: list[str], *norms: list[Tensor]) -> dict[Optional[Site], _Norms]:
    """Combine norms of parameters (of their weights, gradients, updates) to those of sub-layers."""
    squares: dict[Optional[Site], list[float]] = {}
    table = torch.stack([torch.stack(kind).double().square().cpu() for kind in norms], dim=1)
    for name, row in zip(names, table.tolist()):
        # ω is far larger than a layer's other weights, and has an entry of its own (scale)
        owner = None if ".residuals." in name else _owner(name)
        sums = squares.setdefault(owner, [0.0, 0.0, 0.0])
        sums[:] = map(sum, zip(sums, row))
    return {owner: _Norms(*map(math.sqrt, sums)) for owner, sums in squares.items()}


def _entry(
    update: int,
    spreads: Mapping[Site, Sequence[float]],
    scales: Mapping[Site, Tensor],
    norms: Mapping[Optional[Site], _Norms],
) -> dict[str, Any]:
    """Put one update's measurements together as a line of dynamics.jsonl."""
    nothing = _Norms(0.0, 0.0, 0.0)  # of a sub-layer whose parameters are all another's
    sublayers = [
        {
            **site._asdict(),
            "scale": _range(scales[site]) if site in scales else None,
            "input_variance": of_input,
            "branch_variance": of_branch,
            **norms.get(site, nothing)._asdict(),
        }
        for site, (of_input, of_branch) in spreads.items()
    ]
    return {"update": update, "sublayers": sublayers, "others": norms[None]._asdict()}


def _range(scale: Tensor) -> dict[str, float]:
    """Return the least, mean and greatest element of ω or α."""
    mean = scale.double().mean().item()  # in float32 it might be rounded out of the range
    return {"min": scale.min().item(), "mean": mean, "max": scale.max().item()}


@torch.no_grad()
def _dependency(trainer: Trainer, sample: Any) -> dict[str, Any]:
    """Return, for each stack, β of the batch: a row for each sub-layer's output.

    ``own`` is Σ β_ii², the share of the branches in the outputs that they are added to. A stack
    whose β cannot be computed is left out, with a warning.
    """
    batch, _ = private.prepared(trainer, sample)
    model, found = _in_float32(trainer.get_model()), {}
    with _evaluating(model), traced(model) as stacks:
        model(**batch["net_input"], features_only=True)
    for name, stack in stacks.items():
        try:
            beta = dependencies(stack, real_tokens(model, name, batch))
        except AdminError as error:  # weights that diverge, say: no reason to end the run
            logger.warning("no layer dependency: %s", error.message)
            continue
        rows = [[round(b, 6) for b in row[: i + 1]] for i, row in enumerate(beta.tolist())]
        found[name] = {"own": beta.diagonal()[1:].square().sum().item(), "beta": rows}
    return found


def _in_float32(model: nn.Module) -> nn.Module:
    """Return ``model``, or a copy in float32 if it is in half precision.

    β is a sum that must come out exactly, and the hooks do not see layer norms that read a float32
    sum with half precision weights.
    """
    if all(p.element_size() >= 4 for p in model.parameters()):
        return model
    return copy.deepcopy(model).float()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set the model to eval mode inside the block, without LayerDrop and dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _is_master(trainer: Trainer) -> bool:
    return distributed_utils.is_master(trainer.cfg.distributed_training)


def _log(trainer: Trainer, entry: dict[str, Any]) -> None:
    """Write a line of dynamics.jsonl, from the first worker; numbers that JSON lacks are null."""
    if _is_master(trainer):
        line = _finite(entry)
        write(TAG, Dynamics(line))
        if "trackers" not in vars(trainer):
            trainer.trackers = _trackers(trainer.cfg)
        trainer.trackers.log(Dynamics(_scalars(line)), tag=TAG, step=line["update"])


def _trackers(run: Any) -> BaseProgressBar:
    """Return a progress bar that shows nothing, but logs to all that the run's options ask for.

    As fairseq-train makes its own: --tensorboard-logdir, --wandb-project, --aim-repo, …
    """
    common, save_dir = run.common, run.checkpoint.save_dir
    return progress_bar(
        [],
        log_format="none",
        aim_repo=common.aim_repo,
        aim_run_hash=common.aim_run_hash,
        aim_param_checkpoint_dir=save_dir,
        tensorboard_logdir=common.tensorboard_logdir,
        wandb_project=common.wandb_project,
        wandb_run_name=os.environ.get("WANDB_NAME", os.path.basename(save_dir)),
        azureml_logging=common.azureml_logging,
    )


def _scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line by name, such as gradient/encoder.0.self_attn and own/decoder.

    The part before the slash is what TensorBoard and the like group charts by.
    """
    found = {f"own/{name}": part["own"] for name, part in line.get("dependency", {}).items()}
    found.update({f"{name}/others": norm for name, norm in line.get("others", {}).items()})
    for measured in line.get("sublayers", ()):
        numbers = dict(measured)
        site = ".".join(str(numbers.pop(part)) for part in ("stack", "layer", "sublayer"))
        scale = numbers.pop("scale") or {}
        numbers.update({f"scale_{kind}": value for kind, value in scale.items()})
        found.update({f"{quantity}/{site}": number for quantity, number in numbers.items()})
    return {name: number for name, number in found.items() if number is not None}


def _finite(value: Any) -> Any:
    """Return ``value`` with None in place of infinite numbers and NaN, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
