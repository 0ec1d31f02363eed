"""Several workers on CPUs, where fairseq counts GPUs to decide how many may run.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1. Without GPUs, distributed/utils.py divides by
their number under torchrun, refuses every --distributed-world-size (by an assertion), starts no
process at all (and ends with status 0) where --distributed-init-method is given, and chooses a GPU
under srun; its backend is NCCL, and torch's DistributedDataParallel is told the number of a GPU.
Here it sees one device per worker of the machine, and uses gloo as backend.
"""

from __future__ import annotations

import os
from typing import Any, Callable, ContextManager, Optional

import torch
import torch.distributed as dist
from fairseq import utils
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.stand_in import StandIn, replaced

SET_BY_TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
fairseqs_call_main = distributed_utils.call_main
fairseqs_distributed_main = distributed_utils.distributed_main
fairseqs_infer_init_method = distributed_utils.infer_init_method


def apply() -> None:
    """Let runs without GPUs have several workers; those with GPUs do not change."""
    distributed_utils.call_main = call_main
    distributed_utils.distributed_main = distributed_main
    distributed_utils.infer_init_method = infer_init_method
    distributed_fairseq_model.DistributedDataParallel = data_parallel


def call_main(cfg: DictConfig, main: Callable[..., None], **kwargs: Any) -> None:
    """Start the workers of a run, like fairseq's function of this name."""
    if not _without_gpus(cfg):
        return fairseqs_call_main(cfg, main, **kwargs)
    _choose_for_cpus(cfg.distributed_training)
    _share_cores(cfg.distributed_training)
    with _cpus_for_gpus(cfg.distributed_training):
        fairseqs_call_main(cfg, main, **kwargs)


def distributed_main(
    i: int, main: Callable[..., None], cfg: DictConfig, kwargs: dict[str, Any]
) -> None:
    """Run worker ``i``, like fairseq's function of this name.

    Processes that fairseq spawns unpickle this function, and thereby import the plugin.
    """
    if not _without_gpus(cfg):
        return fairseqs_distributed_main(i, main, cfg, kwargs)
    with _cpus_for_gpus(cfg.distributed_training):
        fairseqs_distributed_main(i, main, cfg, kwargs)


def infer_init_method(options: DictConfig, force_distributed: bool = False) -> None:
    """Like fairseq's function of this name; turns its assertions about options into AdminErrors."""
    try:
        fairseqs_infer_init_method(options, force_distributed)
    except AssertionError:
        raise AdminError(
            f"--distributed-world-size {options.distributed_world_size} does not fit: a machine "
            "has at most as many workers as GPUs (with --cpu, any number), and under "
            "Slurm as many as nodes x tasks per node"
        ) from None


def data_parallel(module: nn.Module, **options: Any) -> DistributedDataParallel:
    """torch's wrapper, without device numbers if the model is on the CPU."""
    if not any(p.is_cuda for p in module.parameters()):
        options.update(device_ids=None, output_device=None)
    return DistributedDataParallel(module, **options)


def all_gather_list(
    data: Any, group: Optional[dist.ProcessGroup] = None, max_size: Optional[int] = None
) -> list[Any]:
    """The ``data`` of every worker; fairseq's function needs GPU memory and has a size limit."""
    group = distributed_utils.get_global_group() if group is None else group
    gathered = [None] * distributed_utils.get_world_size(group)
    dist.all_gather_object(gathered, utils.move_to_cpu(data), group=group)
    return gathered


def _without_gpus(cfg: DictConfig) -> bool:
    return not cfg.common.tpu and (cfg.common.cpu or not torch.cuda.is_available())


def _choose_for_cpus(options: DictConfig) -> None:
    """Replace fairseq's defaults that only suit GPUs."""
    if options.distributed_backend == "nccl":
        options.distributed_backend = "gloo"
    by_torchrun = all(name in os.environ for name in SET_BY_TORCHRUN)
    if by_torchrun and options.distributed_init_method is None:
        options.distributed_world_size = int(os.environ["WORLD_SIZE"])


def _cpus_for_gpus(options: DictConfig) -> ContextManager[None]:
    """Let fairseq's distributed code see one device for each worker of this machine."""
    devices = StandIn(
        torch.cuda,
        device_count=lambda: _workers_here(options),
        set_device=lambda device: None,
        is_available=lambda: False,
    )
    torch_on_cpus = StandIn(distributed_utils.torch, cuda=devices)
    return replaced(distributed_utils, torch=torch_on_cpus, all_gather_list=all_gather_list)


def _workers_here(options: DictConfig) -> int:
    return max(1, options.distributed_world_size // int(os.environ.get("SLURM_NNODES", 1)))


def _share_cores(options: DictConfig) -> None:
    """Give each worker that this process starts a share of the cores, as torchrun does.

    By default each has as many threads as there are cores; waiting for threads without a core made
    updates 30 times as slow. Workers read the variable when they start.
    """
    threads = max(1, torch.get_num_threads() // _workers_here(options))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
