"""Compute BLEU in the three ways that papers report it, each with sacreBLEU's signature.

tokenised: computed on Moses' tokens, with the BPE pieces joined, as in the papers' tables.
compound split: as tokenised, with hyphenated words split, as fairseq's ``compound_split_bleu.sh``
does for WMT14 En-De. detokenised: sacreBLEU's own, computed on plain text, the only one that can be
compared across papers.
"""

from __future__ import annotations

import re
from typing import Any, Sequence

from sacrebleu.metrics import BLEU

from admin_fairseq.errors import AdminError
from admin_fairseq.results.evaluation import Score

_HYPHEN = re.compile(r"(\S)-(\S)")


def bleu(hypotheses: Sequence[str], references: Sequence[str], **options: Any) -> Score:
    """Compute corpus BLEU, one sentence a line; ``options`` are those of sacreBLEU's class BLEU.

    Raises AdminError if the numbers of lines differ or are 0.
    """
    if len(hypotheses) != len(references):
        raise AdminError(
            f"{len(hypotheses)} translations for {len(references)} references; "
            "was the whole test set translated?"
        )
    if not references:
        raise AdminError("there is nothing to score: the references are empty")
    metric = BLEU(**options)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(score, str(metric.get_signature()))


def tokenised(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Compute BLEU of lines that are tokenised already; sacreBLEU splits them at spaces only."""
    return bleu(hypotheses, references, tokenize="none", force=True)


def compound_split(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Compute tokenised BLEU after splitting each hyphenated word ``a-b`` into three tokens."""
    return tokenised([_split(line) for line in hypotheses], [_split(line) for line in references])


def _split(line: str) -> str:
    """Split ``a-b`` into ``a ##AT##-##AT## b``."""
    return _HYPHEN.sub(r"\1 ##AT##-##AT## \2", line)
