"""The translations in the output of fairseq-generate, in the order of the test set."""

from __future__ import annotations

import re
from typing import Sequence

from admin_fairseq.errors import AdminError

SCORE = r"-?(?:\d[\d.]{0,30}(?:e-?\d{1,3})?|inf|nan)\t"
LINE = re.compile(rf"(?:([A-Z]-)(\d{{1,9}})\t(?:{SCORE})?|(\d{{1,9}})\t{SCORE})(.*)", re.DOTALL)
"""``H-12<TAB>-0.25<TAB>words``; ``sed`` or ``cut`` may have taken the letter or the score."""
SCORED = re.compile(r"-\d[\d.]{0,30}(?:e-?\d{1,3})?\t")
"""A line that has lost the number of its sentence."""
OTHERS = re.compile(r"[STPACEWI]-\d{1,9}\t")
"""The other lines that fairseq-generate prints."""
KINDS = ("D-", "H-", None)
"""Kinds of translations, the preferred one first: D- is H- detokenised."""


def translations(lines: Sequence[str]) -> list[str]:
    """The translations in fairseq-generate's output, whole or cut; of other text, all ``lines``.

    Raises AdminError if a sentence does not have exactly one translation, or their order is lost.
    """
    matches = [match for match in map(LINE.match, lines) if match]
    for kind in KINDS:
        found = [(int(match[2] or match[3]), match[4]) for match in matches if match[1] == kind]
        if kind is None and len(found) < len(lines):
            break
        if found:
            return _in_order(found)
    _refuse_the_rest(lines)
    return list(lines)


def _refuse_the_rest(lines: Sequence[str]) -> None:
    """Raise AdminError for output of fairseq-generate that cannot be put in order."""
    if lines and all(map(SCORED.match, lines)):
        what = "lines with a score, but without the number of the sentence"
    elif any(map(OTHERS.match, lines)):
        what = "lines of fairseq-generate without its translations, D- or H-"
    else:
        return
    raise AdminError(f"{what}; give fairseq-generate's whole output")


def _in_order(found: Sequence[tuple[int, str]]) -> list[str]:
    """The texts in order; raises AdminError if a number is missing or occurs twice."""
    numbered = dict(found)
    for number in range(len(numbered)):
        if number not in numbered:
            raise AdminError(
                f"sentence {number} has no translation, though sentence {max(numbered)} "
                "has one; give all lines that fairseq-generate printed, with "
                "--required-batch-size-multiple 1"
            )
    if len(numbered) < len(found):
        raise AdminError(
            f"{len(found)} translations of {len(numbered)} sentences; score one output of "
            "fairseq-generate, made without --nbest"
        )
    return [text for _, text in sorted(numbered.items())]
