"""The rules for one line and for a pair of lines: Moses' scripts in Python.

sacremoses has the tokeniser and the normaliser; lower-casing, removing unprintable characters, and
cleaning are a line or two each.
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
"""A pattern of sacremoses that restarts at each dot, which takes hours in a line of dots."""
DOTS = r'(\.+)(?:"(\s*[^<]))?'
"""An equivalent that also matches dots that are kept, so that each is visited once."""


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
    # Python has another small sigma at the end of a word, Perl has not
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
"""Name in ``Dataset`` → language → the rule."""


@cache
def line_rules(names: tuple[str, ...], language: str) -> LineRule:
    """The named rules one after the other; built once in each process."""
    rules = [RULES[name](language) for name in names]

    def apply(line: str) -> str:
        for rule in rules:
            line = rule(line)
        return line

    return apply


@cache
def detokenise(language: str) -> LineRule:
    """A rule that turns tokens, separated by spaces, into plain text."""
    detokeniser = _sacremoses().MosesDetokenizer(language)
    return lambda line: detokeniser.detokenize(line.split())


def clean(source: str, target: str, limits: Clean) -> Optional[tuple[str, str]]:
    """The pair with its spaces normalised, or None if ``limits`` exclude it.

    These are the rules of Moses' ``clean-corpus-n.perl``, except for vertical bars, which its
    tokeniser has already turned into entities.
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
