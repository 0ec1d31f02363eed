"""Declare the options that say which models are studied, and under which conditions."""

# no postponed annotations: fairseq's parser generator reads types
import shlex
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence

import torch
from fairseq.dataclass import FairseqDataclass

from admin_fairseq.bounds import SEED, counting
from admin_fairseq.errors import AdminError
from admin_fairseq.studies.options import (
    REQUIRED,
    Depth,
    depths,
    option,
    repeated,
    trailing_words,
)
from admin_fairseq.studies.study import plain

ARCHS = ("postln_transformer_tiny", "preln_transformer_tiny", "admin_transformer_tiny")
ONE_DEPTH, MANY_DEPTHS = "18", "6,12,18,24,36,48"
LAYERS_HELP = (
    "layers of every --arch: 6,12,18 (both stacks) or 12-3,60-12 (encoder-decoder); ignored for "
    "architectures that set --encoder-layers or --decoder-layers"
)


@dataclass
class Conditions(FairseqDataclass):
    """The conditions that all models of a study share.

    ``words`` are further options of ``fairseq-train``.
    """

    data: str = option(
        REQUIRED, "folder that fairseq-preprocess wrote, as bin/ of prepare", metavar="DATA_BIN"
    )
    max_tokens: int = option(1024, "tokens in the batch", counting(1))
    subset: str = option("valid", "split that the batch is taken from")
    seed: int = option(1, "random seed for weights, batch and random changes", SEED)
    cpu: bool = option(False, "use the CPU even if there is a GPU")
    words: Sequence[str] = trailing_words("options of fairseq-train")

    @property
    def device(self) -> torch.device:
        """Return the device on which models are measured."""
        return torch.device("cuda" if torch.cuda.is_available() and not self.cpu else "cpu")

    @property
    def plain(self) -> dict[str, Any]:
        """Return the conditions as they stand in a result's JSON file."""
        return {**plain(self), "device": self.device.type, "precision": "fp32"}


@dataclass
class Models(FairseqDataclass):
    """The models that a study measures, and their depths."""

    conditions: Conditions = field(default_factory=Conditions)
    path: Sequence[str] = repeated(
        (),
        "a trained model, ours or fairseq's transformer (may be repeated)",
        metavar="CHECKPOINT",
    )
    arch: Sequence[str] = repeated(
        (),
        "an architecture, ours or fairseq's, measured at its initialisation (may be repeated); its "
        "own options follow in the same quotes: 'postln_transformer_tiny "
        "--decoder-normalize-before' "
        f"(default, without --path: {', '.join(ARCHS)})",
        metavar="ARCH",
    )
    init_type: Optional[str] = option(
        None, "initialisation scheme of every --arch (default: its own)", metavar="SCHEME"
    )
    depths: Sequence[Depth] = depths(ONE_DEPTH, LAYERS_HELP)

    @property
    def archs(self) -> Sequence[str]:
        """Return the architectures to measure: the values of ``--arch``, or default ones."""
        return self.arch or (() if self.path else ARCHS)

    @property
    def built(self) -> list[tuple[str, ...]]:
        """Return the arguments of each architecture: its name, its options and ``--init-type``."""
        scheme = ("--init-type", self.init_type) if self.init_type else ()
        return [(*_split(arch), *scheme) for arch in self.archs]


@dataclass
class ModelsByDepth(Models):
    """The models that a study measures against depth: as ``Models``, by default at many depths."""

    depths: Sequence[Depth] = depths(MANY_DEPTHS, LAYERS_HELP)


def _split(arch: str) -> list[str]:
    """Split the value of ``--arch`` into arguments: the architecture's name and its options."""
    try:
        words = shlex.split(arch)
    except ValueError as error:
        raise AdminError(f"--arch {arch}: {error}") from None
    if not words:
        raise AdminError("--arch needs the name of an architecture")
    return words
