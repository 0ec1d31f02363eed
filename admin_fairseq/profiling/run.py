"""Set Admin's residual scales ω when training starts: read a profile, or measure one.

A profile holds the variances that the first training batches have in every layer.
"""

from __future__ import annotations

import copy
import logging
import os
import re
import sys
import textwrap
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Iterator, Optional

import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.distributed import utils as distributed_utils
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import DictConfig
from torch import nn

from admin_fairseq.config import PluginOptions
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.fairseq_runs import check_batch, telling_of_data
from admin_fairseq.hooks.recorder import (
    Recorder,
    Site,
    all_layers_kept,
    pooled_omegas,
    residual_sites,
    set_omega,
)
from admin_fairseq.layers.transformer_stack import on_reference_kernels
from admin_fairseq.modules.residual import ScaledResidual
from admin_fairseq.profiling.profile import Entry, Profile, read_profile
from admin_fairseq.provenance import installed_versions
from admin_fairseq.repairs.private import prepared
from admin_fairseq.schemes import Profiling
from admin_fairseq.starting import command_line, has_checkpoints

logger = logging.getLogger(__name__)


def set_omegas(model: nn.Module, config: PluginOptions, task: FairseqTask, run: DictConfig) -> None:
    """Set Admin's residual scales ω of ``model`` by reading or measuring a profile.

    To be called if ``run`` starts from newly initialised weights; ``config`` says what the scheme
    (--init-type) needs. A profile holds measured per-layer variances; a newly measured one is
    written to --profile-path, by default profile.json in --save-dir. With --init-type
    adaptive-profiling the process then ends with status 0.
    """
    profiling = config.scheme.profiling
    if profiling is Profiling.NONE:
        return
    path = config.profile_path or _default_path(run)
    sites = residual_sites(model)
    reading = profiling is Profiling.READ
    profile = _read(path, sites) if reading else measure(model, config, task, run)
    _apply(profile, sites, config, path)
    if not reading:
        _refuse_to_replace(path, profile, sites, run)
        if distributed_utils.is_master(run.distributed_training):
            profile.write(path)
    if profiling is Profiling.WRITE:
        _finish(path)
    logger.info(f"ω of {len(sites)} sub-layers set, profile: {path}")


def profiled(
    model: nn.Module, config: PluginOptions, task: FairseqTask, run: DictConfig
) -> Optional[Profile]:
    """Set Admin's residual scales ω as a training run would, but write no file.

    Returns the profile (measured per-layer variances), which is read from --profile-path if given,
    and measured otherwise. For a scheme (--init-type) that needs no profile nothing is done, and
    None is returned.
    """
    if config.scheme.profiling is Profiling.NONE:
        return None
    sites, path = residual_sites(model), config.profile_path
    profile = _read(path, sites) if path else measure(model, config, task, run)
    _apply(profile, sites, config, path or "profile")
    return profile


def _apply(
    profile: Profile, sites: dict[Site, ScaledResidual], config: PluginOptions, path: str
) -> None:
    """Set Admin's residual scale ω of each of ``sites`` to the value in ``profile``.

    Raises AdminError that names the profile's file ``path`` if the profile does not fit the model.
    """
    with blaming(path):
        omegas = profile.omegas_for(sites, _dims(config))
    for residual, omega in zip(sites.values(), omegas):
        set_omega(residual, omega)


def _dims(config: PluginOptions) -> dict[str, int]:
    """Return the model's dimensions that a profile depends on, besides the numbers of layers."""
    keys = [f"{s}_{dim}" for s in config.stacks for dim in ("embed_dim", "ffn_embed_dim")]
    return {key: getattr(config, key) for key in keys}


def _default_path(run: DictConfig) -> str:
    """Return the path of a run's profile if --profile-path does not name one."""
    return os.path.join(run.checkpoint.save_dir, "profile.json")


def _read(path: str, sites: dict[Site, ScaledResidual]) -> Profile:
    """Read the profile ``path``; if it is missing, raise AdminError with the command to make it."""
    if not os.path.exists(path):
        command = profiling_command(sys.argv, sys.modules["__main__"])
        raise AdminError(f"{os.path.abspath(path)}: no such profile; make it with: {command}")
    return read_profile(path, sites)


def _refuse_to_replace(
    path: str, profile: Profile, sites: dict[Site, ScaledResidual], run: DictConfig
) -> None:
    """Raise AdminError if ``path`` holds another profile (or anything else) that may be needed.

    That is profile.json in --save-dir if the checkpoints there were trained with it, and any other
    file, which --profile-path names.
    """
    own = os.path.realpath(path) == os.path.realpath(_default_path(run))
    if not os.path.lexists(path) or (own and not has_checkpoints(run.checkpoint)):
        return
    try:
        same = read_profile(path, sites).entries == profile.entries
    except AdminError:
        same = False
    if not same:
        raise AdminError(
            f"{path}: exists, and this run's profile is another; to use the one that exists: "
            "--init-type adaptive; to keep both: another --save-dir or --profile-path"
        )


def profiling_command(argv: list[str], main: Optional[ModuleType] = None) -> str:
    """Return the command line of a training run, changed to measure and write a profile.

    ``argv`` and ``main`` are the run's arguments and main module; --init-type becomes
    adaptive-profiling.
    """
    line = command_line(argv, main)
    asked = r"""(init[-_]type[= ]["']*)adaptive(?![\w-])"""
    if re.search(asked, line):
        return re.sub(asked, r"\1adaptive-profiling", line)
    hydra = "hydra" in line  # whose files may name the scheme
    return f"{line} {'model.init_type=' if hydra else '--init-type '}adaptive-profiling"


def _finish(path: str) -> None:
    """End the process of every worker with status 0, once the profile is written to ``path``."""
    if dist.is_initialized():
        dist.barrier()
    if not dist.is_initialized() or dist.get_rank() == 0:
        logger.info(f"profile written to {path}; train with --init-type adaptive")
    raise SystemExit(0)


def measure(model: nn.Module, config: PluginOptions, task: FairseqTask, run: DictConfig) -> Profile:
    """Measure a profile (per-layer variances) on the first --profile-batches batches per worker.

    Batches, device and precision are those of the training run that follows, and random numbers for
    dropout are seeded as fairseq seeds the first update. As the original Admin release does
    with its only batch, each batch sets every ω just before its sub-layer runs, from this batch's
    variances so far. Moments are then summed over batches and workers, and give the ω in the
    profile returned; the caller sets these in the model. The random state and the task are
    restored; the model stays on the device and in the precision of the run, as fairseq's trainer
    needs it. A model that --ddp-backend fully_sharded will shard is measured whole, in float32.

    Raises AdminError if there is no batch, or a variance is not finite.
    """
    run = _not_sharded(run)
    trainer = Trainer(run, task, model, task.build_criterion(run.criterion))
    model.to(trainer.device)
    recorder = Recorder(residual_sites(model))
    counts = torch.zeros(2, dtype=torch.float64)  # batches, tokens
    logger.info(f"profiling {config.profile_batches} batch(es) on every worker")
    amp = run.common.amp and trainer.cuda  # fairseq's autocast is that of a GPU
    autocast = torch.autocast(trainer.device.type, enabled=amp)
    was_training = model.training
    model.train()
    with torch.no_grad(), all_layers_kept(model), on_reference_kernels(model), left_as_it_was(task):
        for sample in _first_batches(trainer, run, config.profile_batches):
            with utils.set_torch_seed(run.common.seed), recorder.batch(), autocast:
                model(**sample["net_input"], features_only=True)
            counts += torch.tensor([1.0, sample["ntokens"]], dtype=torch.float64)
            logger.info(f"profiled batch {counts[0]:.0f}: {sample['ntokens']} tokens")
    model.train(was_training)
    _add_up(recorder.moments, trainer.device)
    _add_up(counts, trainer.device)
    if counts[0] == 0:
        raise AdminError(f"{run.task.data}: no training batch to profile")
    for site, variances in zip(recorder.sites, recorder.variances()):
        if not torch.isfinite(variances).all():
            raise AdminError(f"profiling: {site} has variances {variances.tolist()}")
    return _profile(recorder, config, run, batches=int(counts[0]), tokens=int(counts[1]))


@contextmanager
def left_as_it_was(task: FairseqTask) -> Iterator[None]:
    """Restore the attributes of ``task``, and dictionaries among them, when the block ends.

    Some of fairseq's tasks (translation_multi_simple_epoch) cannot load their data twice.
    """
    attributes = dict(vars(task))
    contents = [(held, dict(held)) for held in attributes.values() if isinstance(held, dict)]
    try:
        yield
    finally:
        vars(task).clear()
        vars(task).update(attributes)
        for held, content in contents:
            held.clear()
            held.update(content)


def _not_sharded(run: DictConfig) -> DictConfig:
    """Return the run's configuration, changed so that every worker has the whole model."""
    if run.distributed_training.ddp_backend != "fully_sharded":
        return run
    run = copy.deepcopy(run)
    run.distributed_training.ddp_backend = "legacy_ddp"
    run.distributed_training.cpu_offload = False
    run.common.fp16 = run.common.memory_efficient_fp16 = False  # the shards are of float32 weights
    return run


def _first_batches(trainer: Trainer, run: DictConfig, count: int) -> Iterator[dict[str, Any]]:
    """Yield the worker's first ``count`` batches, exactly as training will use them.

    Raises AdminError if the data cannot be read, or does not fit the dictionaries.
    """
    with telling_of_data(run):
        epoch = trainer.get_train_iterator(epoch=1, disable_iterator_cache=True)
    batches = epoch.next_epoch_itr(
        fix_batches_to_gpus=run.distributed_training.fix_batches_to_gpus,
        shuffle=epoch.next_epoch_idx > run.dataset.curriculum,
    )
    # not islice: fairseq reads ahead in a thread, which must end before the process does
    for batch in batches.take(count):
        sample, is_dummy = prepared(trainer, batch)
        if not is_dummy:
            check_batch(sample, trainer.task, run)
            yield sample


def _add_up(values: torch.Tensor, device: torch.device) -> None:
    """Sum ``values`` over all workers, in place; raise AdminError if that fails."""
    if dist.is_initialized():
        on_device = values.to(device)
        try:
            distributed_utils.all_reduce(on_device, distributed_utils.get_data_parallel_group())
        except RuntimeError as error:
            reason = textwrap.shorten(str(error), 200)
            raise AdminError(
                "profiling: the workers' variances cannot be added up; if another worker has "
                f"ended, its own output says why ({reason})"
            ) from None
        values.copy_(on_device)


def _profile(
    recorder: Recorder, config: PluginOptions, run: DictConfig, batches: int, tokens: int
) -> Profile:
    """Return the profile of what ``recorder`` measured: variances and residual scales ω.

    It also records the model's dimensions, and ``batches`` and ``tokens``, how many were measured.
    """
    sites, variances = list(recorder.sites), recorder.variances()
    entries = [
        Entry(*site, input_variance, branch_variance, omega)
        for site, (input_variance, branch_variance), omega in zip(
            sites, variances.tolist(), pooled_omegas(sites, variances)
        )
    ]
    precisions = [name for name in ("fp16", "bf16", "amp") if run.common[name]]
    if config.autocast:
        precisions.append(f"autocast {config.autocast}")
    return Profile(
        entries,
        model={
            **{f"{stack}_layers": getattr(config, f"{stack}_layers") for stack in config.stacks},
            **_dims(config),
        },
        measurement={
            "scheme": config.init_type,
            "batches": batches,
            "tokens": tokens,
            "workers": dist.get_world_size() if dist.is_initialized() else 1,
            "precision": precisions[0] if precisions else "fp32",
            "seed": run.common.seed,
        },
        packages=installed_versions("torch", "admin-fairseq", "fairseq", "fairseq-fixed"),
    )
