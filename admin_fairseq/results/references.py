"""The references of a test set, and all the ways in which translations are scored against them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional, Sequence

from admin_fairseq.corpora.prepared import read_prepared
from admin_fairseq.corpora.rules import detokenise
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.files import read_text, require_folder
from admin_fairseq.results.evaluation import Score
from admin_fairseq.results.generated import translations
from admin_fairseq.results.scoring import bleu, chrf, compound_split, p_value, tokenised

MOST_LINES, LONGEST_LINE = 500_000, 100_000
"""Limits on a test set, in lines and in characters of a line: sacreBLEU keeps every n-gram of every
line in memory."""


@dataclass(frozen=True)
class References:
    """The reference translations of a test set, one sentence a line."""

    dataset: Optional[str]
    text: list[str]  # as published, for scores that can be compared across papers
    words: Optional[list[str]] = None  # tokenised; None if the data never were
    language: str = ""
    lowercase: bool = False  # whether the data have lost the letters' case

    def bleu(self, hypotheses: Sequence[str]) -> dict[str, Score]:
        """Compute BLEU by kind: tokenised and compound split, if there are words, and detokenised.

        Raises AdminError if the numbers of lines differ or are 0.
        """
        scores = {}
        if self.words is not None:
            scores["tokenised"] = tokenised(hypotheses, self.words)
            scores["compound split"] = compound_split(hypotheses, self.words)
        return {**scores, "detokenised": self.detokenised(hypotheses)}

    def detokenised(self, hypotheses: Sequence[str]) -> Score:
        """Compute BLEU of plain text; raise AdminError if the numbers of lines differ or are 0."""
        return bleu(self.plain(hypotheses), self.text, lowercase=self.lowercase)

    def chrf(self, hypotheses: Sequence[str]) -> Score:
        """Compute chrF2 of plain text."""
        return chrf(self.plain(hypotheses), self.text, lowercase=self.lowercase)

    def p_value(self, hypotheses: Sequence[str], baseline: Sequence[str]) -> float:
        """Return the significance of the difference in detokenised BLEU; see ``p_value``."""
        systems = self.plain(hypotheses), self.plain(baseline)
        return p_value(*systems, self.text, lowercase=self.lowercase)

    def plain(self, hypotheses: Sequence[str]) -> list[str]:
        """Convert translations to plain text, as the published references are."""
        if self.words is None:
            return list(hypotheses)
        return list(map(detokenise(self.language), hypotheses))


def read_references(data_dir: str) -> References:
    """Read the test set of a folder that ``admin-fairseq prepare`` has written.

    Raises AdminError if it is no such folder, or if a file cannot be read.
    """
    require_folder(data_dir)
    prepared = read_prepared(data_dir)
    if prepared is None:
        raise AdminError(f"{data_dir}: not a folder of admin-fairseq prepare")
    language = prepared["target"]
    text, words = (os.path.join(data_dir, f"test.{kind}.{language}") for kind in ("raw", "words"))
    return References(
        prepared["dataset"],
        lines_of(text),
        lines_of(words) if prepared.get("tokenised", True) else None,
        language,
        prepared["lowercase"],
    )


def read_translations(path: str) -> list[str]:
    """Read translations in the order of the test set: plain text, or fairseq-generate's output."""
    lines = lines_of(path)
    with blaming(path):
        return translations(lines)


def lines_of(path: str) -> list[str]:
    """Read the lines of a text file, which only newlines separate; raise AdminError if the file is
    too large for a test set."""
    lines = read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    longest = max(map(len, lines), default=0)
    if len(lines) > MOST_LINES or longest > LONGEST_LINE:
        raise AdminError(
            f"{path}: {len(lines):,} lines of up to {longest:,} characters; is it a test set?"
        )
    return lines
