"""The two sides of a comparison: command lines of ``fairseq-train`` that fit one another."""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig

from admin_fairseq import bounds
from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.bounds import SEED, counting
from admin_fairseq.config import DECIDED_BY_ARCHITECTURE, LAYERS
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import parse
from admin_fairseq.models.building import check_precision

SENTENCE_LENGTH = 30  # of made-up sentences, without end of sentence

BOUNDS = {
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "vocabulary": counting(SENTENCE_LENGTH + 1, 10_000_000),
    "max_tokens": counting(1, 10_000_000),
    "seed": SEED,
}


@dataclass(frozen=True)
class Conditions:
    """What both sides share; ``words`` are more options of ``fairseq-train``."""

    arch: str = "admin_transformer_iwslt_de_en"
    encoder_layers: Optional[int] = None
    decoder_layers: Optional[int] = None
    data: Optional[str] = None  # None: made-up sentences, all alike and none padded
    vocabulary: int = 8000
    max_tokens: int = 2048
    optimizer: str = "adam"
    seed: int = 1
    cpu: bool = False
    words: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        return torch.cuda.is_available() and not self.cpu

    def check(self) -> None:
        """Raise AdminError where they are wrong."""
        known = [name for name, arch in ARCHITECTURES.items() if arch.model == "admin_transformer"]
        if self.arch not in known:
            raise AdminError(f"unknown --arch {self.arch}; there are {', '.join(known)}")
        bounds.check(self, BOUNDS)
        if not self.data and self.max_tokens < SENTENCE_LENGTH:
            raise AdminError(f"no sentence fits into --max-tokens {self.max_tokens}")
        if self.data and len(list(Path(self.data).glob("dict.*.txt"))) < 2:
            raise AdminError(f"{self.data}: no folder that fairseq-preprocess made")


class Side(NamedTuple):
    """A run: its name in tables, and the words of its command line."""

    name: str
    words: tuple[str, ...]

    @property
    def run(self) -> DictConfig:
        """fairseq's configuration; raises AdminError where it refuses the words."""
        return convert_namespace_to_omegaconf(parse(self.words))

    def check(self) -> None:
        """Raise AdminError where fairseq, our model or the machine refuses the words."""
        run = self.run
        if run.common.fp16 and (run.common.cpu or not torch.cuda.is_available()):
            raise AdminError(f"{self.name}: --fp16 needs a GPU")
        if getattr(run.model, "autocast", None):
            check_precision(run.model, run)

    @property
    def command(self) -> str:
        return shlex.join(["fairseq-train", *self.words, "--user-dir", "admin_fairseq"])

    def but(self, *words: str) -> Side:
        """The same with other options, which come last and win."""
        return self._replace(words=(*self.words, *words))


def ours(conditions: Conditions, name: str = "ours", words: Sequence[str] = ()) -> Side:
    """Our side; ``words`` are options that it has alone."""
    mine = ["--arch", conditions.arch]
    for option in ("encoder_layers", "decoder_layers"):
        if getattr(conditions, option) is not None:
            mine += ["--" + option.replace("_", "-"), str(getattr(conditions, option))]
    return Side(name, (*_shared(conditions), *mine, *words))


def stock(
    conditions: Conditions,
    name: str = "stock",
    words: Sequence[str] = (),
    of: Sequence[str] = (),
) -> Side:
    """fairseq's ``transformer`` of the sizes, dropout and norm placement of ours.

    ``words`` are options that it has alone, ``of`` those of ours that decide on sizes or norms
    (--init-type, say). fairseq cannot leave layer norm out: schemes that do are held against
    Post-LN.
    """
    like = _like(parse(ours(conditions, words=of).words))
    return Side(name, (*_shared(conditions), "--arch", "transformer", *like, *words))


def _shared(conditions: Conditions) -> list[str]:
    source = ["--task", "translation", conditions.data]
    if not conditions.data:
        length = str(SENTENCE_LENGTH)
        source = ["--task", "dummy_mt", "--dict-size", str(conditions.vocabulary)]
        source += ["--src-len", length, "--tgt-len", length]
    return [
        *source,
        *(["--cpu"] if conditions.cpu else []),
        *("--max-tokens", str(conditions.max_tokens), "--seed", str(conditions.seed)),
        *("--optimizer", conditions.optimizer, "--adam-betas", "(0.9, 0.98)"),
        # too small a rate to leave the region where numbers stay finite
        *("--lr", "1e-6", "--lr-scheduler", "fixed"),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
        *("--share-decoder-input-output-embed", "--num-workers", "0"),
        *("--distributed-world-size", "1"),
        *conditions.words,
    ]


def _like(ours: Namespace) -> list[str]:
    """The options that give fairseq's ``transformer`` the sizes and norms of ours."""
    words = []
    for key in sorted(DECIDED_BY_ARCHITECTURE):
        if not key.endswith(("input_dim", "output_dim")):  # always the embedding's
            words += ["--" + key.replace("_", "-"), str(getattr(ours, key))]
    for stack in ("encoder", "decoder"):
        if getattr(ours, f"{stack}_normalize_before", False):
            words.append(f"--{stack}-normalize-before")
    return words
