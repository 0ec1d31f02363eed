"""BLEU in the three ways that papers report it, each with sacreBLEU's signature.

tokenised: on the words of the training data (Moses' tokens, without BPE), as in the papers' tables.
compound split: the same with hyphenated words split, as fairseq's ``compound_split_bleu.sh`` does
for WMT14 En-De. detokenised: sacreBLEU's own, on plain text, the only one that is comparable across
papers.
"""

from __future__ import annotations

import re
from typing import Any, Sequence

from sacrebleu.metrics import BLEU

from admin_fairseq.errors import AdminError
from admin_fairseq.results.evaluation import Score

_HYPHEN = re.compile(r"(\S)-(\S)")


def bleu(hypotheses: Sequence[str], references: Sequence[str], **options: Any) -> Score:
    """Corpus BLEU of lines; ``options`` are sacreBLEU's.

    Raises AdminError if the numbers of lines differ.
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
    return bleu(hypotheses, references, tokenize="none", force=True)


def compound_split(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Tokenised BLEU with ``a-b`` as three tokens."""
    return tokenised([_split(line) for line in hypotheses], [_split(line) for line in references])


def _split(line: str) -> str:
    return _HYPHEN.sub(r"\1 ##AT##-##AT## \2", line)
