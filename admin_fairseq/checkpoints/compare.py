"""Compare two models on the same random sentences.

Shapes: B sentences, S source and T target tokens, V types in the vocabulary.
"""

from __future__ import annotations

from typing import Any, Union

import torch
from fairseq.models import BaseFairseqModel, FairseqDecoder, FairseqEncoder
from torch import Tensor

from admin_fairseq.layers.transformer_stack import on_reference_kernels

BATCHES, SENTENCES, LONGEST = 4, 8, 40
"""How many random batches are compared, of how many sentences, with at most how many tokens."""


@torch.no_grad()
def largest_difference(one: BaseFairseqModel, other: BaseFairseqModel) -> float:
    """Return the largest difference of two models' log-probabilities on random sentences.

    Sentences have 1 to LONGEST tokens, padded as in fairseq; all of B x T x V is compared except
    padding. Both models run on the reference kernels (fairseq's own), so that only their weights
    differ.
    """
    generator = torch.Generator().manual_seed(1)
    largest = 0.0
    for _ in range(BATCHES):
        batch, padding = random_batch(one, generator)
        with on_reference_kernels(one), on_reference_kernels(other):
            differences = _log_probabilities(one, batch) - _log_probabilities(other, batch)
        largest = max(largest, differences[~padding].abs().max().item())
    return largest


def _log_probabilities(model: BaseFairseqModel, batch: dict[str, Tensor]) -> Tensor:
    """Run ``model`` on ``batch`` and return its log-probabilities (B x T x V)."""
    output = model(**batch)
    decoder = getattr(model, "decoder", None)
    if getattr(decoder, "adaptive_softmax", None) is None:
        return output[0].log_softmax(-1)  # fairseq's own would round float64 to float32
    return model.get_normalized_probs(output, log_probs=True)


def random_batch(
    model: BaseFairseqModel, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Return a model's random input (B x S, B x T), and where its targets are padding (B x T).

    A model of one stack reads its targets.
    """
    encoder, decoder = (getattr(model, stack, None) for stack in ("encoder", "decoder"))
    last: Any = encoder if decoder is None else decoder
    target, lengths = _random_sentences(last, generator)
    padding = torch.arange(target.size(1)) >= lengths.unsqueeze(1)
    target[padding] = last.dictionary.pad()
    if encoder is None or decoder is None:
        return {"src_tokens": target}, padding
    source, source_lengths = _random_sentences(encoder, generator)
    left_padding = torch.arange(source.size(1)) < source.size(1) - source_lengths.unsqueeze(1)
    source[left_padding] = encoder.dictionary.pad()
    batch = {"src_tokens": source, "src_lengths": source_lengths, "prev_output_tokens": target}
    return batch, padding


def _random_sentences(
    stack: Union[FairseqEncoder, FairseqDecoder], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw random tokens (B x the longest length) and the sentences' lengths (B), for ``stack``.

    The tokens fill all positions; the caller is to replace those beyond a length by padding.
    """
    dictionary, longest = stack.dictionary, min(LONGEST, stack.max_positions())
    lengths = torch.randint(1, longest + 1, (SENTENCES,), generator=generator)
    size = (SENTENCES, int(lengths.max()))
    tokens = torch.randint(dictionary.nspecial, len(dictionary), size, generator=generator)
    tokens[:, 0] = dictionary.eos()
    return tokens, lengths
