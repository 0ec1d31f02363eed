"""Compute BLEU in the three ways that papers report it, and chrF2, with sacreBLEU's signatures.

tokenised: computed on Moses' tokens, with the BPE pieces joined, as in the papers' tables.
compound split: as tokenised, with hyphenated words split, as fairseq's ``compound_split_bleu.sh``
does for WMT14 En-De. detokenised: sacreBLEU's own, computed on plain text, the only one that can be
compared across papers.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import Any, Iterator, Sequence, Union

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from admin_fairseq.errors import AdminError
from admin_fairseq.results.evaluation import Score

_HYPHEN = re.compile(r"(\S)-(\S)")

SAMPLES = 1000
SEED = "12345"  # sacreBLEU's default
BOOTSTRAP = f"sacreBLEU's paired bootstrap with {SAMPLES:,} samples, seed {SEED}"
MOST_COMPARED = 20_000
"""The most sentences of a bootstrap, which needs 80 kB of memory for each of them."""


def bleu(hypotheses: Sequence[str], references: Sequence[str], **options: Any) -> Score:
    """Compute corpus BLEU, one sentence a line; ``options`` are those of sacreBLEU's class BLEU.

    Raises AdminError if the numbers of lines differ or are 0.
    """
    return _score(BLEU(**options), hypotheses, references)


def chrf(hypotheses: Sequence[str], references: Sequence[str], lowercase: bool = False) -> Score:
    """Compute chrF2 (Popović 2016): the F-score, recall counting twice, of character 1- to 6-grams.

    Raises AdminError if the numbers of lines differ or are 0.
    """
    return _score(CHRF(lowercase=lowercase), hypotheses, references)


def _score(
    metric: Union[BLEU, CHRF], hypotheses: Sequence[str], references: Sequence[str]
) -> Score:
    """Compute a corpus score; raise AdminError if the numbers of lines differ or are 0."""
    _check(hypotheses, references)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(score, str(metric.get_signature()))


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise AdminError if the numbers of lines differ or are 0."""
    if len(hypotheses) != len(references):
        raise AdminError(
            f"{len(hypotheses)} translations for {len(references)} references; "
            "was the whole test set translated?"
        )
    if not references:
        raise AdminError("there is nothing to score: the references are empty")


def p_value(
    hypotheses: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[str],
    lowercase: bool = False,
) -> float:
    """Return how probable so large a difference in BLEU is between systems that are equally good.

    By paired bootstrap resampling of the sentences (Koehn 2004), as sacreBLEU does it. Raises
    AdminError if the numbers of lines differ or are 0, or above 20,000.
    """
    for system in (hypotheses, baseline):
        _check(system, references)
    if len(references) > MOST_COMPARED:
        raise AdminError(
            f"{len(references):,} sentences: a paired bootstrap takes at most {MOST_COMPARED:,}"
        )
    systems: list[tuple[str, Sequence[str]]] = [("baseline", baseline), ("system", hypotheses)]
    metrics = {"BLEU": BLEU(lowercase=lowercase, force=True)}
    with _seeded():
        test = PairedTest(systems, metrics, [list(references)], test_type="bs", n_samples=SAMPLES)
        results: Any = test()[1]["BLEU"]
    theirs, ours = results
    # sacreBLEU counts differences above the real one, so that equal scores would get 1 / 1001
    return 1.0 if ours.score == theirs.score else ours.p_value


@contextmanager
def _seeded() -> Iterator[None]:
    """Let sacreBLEU, which reads its seed from the environment, use ``SEED`` whatever stands there.

    A comparison then always gives the same number.
    """
    given = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = SEED
    try:
        yield
    finally:
        del os.environ["SACREBLEU_SEED"]
        if given is not None:
            os.environ["SACREBLEU_SEED"] = given


def tokenised(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Compute BLEU of lines that are tokenised already; sacreBLEU splits them at spaces only."""
    return bleu(hypotheses, references, tokenize="none", force=True)


def compound_split(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Compute tokenised BLEU after splitting each hyphenated word ``a-b`` into three tokens."""
    return tokenised([_split(line) for line in hypotheses], [_split(line) for line in references])


def _split(line: str) -> str:
    """Split ``a-b`` into ``a ##AT##-##AT## b``."""
    return _HYPHEN.sub(r"\1 ##AT##-##AT## \2", line)
