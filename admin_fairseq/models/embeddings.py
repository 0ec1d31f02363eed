"""Pretrained embeddings, from --encoder-embed-path and --decoder-embed-path."""

from __future__ import annotations

import torch
from fairseq import utils
from fairseq.data import Dictionary
from torch import Tensor, nn

from admin_fairseq.errors import AdminError


def load_embeddings(embedding: nn.Embedding, dictionary: Dictionary, path: str) -> None:
    """Fill in the rows whose word the file has, and note them as ``embedding.loaded``.

    The file is text: a first line that is passed over, then lines of a word and its numbers.
    Raises AdminError where it is another one, or of another width; OSError where it is not there.
    """
    vectors = _vectors(path)
    for word, vector in vectors.items():
        if len(vector) != embedding.embedding_dim:
            raise AdminError(
                f"{path}: {word} has {len(vector)} numbers, not {embedding.embedding_dim}, "
                "the width of the embeddings"
            )
    utils.load_embedding(vectors, dictionary, embedding)
    embedding.loaded = torch.tensor([word in vectors for word in dictionary.symbols])


def _vectors(path: str) -> dict[str, Tensor]:
    try:
        return utils.parse_embedding(path)
    except (StopIteration, ValueError):
        raise AdminError(
            f"{path}: not a file of embeddings (a first line, then a word and its numbers in each)"
        ) from None
