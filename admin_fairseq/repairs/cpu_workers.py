"""Run several workers (distributed processes) on CPUs, where fairseq expects GPUs.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1. On a machine without GPUs, distributed/utils.py
divides by the number of GPUs under torchrun, refuses every --distributed-world-size (by an
assertion), starts no process at all (and ends with status 0) if --distributed-init-method is given,
and selects a GPU under srun; its default backend is NCCL, and it passes a GPU's number to torch's
DistributedDataParallel. With this module fairseq sees one device for each worker of the machine,
and uses the backend gloo.
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
    """Patch fairseq so that a run without GPUs can have several workers; others do not change."""
    distributed_utils.call_main = call_main
    distributed_utils.distributed_main = distributed_main
    distributed_utils.infer_init_method = infer_init_method
    distributed_fairseq_model.DistributedDataParallel = data_parallel


def call_main(cfg: DictConfig, main: Callable[..., None], **kwargs: Any) -> None:
    """Start the workers of a run, like fairseq's ``call_main``, but also without GPUs.

    ``main`` is the function that each worker calls with ``cfg`` and ``kwargs``.
    """
    if not _without_gpus(cfg):
        return fairseqs_call_main(cfg, main, **kwargs)
    _choose_for_cpus(cfg.distributed_training)
    _share_cores(cfg.distributed_training)
    with _cpus_as_devices(cfg.distributed_training):
        fairseqs_call_main(cfg, main, **kwargs)


def distributed_main(
    i: int, main: Callable[..., None], cfg: DictConfig, kwargs: dict[str, Any]
) -> None:
    """Run worker ``i`` of a run, like fairseq's ``distributed_main``, but also without GPUs.

    fairseq spawns processes with this function; unpickling it in a new process imports the plugin.
    """
    if not _without_gpus(cfg):
        return fairseqs_distributed_main(i, main, cfg, kwargs)
    with _cpus_as_devices(cfg.distributed_training):
        fairseqs_distributed_main(i, main, cfg, kwargs)


def infer_init_method(options: DictConfig, force_distributed: bool = False) -> None:
    """Set in ``options`` how workers find each other, by fairseq's ``infer_init_method``.

    Raises AdminError in place of fairseq's assertion if --distributed-world-size is not possible.
    """
    try:
        fairseqs_infer_init_method(options, force_distributed)
    except AssertionError:
        raise AdminError(
            f"--distributed-world-size {options.distributed_world_size} is not possible: a machine "
            "has at most as many workers as GPUs (with --cpu, any number), and under "
            "Slurm a run has nodes x tasks per node"
        ) from None


def data_parallel(module: nn.Module, **options: Any) -> DistributedDataParallel:
    """Wrap ``module`` in torch's DistributedDataParallel, without GPU numbers if it is on the CPU.

    fairseq always passes the number of a GPU, which torch refuses for a model on the CPU.
    """
    if not any(p.is_cuda for p in module.parameters()):
        options.update(device_ids=None, output_device=None)
    return DistributedDataParallel(module, **options)


def all_gather_list(
    data: Any, group: Optional[dist.ProcessGroup] = None, max_size: Optional[int] = None
) -> list[Any]:
    """Return the ``data`` of every worker in ``group``, in the order of their ranks.

    Replaces fairseq's function of this name, which needs GPU memory and limits the size of
    ``data``. ``max_size``, that limit, is ignored.
    """
    group = distributed_utils.get_global_group() if group is None else group
    gathered = [None] * distributed_utils.get_world_size(group)
    dist.all_gather_object(gathered, utils.move_to_cpu(data), group=group)
    return gathered


def _without_gpus(cfg: DictConfig) -> bool:
    """Return whether a run uses neither GPUs nor a TPU: --cpu is given or no GPU is available."""
    return not cfg.common.tpu and (cfg.common.cpu or not torch.cuda.is_available())


def _choose_for_cpus(options: DictConfig) -> None:
    """Replace the defaults in ``options`` that only suit GPUs: the backend and world size."""
    if options.distributed_backend == "nccl":
        options.distributed_backend = "gloo"
    by_torchrun = all(name in os.environ for name in SET_BY_TORCHRUN)
    if by_torchrun and options.distributed_init_method is None:
        options.distributed_world_size = int(os.environ["WORLD_SIZE"])


def _cpus_as_devices(options: DictConfig) -> ContextManager[None]:
    """Return a context in which fairseq counts one device per worker of this machine.

    Inside it fairseq's distributed code selects no GPU, and gathers Python objects with
    ``all_gather_list``.
    """
    devices = StandIn(
        torch.cuda,
        device_count=lambda: _workers_here(options),
        set_device=lambda device: None,
        is_available=lambda: False,
    )
    torch_on_cpus = StandIn(distributed_utils.torch, cuda=devices)
    return replaced(distributed_utils, torch=torch_on_cpus, all_gather_list=all_gather_list)


def _workers_here(options: DictConfig) -> int:
    """Return the number of workers that run on this machine, at least 1."""
    return max(1, options.distributed_world_size // int(os.environ.get("SLURM_NNODES", 1)))


def _share_cores(options: DictConfig) -> None:
    """Limit the threads of each worker that this process starts to its share of the CPU cores.

    By default each worker has as many threads as there are cores; threads that waited for a core
    made updates 30 times as slow. Sets OMP_NUM_THREADS, which workers read when they start
    (torchrun sets it too), unless it is set already.
    """
    threads = max(1, torch.get_num_threads() // _workers_here(options))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
