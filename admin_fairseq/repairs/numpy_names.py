"""Restore names that numpy has removed and fairseq's modules still use.

Seen in fairseq-fixed 0.12.3.1, and in fairseq 0.12.2 with a numpy newer than its own
(https://github.com/facebookresearch/fairseq/issues/4945):

- ``np.int``, ``np.float`` (removed in numpy 1.24) in ``data_utils`` and ``dynamic_crf_layer``;
- ``np.compat.long`` (removed in 2.3) in ``token_block_dataset``, without which neither
  --sample-break-mode eos nor generating from a language model works, and in
  ``language_pair_dataset``;
- ``np.percentile(interpolation=...)`` (removed in 2.4) in ``data_utils``, for --num-batch-buckets.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from fairseq.data import data_utils, language_pair_dataset, token_block_dataset
from fairseq.modules import dynamic_crf_layer

from admin_fairseq.repairs.stand_in import StandIn

MODULES = (data_utils, dynamic_crf_layer, language_pair_dataset, token_block_dataset)


def apply() -> None:
    """Replace ``np`` in fairseq's MODULES by a copy with the old names; numpy is unchanged."""
    for module in MODULES:
        module.np = StandIn(
            np, int=int, float=float, compat=SimpleNamespace(long=int), percentile=percentile
        )


def percentile(a: Any, q: Any, *, interpolation: str = "linear", **options: Any) -> Any:
    """Compute ``np.percentile``; its parameter ``method`` has the old name ``interpolation``."""
    return np.percentile(a, q, **{"method": interpolation, **options})
