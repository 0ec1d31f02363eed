"""Whether a training run starts from a checkpoint's weights."""

from __future__ import annotations

import os

from omegaconf import DictConfig


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
