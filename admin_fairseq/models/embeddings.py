"""Load pretrained embeddings, the files of --encoder-embed-path and --decoder-embed-path."""

from __future__ import annotations

import io

import torch
from fairseq.data import Dictionary
from torch import nn

from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.files import open_regular

LARGEST = torch.finfo(torch.float32).max
LONGEST_LINE = 1 << 20  # characters, enough for a word and 50,000 numbers


def load_embeddings(embedding: nn.Embedding, dictionary: Dictionary, path: str) -> None:
    """Copy the vectors in the file ``path`` to the rows of ``embedding``, in place, by word.

    The boolean vector ``embedding.loaded`` tells these rows from the others afterwards. Each line
    of the file is a word and its numbers; a first line of another form, such as word2vec's header,
    is skipped. (``fairseq.utils.parse_embedding`` always skips the first line.) The file may be
    larger than memory: only words of ``dictionary`` are kept. Raises AdminError if the file has
    another format, or none of these words.
    """
    vectors = _vectors(path, dictionary, embedding.embedding_dim)
    if not vectors:
        raise AdminError(
            f"{path}: none of its words is among the dictionary's {len(dictionary):,} types"
        )
    rows = torch.tensor(list(vectors))
    embedding.weight.data[rows] = torch.tensor(list(vectors.values()))
    embedding.loaded = torch.zeros(len(dictionary), dtype=torch.bool)
    embedding.loaded[rows] = True


def _vectors(path: str, dictionary: Dictionary, width: int) -> dict[int, list[float]]:
    """Read the file; return the vectors of the words in ``dictionary``, by the words' index."""
    found = {}
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), 1):
                word, *numbers = line.rstrip().split(" ")
                if number == 1 and (len(numbers) != width or width == 1):
                    if not line.endswith("\n"):
                        raise ValueError
                    continue
                if len(numbers) != width:
                    raise AdminError(
                        f"{path}, line {number}: {shortened(word)} has {len(numbers)} numbers, not "
                        f"{width}, the width of the embeddings"
                    )
                if word in dictionary.indices:
                    found[dictionary.indices[word]] = _finite(numbers)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise AdminError(
            f"{path}: not a file of embeddings (a word and its numbers in each line)"
        ) from None
    return found


def _finite(texts: list[str]) -> list[float]:
    """Convert texts to numbers; raise ValueError for those that are not finite in float32."""
    numbers = [float(text) for text in texts]
    if not all(abs(number) <= LARGEST for number in numbers):  # false for NaN too
        raise ValueError
    return numbers
