"""Translations as fairseq-generate prints them: found among its output, in the order of the set."""

from __future__ import annotations

import re
from typing import Sequence

from admin_fairseq.errors import AdminError

SCORE = r"-?(?:\d[\d.]{0,30}(?:e-?\d{1,3})?|inf|nan)\t"
LINE = re.compile(rf"(?:([A-Z]-)(\d{{1,9}})\t(?:{SCORE})?|(\d{{1,9}})\t{SCORE})(.*)", re.DOTALL)
"""``H-12<TAB>-0.25<TAB>words``; ``sed`` or ``cut`` may have taken the letter or the score."""
SCORED = re.compile(r"-\d[\d.]{0,30}(?:e-?\d{1,3})?\t")
"""The same without the sentence's number."""
OTHERS = re.compile(r"[STPACEWI]-\d{1,9}\t")
"""What fairseq-generate prints beside translations."""
KINDS = ("D-", "H-", None)
"""Which lines are taken, if there are any: D- is H- in the form of written text."""


def translations(lines: Sequence[str]) -> list[str]:
    """``lines``, unless they are fairseq-generate's output, whole or cut: then its translations.

    Raises AdminError where these are not one for each sentence, or their order is lost.
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
    """Raise AdminError for fairseq-generate's output without what is needed to order it."""
    if lines and all(map(SCORED.match, lines)):
        what = "each line begins with a score, and no longer says which sentence it is"
    elif any(map(OTHERS.match, lines)):
        what = "lines of fairseq-generate without its translations, D- or H-"
    else:
        return
    raise AdminError(f"{what}; give fairseq-generate's whole output")


def _in_order(found: Sequence[tuple[int, str]]) -> list[str]:
    """The texts by their numbers, of which none is missing and none comes twice."""
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
