"""Tokenizers of Hugging Face's transformers that give text the ids that fairseq gives it.

A piece that is not in fairseq's dictionary is <unk> for fairseq. Therefore the classes here look up
pieces after splitting. A BPE of the package ``tokenizers`` needs an id for every piece it merges.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import Any, Callable, Optional

from fairseq.data import Dictionary

from admin_fairseq import pieces
from admin_fairseq.errors import AdminError
from admin_fairseq.files import read_text, write_json

CODES_HEADER = "#version: 0.2"
"""First line of the codes of subword-nmt since 2017; older codes mean something else."""


@dataclass(frozen=True)
class TokenizerKind:
    """A way to split text, its class in transformers and the files that this reads.

    ``write`` writes the files but for vocabulary and settings: it gets the subword model's path,
    the dictionary's symbols and the folder.
    """

    name: str
    write: Callable[[Optional[str], list[str], str], None]
    reads: str
    appends_eos: bool = True


@dataclass(frozen=True)
class SubwordModel:
    """The subword model that text is to be split with: its kind and its file, if it has one."""

    kind: TokenizerKind
    path: Optional[str] = None

    def write(self, dictionary: Dictionary, longest: int, folder: str) -> None:
        """Write the files of a tokenizer with the ids of ``dictionary`` to ``folder``.

        ``longest`` is the number of tokens that the model can read. Raises AdminError if the
        subword model cannot be read.
        """
        os.makedirs(folder, exist_ok=True)
        special = {"bos": "bos_word", "pad": "pad_word", "eos": "eos_word", "unk": "unk_word"}
        settings: dict[str, Any] = {
            **{f"{name}_token": getattr(dictionary, word) for name, word in special.items()},
            "tokenizer_class": self.kind.name,
            "model_max_length": longest,
            "clean_up_tokenization_spaces": False,
        }
        write_json(settings, os.path.join(folder, "tokenizer_config.json"))
        ids = {symbol: index for index, symbol in enumerate(dictionary.symbols)}
        write_json(ids, os.path.join(folder, "vocab.json"))
        self.kind.write(self.path, dictionary.symbols, folder)


def subwords(sentencepiece_model: Optional[str], bpe_codes: Optional[str]) -> SubwordModel:
    """Return the subword model to use, of these options; raise AdminError if both are given."""
    if sentencepiece_model and bpe_codes:
        raise AdminError("--sentencepiece-model and --bpe-codes: a model has only one of them")
    if sentencepiece_model:
        pieces.load(sentencepiece_model)  # fails now rather than when it is used
        return SubwordModel(SENTENCEPIECE, sentencepiece_model)
    if bpe_codes:
        _merges(bpe_codes)
        return SubwordModel(SUBWORD_NMT, bpe_codes)
    return SubwordModel(SPACES)


def _write_sentencepiece(path: Optional[str], symbols: list[str], folder: str) -> None:
    for name in ("source.spm", "target.spm"):
        shutil.copyfile(str(path), os.path.join(folder, name))


def _write_codes(path: Optional[str], symbols: list[str], folder: str) -> None:
    text = "\n".join([CODES_HEADER, *_merges(str(path)), ""])
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _merges(path: str) -> list[str]:
    """Return the pairs of symbols in a file of subword-nmt, "left right", in their order.

    Raises AdminError if it is no such file.
    """
    header, *lines = read_text(path).split("\n")
    pairs = [line.split(" ")[:2] for line in lines if line.strip("\r ")]
    if header.strip() != CODES_HEADER or not all(len(pair) == 2 for pair in pairs):
        raise AdminError(f"{path}: not codes of subword-nmt, whose first line is {CODES_HEADER}")
    return [" ".join(pair).rstrip("\r") for pair in pairs]


def _write_words(path: Optional[str], symbols: list[str], folder: str) -> None:
    """Write the tokenizer for text whose pieces are separated by spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {symbol: index for index, symbol in enumerate(symbols)}
    dictionary = Dictionary()
    eos, unknown = dictionary.eos_word, dictionary.unk_word
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, ids[eos])]
    )
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    os.remove(os.path.join(folder, "vocab.json"))  # it is part of tokenizer.json


SENTENCEPIECE = TokenizerKind("MarianTokenizer", _write_sentencepiece, "plain text")
SUBWORD_NMT = TokenizerKind(
    "CTRLTokenizer", _write_codes, "words separated by spaces", appends_eos=False
)
SPACES = TokenizerKind(
    *("PreTrainedTokenizerFast", _write_words),
    "pieces (neither --sentencepiece-model nor --bpe-codes was given)",
)

FILES = {
    *("tokenizer_config.json", "tokenizer.json", "vocab.json"),
    *("source.spm", "target.spm", "merges.txt"),
}
"""Names of all files of a tokenizer."""


def check_ids(folder: str, dictionary: Dictionary, load: Callable[[str], Any]) -> None:
    """Raise AdminError unless the tokenizer in ``folder`` has the ids of ``dictionary``.

    ``load`` loads a tokenizer. Names in a dictionary may be anything.
    """
    found = load(folder).convert_tokens_to_ids(dictionary.symbols)
    wrong = [s for s, (i, n) in zip(dictionary.symbols, enumerate(found)) if i != n]
    if wrong:
        raise AdminError(f"transformers has another id for {json.dumps(wrong[0])} than fairseq")
