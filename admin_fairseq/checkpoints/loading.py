"""fairseq's reading of checkpoints: under torch's protection, its errors told in one line."""

from __future__ import annotations

import argparse
import functools
import os
import pickle
import re
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.logging.meters import AverageMeter, StopwatchMeter, TimeMeter
from omegaconf import DictConfig

from admin_fairseq.errors import AdminError

METERS = (AverageMeter, StopwatchMeter, TimeMeter)


def allowed_types() -> list[Any]:
    """What fairseq keeps in a checkpoint beside tensors and plain containers.

    Options as a Namespace; numpy numbers and arrays (--eval-bleu logs its counts as such), under
    the names of numpy 1 and of numpy 2, as a checkpoint may come from either; and the meters that
    fairseq up to 0.8 kept, the original release among it.
    """
    makers = {"_reconstruct": np.zeros(1).__reduce__()[0], "scalar": np.float64(1).__reduce__()[0]}
    kinds = {type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")}
    return [
        *(argparse.Namespace, np.ndarray, np.dtype, *kinds),
        *((maker, f"numpy.core.multiarray.{name}") for name, maker in makers.items()),
        *((maker, f"numpy._core.multiarray.{name}") for name, maker in makers.items()),
        *((meter, f"fairseq.meters.{meter.__name__}") for meter in METERS),
    ]


def allow_fairseq_checkpoints() -> None:
    """Let torch's ``weights_only`` loading, the default since 2.6, read fairseq's checkpoints.

    Extends torch's allow-list and makes fairseq's reader tell a refusal in one line.
    """
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6):  # it takes pairs from then on
        torch.serialization.add_safe_globals(allowed_types())
    reader = checkpoint_utils.load_checkpoint_to_cpu
    if not hasattr(reader, "__wrapped__"):
        checkpoint_utils.load_checkpoint_to_cpu = _explaining(reader)


def _explaining(reader: Callable[..., dict]) -> Callable[..., dict]:
    @functools.wraps(reader)
    def load_checkpoint_to_cpu(
        path: str, arg_overrides: Optional[dict[str, Any]] = None, load_on_all_ranks: bool = False
    ) -> dict:
        # A configuration read from a checkpoint says itself where its weights are, so that a
        # model built from it needs no profile: see restores_weights.
        overrides = {**(arg_overrides or {}), "restore_file": os.path.abspath(path)}
        with explaining(path):
            return reader(path, overrides, load_on_all_ranks)

    return load_checkpoint_to_cpu


@contextmanager
def explaining(path: str) -> Iterator[None]:
    """Tell what torch raises on reading the file ``path`` as an AdminError."""
    try:
        yield
    except (pickle.UnpicklingError, EOFError) as error:
        raise AdminError(f"{path}: {_reason(error)}") from None
    except RuntimeError as error:
        if "PytorchStreamReader" in str(error):
            raise AdminError(f"{path}: {_reason(error)}") from None
        raise


def _reason(error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", str(error))
    if refused:
        return (
            f"refused: loading it would call {refused[1]}, which is not on the list of what "
            "fairseq checkpoints hold, and might run code"
        )
    return "not a checkpoint, or a damaged one"


def restores_weights(cfg: DictConfig) -> bool:
    """Whether a run with this checkpoint configuration starts from a checkpoint's weights.

    The same question that fairseq's ``checkpoint_utils.load_checkpoint`` asks later.
    """
    if cfg.restore_file != "checkpoint_last.pt":
        return os.path.exists(cfg.restore_file)
    last = os.path.join(cfg.save_dir, f"checkpoint_last{cfg.checkpoint_suffix or ''}.pt")
    return os.path.exists(last) or any(
        cfg.get(source) is not None for source in ("finetune_from_model", "continue_once")
    )
