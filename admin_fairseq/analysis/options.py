"""The options of the studies of models: which models, under which conditions."""

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
    "layers of every --arch: 6,12,18 (both stacks) or 12-3,60-12; except those that set "
    "--encoder-layers or --decoder-layers"
)


@dataclass
class Conditions(FairseqDataclass):
    """What all models of a study share; ``words`` are further options of fairseq-train."""

    data: str = option(REQUIRED, "folder that fairseq-preprocess wrote", metavar="DATA_BIN")
    max_tokens: int = option(1024, "size of the batch", counting(1))
    subset: str = option("valid", "split that the batch is taken from")
    seed: int = option(1, "random seed of weights, batch and draws", SEED)
    cpu: bool = option(False, "use the CPU even if there is a GPU")
    words: Sequence[str] = trailing_words("options of fairseq-train")

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() and not self.cpu else "cpu")

    @property
    def plain(self) -> dict[str, Any]:
        """As in a result's JSON file."""
        return {**plain(self), "device": self.device.type, "precision": "fp32"}


@dataclass
class Models(FairseqDataclass):
    """The models to measure, and their depths."""

    conditions: Conditions = field(default_factory=Conditions)
    path: Sequence[str] = repeated(
        (),
        "a trained model, ours or fairseq's transformer (may be repeated)",
        metavar="CHECKPOINT",
    )
    arch: Sequence[str] = repeated(
        (),
        "a model at its initialisation, ours or fairseq's (may be repeated); options of its own "
        "may follow in the same quotes: 'postln_transformer_tiny --decoder-normalize-before' "
        f"(default, without --path: {', '.join(ARCHS)})",
        metavar="ARCH",
    )
    init_type: Optional[str] = option(
        None, "scheme of every --arch, if not its own", metavar="SCHEME"
    )
    depths: Sequence[Depth] = depths(ONE_DEPTH, LAYERS_HELP)

    @property
    def archs(self) -> Sequence[str]:
        """Every --arch, or the default ones."""
        return self.arch or (() if self.path else ARCHS)

    @property
    def built(self) -> list[tuple[str, ...]]:
        """Every architecture as words: its name and its options."""
        scheme = ("--init-type", self.init_type) if self.init_type else ()
        return [(*_split(arch), *scheme) for arch in self.archs]


@dataclass
class ModelsByDepth(Models):
    depths: Sequence[Depth] = depths(MANY_DEPTHS, LAYERS_HELP)


def _split(arch: str) -> list[str]:
    try:
        words = shlex.split(arch)
    except ValueError as error:
        raise AdminError(f"--arch {arch}: {error}") from None
    if not words:
        raise AdminError("--arch needs the name of an architecture")
    return words
