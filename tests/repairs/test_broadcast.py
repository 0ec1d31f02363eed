"""What workers send one another: real processes, forked, so that they need not import again."""

import torch
import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils
from omegaconf import DictConfig
from torch.multiprocessing import start_processes

from admin_fairseq.repairs import cpu_workers

CHECKPOINT = {
    "cfg": DictConfig({"model": {"_name": "admin_transformer"}}),
    "model": {"weight": torch.arange(6.0).view(2, 3)},
    "extra_state": {"seen": [3, 4]},
}


def exchange(rank, folder):
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    group = dist.group.WORLD
    mine = CHECKPOINT if rank == 0 else None
    received = distributed_utils.broadcast_object(mine, src_rank=0, group=group)
    assert received["cfg"] == CHECKPOINT["cfg"]
    assert torch.equal(received["model"]["weight"], CHECKPOINT["model"]["weight"])
    assert received["extra_state"] == CHECKPOINT["extra_state"]
    gathered = cpu_workers.all_gather_list({"rank": rank, "text": "long" * 9999}, group=group)
    assert [each["rank"] for each in gathered] == [0, 1]


def test_a_checkpoint_reaches_the_other_worker_whatever_torch_refuses_to_load(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    start_processes(exchange, (str(tmp_path),), nprocs=2, start_method="fork")
