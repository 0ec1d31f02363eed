"""Extract the translations from the output of fairseq-generate, in the order of the test set."""

from __future__ import annotations

import re
from typing import Sequence

from admin_fairseq.errors import AdminError

SCORE = r"-?(?:\d[\d.]{0,30}(?:e-?\d{1,3})?|inf|nan)\t"
LINE = re.compile(rf"(?:([A-Z]-)(\d{{1,9}})\t(?:{SCORE})?|(\d{{1,9}})\t{SCORE})(.*)", re.DOTALL)
"""A translation: ``H-12<TAB>-0.25<TAB>text``, or that line without the letter or the score, which
the user has removed with ``sed`` or ``cut``."""
SCORED = re.compile(r"-\d[\d.]{0,30}(?:e-?\d{1,3})?\t")
"""A translation with its score, but without the number of its sentence."""
OTHERS = re.compile(r"[STPACEWI]-\d{1,9}\t")
"""The lines of fairseq-generate's output that are no translations: source, target, and so on."""
KINDS = ("D-", "H-", None)
"""The letters before a translation, the preferred one first: fairseq prints each translation as H-,
and again as D- without subwords and tokens. None: the user has cut the letter off."""


def translations(lines: Sequence[str]) -> list[str]:
    """Extract the translations from the lines of fairseq-generate's output, in the order of the
    test set; return all lines of any other text.

    The user may have cut columns off the output. Raises AdminError if a sentence does not have
    exactly one translation, or if the order cannot be restored.
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
    """Raise AdminError if the lines are output of fairseq-generate from which the translations, or
    the numbers of the sentences, have been cut off."""
    if lines and all(map(SCORED.match, lines)):
        what = "lines with a score, but without the number of the sentence"
    elif any(map(OTHERS.match, lines)):
        what = "lines of fairseq-generate without its translations, D- or H-"
    else:
        return
    raise AdminError(f"{what}; give fairseq-generate's whole output")


def _in_order(found: Sequence[tuple[int, str]]) -> list[str]:
    """Sort (number of the sentence, translation) by number and return the translations; raise
    AdminError if a number is missing or occurs twice."""
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
