"""Determine whether a training run starts from a checkpoint, and refuse a run that cannot work.

fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``checkpoint_utils.load_checkpoint``) ignore a requested
checkpoint that is missing, and a folder in place of checkpoint_last.pt: training starts from
scratch and overwrites what is there.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
import os
import re
import shlex
import sys
from types import ModuleType
from typing import Any, Callable, Iterator, Optional

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer
from omegaconf import DictConfig, OmegaConf

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.bounds import spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import reading
from admin_fairseq.repairs.private import root_of
from admin_fairseq.schemes import Profiling, Scheme

DEFAULT = "checkpoint_last.pt"  # of --restore-file: the file in --save-dir
DEFAULT_LR = [0.25]  # fairseq's --lr, for the optimiser NAG and convolutional models
GIVES_LR = r"--lr(=.*)?|\+*optimization\.lr=.*"
ASKS_FOR_FP16 = r"--(memory-efficient-)?fp16|\+*common\.(memory_efficient_)?fp16=.*"

logger = logging.getLogger(__name__)


def apply() -> None:
    """Patch fairseq so that it refuses unusable checkpoints, and options that cannot work.

    The refusal of checkpoints holds for all architectures, fairseq's own included: starting from
    scratch would overwrite their checkpoints too.
    """
    checkpoint_utils.load_checkpoint = _careful(checkpoint_utils.load_checkpoint)
    distributed_utils.call_main = _checked(distributed_utils.call_main)
    Trainer.__init__ = _checked_trainer(Trainer.__init__)


def _checked(call_main: Callable[..., None]) -> Callable[..., None]:
    """Wrap fairseq's ``call_main`` so that the options of a training command are checked first.

    With hydra, fairseq imports the plugin only after ``call_main``; there ``_checked_trainer``
    checks them when the run's first trainer is built, which is that of the profile if one is
    measured.
    """

    @functools.wraps(call_main)
    def called(cfg: DictConfig, main: Callable[..., None], **kwargs: Any) -> None:
        if OmegaConf.is_config(cfg):
            check_run(cfg)
        call_main(cfg, main, **kwargs)

    return called


def _checked_trainer(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Trainer.__init__`` so that it checks the run's options first (see ``_checked``)."""

    @functools.wraps(init)
    def __init__(self: Trainer, cfg: DictConfig, *args: Any, **kwargs: Any) -> None:
        check_run(cfg)
        init(self, cfg, *args, **kwargs)

    return __init__


def check_run(run: DictConfig) -> None:
    """Raise AdminError if ``run`` trains one of our models with options that cannot be meant.

    On a CPU, --fp16 would fail only after the profile (measured per-layer variances), with a
    message about CUDA; without --lr the rate is 0.25, with which no transformer trains; fairseq's
    own kernels (--reference-kernels) are never compiled.
    """
    if getattr(OmegaConf.select(run, "model"), "_name", None) not in ARCHITECTURES:
        return
    fp16 = run.common.fp16 or run.common.memory_efficient_fp16
    if fp16 and (run.common.cpu or not torch.cuda.is_available()):
        where = "--cpu is given" if run.common.cpu else "torch finds none"
        command = command_line(on_cpu(sys.argv), sys.modules["__main__"])
        raise AdminError(f"--fp16 needs a GPU, and {where}; to train on the CPU: {command}")
    lr_given = any(re.fullmatch(GIVES_LR, word) for word in sys.argv)
    if list(run.optimization.lr) == DEFAULT_LR and not lr_given:
        raise AdminError(
            f"--lr (hydra: optimization.lr) is missing, and fairseq's default is {DEFAULT_LR[0]}, "
            "with which no transformer trains; give one, such as 1e-3 with a warm-up"
        )
    if getattr(run.model, "compile", False) and run.model.reference_kernels:
        raise AdminError("--compile compiles no --reference-kernels; leave one of them out")


def on_cpu(argv: list[str]) -> list[str]:
    """Return the command line ``argv`` changed to train in full precision on the CPU."""
    kept = [word for word in argv if not re.fullmatch(ASKS_FOR_FP16, word)]
    if "hydra" in os.path.basename(argv[0]):  # fp16 may also come from a configuration file
        wanted = ["common.fp16=false", "common.cpu=true"]
    else:
        wanted = ["--cpu"]
    return [*kept, *(word for word in wanted if word not in kept)]


def run_of(cfg: Any) -> Optional[DictConfig]:
    """Return the run's whole configuration, given the model's part ``cfg`` of it.

    Returns None if the model is built outside of a run, for example by a test.
    """
    root = root_of(cfg) if OmegaConf.is_config(cfg) else None
    return root if root is not None and "checkpoint" in root else None


def starts_afresh(run: DictConfig, scheme: Scheme) -> bool:
    """Return whether ``run`` trains, or profiles, a model from newly drawn weights.

    A run that only measures a profile ends before fairseq reads any checkpoint, so it always uses
    new weights.
    """
    return scheme.profiling is Profiling.WRITE or not restores_weights(run.checkpoint)


def restores_weights(cfg: DictConfig) -> bool:
    """Return whether a run with the checkpoint options ``cfg`` starts from a checkpoint's weights.

    The answer is what fairseq's ``checkpoint_utils.load_checkpoint`` will do later. Raises
    AdminError if the checkpoint to start from is missing.
    """
    return (_asked_for(cfg) or _left_by_a_kill(cfg)) is not None


def _asked_for(cfg: DictConfig) -> Optional[str]:
    """Return the path of the checkpoint to start from (--restore-file and others), or None."""
    last, asked = _last(cfg), cfg.restore_file
    if asked != DEFAULT:
        asked = asked.replace(".pt", f"{_suffix(cfg)}.pt")  # as fairseq does
        if os.path.realpath(asked) != os.path.realpath(last):
            return _regular(asked, "correct --restore-file")
    if _lies_there(last):
        return _regular(last, "choose another --save-dir to start afresh")
    for option in ("continue_once", "finetune_from_model"):
        path = cfg.get(option)
        # as in fairseq, these are for the first start, and only with the default --restore-file
        if path is not None and asked == DEFAULT and not _has_begun(cfg, path):
            return _regular(path, f"correct {spelled(option)}")
    return None


def _has_begun(cfg: DictConfig, path: str) -> bool:
    """Return whether a run that starts from ``path`` left checkpoints in --save-dir when killed.

    If ``path`` lies there too, they may be those of the run before it.
    """
    beside = os.path.realpath(os.path.dirname(path)) == os.path.realpath(cfg.save_dir)
    return not beside and _left_by_a_kill(cfg) is not None


def _last(cfg: DictConfig) -> str:
    """Return the path of checkpoint_last.pt in --save-dir."""
    return os.path.join(cfg.save_dir, f"checkpoint_last{_suffix(cfg)}.pt")


def _suffix(cfg: DictConfig) -> str:
    """Return the suffix that fairseq adds to the names of a run's checkpoints, often empty."""
    return cfg.checkpoint_suffix or ""


def _regular(path: str, remedy: str) -> str:
    """Return ``path`` if it is a regular file; else raise AdminError that ends with ``remedy``."""
    if PathManager.path_requires_pathmanager(path) or any(map(os.path.isfile, _places(path))):
        return path
    what = "not a regular file" if _lies_there(path) else "no such file"
    raise AdminError(f"{path}: {what}, but training should start from it; {remedy}")


def _lies_there(path: str) -> bool:
    """Return whether anything exists at ``path``, or at the place of its first shard."""
    return any(map(os.path.lexists, _places(path)))


def _places(path: str) -> tuple[str, str]:
    """Return where fairseq may save the checkpoint ``path``.

    The second path is that of the first shard, with --use-sharded-state.
    """
    return path, path.replace(".pt", "-shard0.pt")


def _left_by_a_kill(cfg: DictConfig) -> Optional[str]:
    """Return the newest checkpoint of a run killed before it wrote checkpoint_last.pt, or None."""
    wanted = not cfg.get("no_last_checkpoints")
    return next(_newest_first(cfg), None) if wanted and not _lies_there(_last(cfg)) else None


def has_checkpoints(cfg: DictConfig) -> bool:
    """Return whether --save-dir has checkpoints of a run."""
    return _lies_there(_last(cfg)) or next(_newest_first(cfg), None) is not None


def _newest_first(cfg: DictConfig) -> Iterator[str]:
    """Yield the paths of the checkpoints in --save-dir, newest first.

    The order is by epoch and update; the best checkpoints (by validation) come last.
    """
    kinds = r"(\d+)|_(\d+)_(\d+)|_best|\.best_.*_-?[\d.]+"
    found = []
    for name in os.listdir(cfg.save_dir) if os.path.isdir(cfg.save_dir) else ():
        match = re.fullmatch(rf"checkpoint(?:{kinds}){re.escape(_suffix(cfg))}\.pt", name)
        if match:
            end_of, epoch, updates = (float(number or 0) for number in match.groups())
            found.append(((end_of or epoch, math.inf if end_of else updates), name))
    return (os.path.join(cfg.save_dir, name) for _, name in sorted(found, reverse=True))


def _careful(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap fairseq's ``load_checkpoint`` to refuse missing files and to continue killed runs.

    Without checkpoint_last.pt it loads the newest checkpoint in --save-dir; for a damaged file, the
    error names a command that continues from another. A run with all updates done ends here.
    """

    @functools.wraps(load)
    def load_checkpoint(cfg: DictConfig, trainer: Trainer, **options: Any) -> Any:
        if cfg.restore_file != DEFAULT and cfg.finetune_from_model:  # fairseq raises ValueError
            raise AdminError("--finetune-from-model and --restore-file: leave one of them out")
        asked_for = _asked_for(cfg)
        left = None if asked_for else _left_by_a_kill(cfg)
        if left is not None:
            logger.warning(
                f"{_last(cfg)}: missing; training continues from {left} "
                "(choose another --save-dir to start afresh)"
            )
            cfg = copy.deepcopy(cfg)
            cfg.restore_file, cfg.finetune_from_model = _as_option(left, cfg), None
        try:
            loaded = load(cfg, trainer, **options)
        except AdminError as error:
            raise _with_a_way_out(error, asked_for or left, cfg) from None
        _end_if_complete(trainer)
        return loaded

    return load_checkpoint


def _end_if_complete(trainer: Trainer) -> None:
    """End the process with status 0 if --max-update updates are done; fairseq would do one more."""
    made, most = trainer.get_num_updates(), trainer.cfg.optimization.max_update
    if 0 < most <= made:
        logger.info(f"training is complete: {made} updates are done, --max-update is {most}")
        raise SystemExit(0)


def _as_option(path: str, cfg: DictConfig) -> str:
    """Return ``path`` as --restore-file expects it: without the suffix, which fairseq adds."""
    return path.replace(f"{_suffix(cfg)}.pt", ".pt")


def _with_a_way_out(error: AdminError, path: Optional[str], cfg: DictConfig) -> AdminError:
    """Return ``error``; for a damaged file in --save-dir, add a command that works without it."""
    if path is None or os.path.dirname(path) != cfg.save_dir.rstrip(os.sep) or _is_whole(path):
        return error
    others = (other for other in _newest_first(cfg) if other != path)
    whole = next(filter(_is_whole, others), None)
    if whole is None:
        return error
    command = command_line(sys.argv, sys.modules["__main__"])
    option = "checkpoint.restore_file=" if "hydra" in command else "--restore-file "
    way_out = f"{command} {option}{shlex.quote(_as_option(whole, cfg))}"
    return AdminError(f"{error.message}; continue from the newest undamaged one with: {way_out}")


def _is_whole(path: str) -> bool:
    """Return whether the checkpoint ``path`` can be read completely."""
    try:
        reading.read(path)
    except AdminError:
        return False
    return True


def command_line(argv: list[str], main: Optional[ModuleType] = None) -> str:
    """Return ``argv``, the arguments of the module ``main``, as a command to paste into a shell."""
    words = [os.path.basename(argv[0]), *argv[1:]]
    spec = main.__spec__ if main else None
    if spec and words[0].endswith(".py"):
        words[:1] = ["python", "-m", spec.name]
    return shlex.join(words)
