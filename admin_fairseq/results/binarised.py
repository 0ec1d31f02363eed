"""Compute the unigram entropy of training data in fairseq's binary format.

A model that predicts no better than unigram frequencies has a loss of about this entropy."""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import Iterator, Mapping, Optional

import numpy as np
from fairseq.data.data_utils import infer_language_pair

from admin_fairseq.errors import AdminError
from admin_fairseq.files import open_regular
from admin_fairseq.repairs.data_folders import HEADER
from admin_fairseq.repairs.private import INDEX_MAGIC, type_of_tokens

CHUNK = 1 << 22  # tokens counted at a time
LARGEST_VOCABULARY = 1 << 24  # token numbers from here on mean damaged data


def training_target(data: str, config: Mapping) -> Optional[str]:
    """Find the binarised training text in the folder ``data`` that the model learned to predict.

    This is the target language of a translation task, or the only text of a language model;
    ``config`` is the run's configuration. Returns the path without .idx or .bin, or None if the
    text is missing or not in fairseq's usual format.
    """
    task = config.get("task", {})
    subset = str(config.get("dataset", {}).get("train_subset") or "train")
    try:
        if "source_lang" not in task:
            candidates = [subset]
        else:
            pair = task["source_lang"], task.get("target_lang")
            first, second = infer_language_pair(data) if None in pair else pair
            directions = (f"{first}-{second}", f"{second}-{first}")
            candidates = [f"{subset}.{direction}.{second}" for direction in directions]
    except OSError:
        return None
    paths = (os.path.join(data, name) for name in candidates)
    return next((path for path in paths if _header(path).startswith(INDEX_MAGIC)), None)


def _header(path: str) -> bytes:
    """Read the first bytes of ``path``.idx, where fairseq writes the format; b"" if unreadable."""
    try:
        with open_regular(f"{path}.idx") as file:
            return file.read(HEADER.size)
    except (OSError, ValueError):  # ValueError: no valid file name
        return b""


@cache
def unigram_bits(path: str) -> float:
    """Compute the unigram entropy, in bits per token, of the binarised text ``path``.bin, .idx.

    Raises AdminError if the data are damaged.
    """
    counts = np.zeros(0, np.int64)
    try:
        for tokens in _tokens(path):
            more = np.bincount(tokens, minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
        if not len(counts):
            raise ValueError("no tokens")
    except (OSError, ValueError, struct.error) as error:
        raise AdminError(
            f"{path}.bin, .idx: not fairseq's binarised data, or damaged; run "
            f"fairseq-preprocess again, or remove them: {error}"
        ) from None
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _tokens(path: str) -> Iterator[np.ndarray]:
    """Yield the token numbers of a binarised text in arrays of up to CHUNK tokens; raise ValueError
    if they cannot be token numbers."""
    _, _, code, _ = HEADER.unpack(_header(path))
    kind = np.dtype(type_of_tokens(code))
    if kind.kind not in "iu":
        raise ValueError("tokens that are not whole numbers")
    with open_regular(f"{path}.bin") as file:
        while content := file.read(CHUNK * kind.itemsize):
            tokens = np.frombuffer(content, kind)
            if tokens.min() < 0 or tokens.max() >= LARGEST_VOCABULARY:
                raise ValueError("tokens that no dictionary has")
            yield tokens.astype(np.int64)
