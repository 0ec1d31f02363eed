"""The functions for scripts and notebooks; ``import admin_fairseq`` has all of them.

All but ``load`` are what the commands call too. ``docs/api.md`` shows them at work.
"""

from __future__ import annotations

import os
from typing import Any, Optional

import torch
from fairseq import checkpoint_utils
from fairseq.hub_utils import GeneratorHubInterface

from admin_fairseq import pieces
from admin_fairseq.analysis.studies.dependency import layer_dependency
from admin_fairseq.checkpoints.fold import fold_file as fold
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import naming_errors
from admin_fairseq.profiling.profile import Profile, read_profile

__all__ = ["AdminError", "Profile", "fold", "layer_dependency", "load", "read_profile"]


def load(
    checkpoint: str,
    data: str,
    sentencepiece_model: Optional[str] = None,
    device: str = "cpu",
    **overrides: Any,
) -> GeneratorHubInterface:
    """Load a checkpoint, ours or fairseq's own, to translate with it or to look inside.

    Args:
        checkpoint: its file, or several with ``:`` between them, for an ensemble.
        data: the folder with the dictionaries (``data/bin``).
        sentencepiece_model: with it, ``translate`` takes and returns plain text; without it, text
            that is split into subword pieces.
        device: where to run, as torch names it (``"cuda"``).
        overrides: options of the model or the task to change (``fp16=True``).

    Returns:
        fairseq's hub interface: ``translate(sentences, beam=5)`` returns a list of translations,
        ``models`` are the models, in eval mode, ``task`` has the dictionaries and the data.

    Raises:
        AdminError: if a file is missing, damaged, or does not fit the dictionaries.
    """
    paths = checkpoint.split(os.pathsep)
    for path in paths:
        if not os.path.isfile(path):
            raise AdminError(f"{path}: no such checkpoint")
    if not os.path.isdir(data):
        raise AdminError(f"{data}: no such folder; it has the dictionaries (data/bin)")
    if sentencepiece_model is not None:
        pieces.load(sentencepiece_model)  # raises if it is none
        overrides.update(bpe="sentencepiece", sentencepiece_model=sentencepiece_model)
    # not hub_utils.from_pretrained, which replaces options by what lies in the folder
    with naming_errors(checkpoint, "load"):
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            paths, arg_overrides={**overrides, "data": data}
        )
        return GeneratorHubInterface(cfg, task, models).eval().to(torch.device(device))
