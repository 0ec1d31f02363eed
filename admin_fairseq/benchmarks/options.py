"""Declare the command-line options that several benchmarks share."""

# no postponed annotations: fairseq's parser generator reads types
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import torch
from fairseq.dataclass import FairseqDataclass

from admin_fairseq.bounds import SEED, counting
from admin_fairseq.config import INIT_TYPES, LAYERS
from admin_fairseq.studies.options import option, quoted, trailing_words

SENTENCE_LENGTH = 30  # of made-up sentences, without end of sentence
VOCABULARY = counting(SENTENCE_LENGTH + 1, 10_000_000)
MAX_TOKENS = counting(1, 10_000_000)


def layers(stack: str, default: Optional[int] = None) -> Any:
    """Declare the option for the depth of ``stack``: "encoder" or "decoder"."""
    otherwise = " (default: the architecture's)" if default is None else ""
    return option(default, f"{stack} depth{otherwise}", LAYERS, metavar="N")


def init_type() -> Any:
    """Declare the option for the initialisation scheme of our model."""
    text = "initialisation scheme of our model (default: the architecture's)"
    return option(None, text, choices=INIT_TYPES, metavar="SCHEME")


def data() -> Any:
    """Declare the option for a data folder, from which batches are taken."""
    text = "use batches of this data set instead of made-up ones of equal shape without padding"
    return option(None, text, metavar="DATA_BIN")


def vocabulary(default: int) -> Any:
    """Declare the option for the number of dictionary entries in made-up batches."""
    return option(default, "dictionary entries in made-up batches", VOCABULARY)


def max_tokens(default: int) -> Any:
    """Declare the option for the number of tokens in a batch."""
    return option(default, "tokens in a batch", MAX_TOKENS)


@dataclass
class Workload(FairseqDataclass):
    """The model and batch with which stock fairseq and ours are compared.

    ``words`` are further options of ``fairseq-train`` for both.
    """

    arch: str = option("admin_transformer_iwslt_de_en", "our architecture")
    init_type: Optional[str] = init_type()
    encoder_layers: Optional[int] = layers("encoder")
    decoder_layers: Optional[int] = layers("decoder")
    data: Optional[str] = data()
    vocabulary: int = vocabulary(8000)
    max_tokens: int = max_tokens(2048)
    optimizer: str = option("adam", "optimiser of stock and ours")
    seed: int = option(1, "random seed", SEED)
    cpu: bool = option(False, "use the CPU even if there is a GPU")
    words: Sequence[str] = trailing_words("options of fairseq-train for stock and ours")

    @property
    def on_gpu(self) -> bool:
        """Return whether models are measured on a GPU."""
        return torch.cuda.is_available() and not self.cpu


def ours(default: Sequence[str] = ()) -> Any:
    """Declare the option for ``fairseq-train`` options that only our model gets."""
    text = 'options for our model only, not stock: --ours="--reference-kernels"'
    return quoted(default, text, names=("--ours",))


def stock() -> Any:
    """Declare the option for ``fairseq-train`` options that only stock's model gets."""
    return quoted((), "options for stock fairseq only, not our model", names=("--stock",))


def updates(default: int) -> Any:
    """Declare the option for the number of timed updates in a block."""
    return option(default, "timed updates in a block", counting(1, 10_000))


def blocks(default: int) -> Any:
    """Declare the option for the number of timed blocks."""
    return option(default, "timed blocks of stock, and of ours", counting(1, 1000))


def warmup_updates(default: int, where: str = "before the blocks") -> Any:
    """Declare the option for the number of untimed updates; ``where`` says when they are made."""
    return option(default, f"untimed updates {where}", counting(0, 10_000))
