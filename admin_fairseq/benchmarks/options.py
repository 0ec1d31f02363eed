"""Options that several benchmarks share."""

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
    return option(default, f"{stack} depth (default: the architecture's)", LAYERS, metavar="N")


def init_type() -> Any:
    text = "scheme of our side (default: the architecture's)"
    return option(None, text, choices=INIT_TYPES, metavar="SCHEME")


def data() -> Any:
    text = "use batches of this data instead of made-up ones of equal size without padding"
    return option(None, text, metavar="DATA_BIN")


def vocabulary(default: int) -> Any:
    return option(default, "types in made-up batches", VOCABULARY)


def max_tokens(default: int) -> Any:
    return option(default, "tokens in a batch", MAX_TOKENS)


@dataclass
class Workload(FairseqDataclass):
    """What both sides share; ``words`` are further options of ``fairseq-train``."""

    arch: str = option("admin_transformer_iwslt_de_en", "our architecture")
    init_type: Optional[str] = init_type()
    encoder_layers: Optional[int] = layers("encoder")
    decoder_layers: Optional[int] = layers("decoder")
    data: Optional[str] = data()
    vocabulary: int = vocabulary(8000)
    max_tokens: int = max_tokens(2048)
    optimizer: str = option("adam", "optimiser of both sides")
    seed: int = option(1, "random seed", SEED)
    cpu: bool = option(False, "use the CPU even if there is a GPU")
    words: Sequence[str] = trailing_words("options of fairseq-train, for both sides")

    @property
    def on_gpu(self) -> bool:
        return torch.cuda.is_available() and not self.cpu


def ours(default: Sequence[str] = ()) -> Any:
    text = 'options for our side only: --ours="--reference-kernels"'
    return quoted(default, text, names=("--ours",))


def stock() -> Any:
    return quoted((), "options for stock only", names=("--stock",))


def updates(default: int) -> Any:
    return option(default, "timed updates in a block", counting(1, 10_000))


def blocks(default: int) -> Any:
    return option(default, "blocks of each side", counting(1, 1000))


def warmup_updates(default: int, where: str = "of each side, before the blocks") -> Any:
    return option(default, f"updates that do not count, {where}", counting(0, 10_000))
