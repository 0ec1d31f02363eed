"""Build the two ``fairseq-train`` commands that a benchmark compares: stock and ours.

Stock trains fairseq's own ``transformer``; ours trains an architecture of this plugin. Both have
the same sizes and the same training options.
"""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple, Sequence

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.benchmarks.options import SENTENCE_LENGTH, Workload
from admin_fairseq.bounds import spelled
from admin_fairseq.config import DECIDED_BY_ARCHITECTURE
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import parse
from admin_fairseq.models.building import check_precision
from admin_fairseq.repairs.data_folders import hint
from admin_fairseq.studies import options

BOTH = ("stock", "ours")
"""The names of the two sides of a comparison, in the order of results."""


class Side(NamedTuple):
    """One side of a comparison, stock fairseq or ours: its name and its training command.

    ``words`` are the arguments of ``fairseq-train``.
    """

    name: str
    words: tuple[str, ...]

    @property
    def run(self) -> DictConfig:
        """Parse ``words`` into fairseq's configuration.

        Raises AdminError if fairseq refuses the arguments.
        """
        return convert_namespace_to_omegaconf(parse(self.words))

    def check(self) -> None:
        """Raise AdminError if fairseq, our model or the machine does not support the arguments."""
        run = self.run
        if run.common.fp16 and (run.common.cpu or not torch.cuda.is_available()):
            raise AdminError(f"{self.name}: --fp16 needs a GPU")
        if getattr(run.model, "autocast", None):
            check_precision(run.model, run)

    @property
    def command(self) -> str:
        """Return the shell command that trains this side."""
        return shlex.join(["fairseq-train", *self.words, "--user-dir", "admin_fairseq"])

    def with_options(self, *words: str) -> Side:
        """Return the same side with further arguments, which override earlier ones."""
        return self._replace(words=(*self.words, *words))


def check(workload: Workload) -> None:
    """Raise AdminError if the options of a workload (model and batch) are wrong."""
    known = [name for name, arch in ARCHITECTURES.items() if arch.model == "admin_transformer"]
    if workload.arch not in known:
        raise AdminError(f"unknown --arch {workload.arch}; choose from {', '.join(known)}")
    options.check(workload)
    if not workload.data and workload.max_tokens < SENTENCE_LENGTH:
        raise AdminError(f"no sentence fits into --max-tokens {workload.max_tokens}")
    if workload.data and len(list(Path(workload.data).glob("dict.*.txt"))) < 2:
        what = f"not a folder that fairseq-preprocess wrote{hint(workload.data)}"
        raise AdminError(f"{workload.data}: {what}")


def ours(workload: Workload, name: str = "ours", words: Sequence[str] = ()) -> Side:
    """Build the side that trains our architecture; ``words`` are arguments of this side only."""
    mine = ["--arch", workload.arch]
    for option in ("init_type", "encoder_layers", "decoder_layers"):
        if getattr(workload, option) is not None:
            mine += [spelled(option), str(getattr(workload, option))]
    return Side(name, (*_shared(workload), *mine, *words))


def stock(workload: Workload, words: Sequence[str] = ()) -> Side:
    """Build the side that trains fairseq's ``transformer`` with the sizes of our architecture.

    Dropout and the placement of layer norm are the same, too; schemes without layer norm, which
    fairseq does not have, are compared with Post-LN. ``words`` are arguments of this side only.
    """
    like = _like(parse(ours(workload).words))
    return Side("stock", (*_shared(workload), "--arch", "transformer", *like, *words))


def pair(
    workload: Workload, stock_words: Sequence[str], our_words: Sequence[str]
) -> dict[str, Side]:
    """Build and check both sides; returns them by name, "stock" and "ours".

    ``stock_words`` and ``our_words`` are arguments of one side only. Raises AdminError if any
    option is wrong.
    """
    check(workload)
    sides = (stock(workload, words=stock_words), ours(workload, words=our_words))
    for side in sides:
        side.check()
    return {side.name: side for side in sides}


def source(workload: Workload, target_length: int = SENTENCE_LENGTH) -> list[str]:
    """Return the arguments that name the data set, or describe made-up sentences.

    ``target_length`` is the number of tokens in a made-up target sentence.
    """
    if workload.data:
        return ["--task", "translation", workload.data]
    return [
        *("--task", "dummy_mt", "--dict-size", str(workload.vocabulary)),
        *("--src-len", str(SENTENCE_LENGTH), "--tgt-len", str(target_length)),
    ]


def _shared(workload: Workload) -> list[str]:
    """Return the arguments that both sides get: data, optimiser, learning rate, criterion."""
    return [
        *source(workload),
        *(["--cpu"] if workload.cpu else []),
        *("--max-tokens", str(workload.max_tokens), "--seed", str(workload.seed)),
        *("--optimizer", workload.optimizer, "--adam-betas", "(0.9, 0.98)"),
        # small enough for all numbers to stay finite
        *("--lr", "1e-6", "--lr-scheduler", "fixed"),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
        *("--share-decoder-input-output-embed", "--num-workers", "0"),
        *("--distributed-world-size", "1"),
        *workload.words,
    ]


def _like(ours: Namespace) -> list[str]:
    """Return arguments that give fairseq's ``transformer`` the sizes and norm placement of ours.

    ``ours`` are the parsed arguments of our side.
    """
    words = []
    for key in sorted(DECIDED_BY_ARCHITECTURE):
        if not key.endswith(("input_dim", "output_dim")):  # always equal to embed_dim
            words += [spelled(key), str(getattr(ours, key))]
    for stack in ("encoder", "decoder"):
        if getattr(ours, f"{stack}_normalize_before", False):
            words.append(f"--{stack}-normalize-before")
    return words
