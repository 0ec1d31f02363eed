"""The rules for one line and for a pair of lines.

They are Moses' scripts in Python: sacremoses has the tokeniser and the normaliser; lower-casing,
removing what cannot be printed, and cleaning are a line or two each.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Callable, Optional

from admin_fairseq.corpora.datasets import Clean
from admin_fairseq.errors import AdminError

LineRule = Callable[[str], str]
LONGEST_WORD = 1000  # characters; Moses drops pairs with a longer word
SLOW_DOTS = r'(\.+)"(\s*[^<])'
"""Of sacremoses; in a line of dots it begins at each of them anew, for hours."""
DOTS = r'(\.+)(?:"(\s*[^<]))?'
"""The same and, beside it, dots that stay: each is looked at once."""


def _normalise(language: str) -> LineRule:
    # perl_parity: the published text was made by the Perl script, quirks included
    normaliser = _sacremoses().MosesPunctNormalizer(language, perl_parity=True)
    normaliser.substitutions = [
        (DOTS, _quote_first) if pattern == SLOW_DOTS else (pattern, replacement)
        for pattern, replacement in normaliser.substitutions
    ]
    return normaliser.normalize


def _quote_first(match: re.Match[str]) -> str:
    """What ``SLOW_DOTS`` does: full stops before a quotation mark go after it."""
    dots, rest = match.groups()
    return dots if rest is None else f'"{dots}{rest}'


def _printable(language: str) -> LineRule:
    import regex

    unprintable = regex.compile(r"\p{C}")
    return lambda line: unprintable.sub(" ", line)


def _tokenise(language: str, aggressively: bool = False) -> LineRule:
    tokeniser = _sacremoses().MosesTokenizer(language)
    return lambda line: tokeniser.tokenize(
        line, aggressive_dash_splits=aggressively, return_str=True
    )


def _lower_case(language: str) -> LineRule:
    # Perl has one small sigma for all places, Python another one at the end of a word
    return lambda line: line.replace("Σ", "σ").lower()


def _straighten_apostrophes(language: str) -> LineRule:
    return lambda line: line.replace("’", "'")


RULES: dict[str, Callable[[str], LineRule]] = {
    "normalise": _normalise,
    "printable": _printable,
    "straighten-apostrophes": _straighten_apostrophes,
    "tokenise": _tokenise,
    "tokenise-aggressively": lambda language: _tokenise(language, aggressively=True),
    "lower-case": _lower_case,
}
"""Name in a data set → language → what is done to a line."""


@cache
def line_rules(names: tuple[str, ...], language: str) -> LineRule:
    """The rules of these names one after the other; made once in each process."""
    rules = [RULES[name](language) for name in names]

    def apply(line: str) -> str:
        for rule in rules:
            line = rule(line)
        return line

    return apply


@cache
def detokenise(language: str) -> LineRule:
    """Words with spaces around them → text as it is written."""
    detokeniser = _sacremoses().MosesDetokenizer(language)
    return lambda line: detokeniser.detokenize(line.split())


def clean(source: str, target: str, limits: Clean) -> Optional[tuple[str, str]]:
    """The pair with its spaces put in order, or None if ``limits`` rule it out.

    These are the rules of Moses' ``clean-corpus-n.perl``, but for vertical bars, which its
    tokeniser has already written as entities.
    """
    source, target = " ".join(source.split()), " ".join(target.split())
    if not source or not target:
        return None
    lengths = source.count(" ") + 1, target.count(" ") + 1
    if min(lengths) < limits.shortest or max(lengths) > limits.longest:
        return None
    if max(lengths) / min(lengths) > limits.ratio:
        return None
    if _has_monster(source) or _has_monster(target):
        return None
    return source, target


def _has_monster(line: str) -> bool:
    return len(line) > LONGEST_WORD and max(map(len, line.split(" "))) > LONGEST_WORD


def _sacremoses():
    try:
        import sacremoses
    except ImportError:
        raise AdminError(
            "sacremoses is missing; run: pip install 'admin-fairseq[prepare]'"
        ) from None
    return sacremoses
