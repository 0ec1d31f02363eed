"""Normalise, tokenise and lower-case lines, and drop pairs by length, as Moses' Perl scripts do.

The tokeniser and the normaliser are those of the package sacremoses.
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
"""A pattern of sacremoses' normaliser that is replaced by ``DOTS``: it restarts at each dot, which
takes hours in a line of dots."""
DOTS = r'(\.+)(?:"(\s*[^<]))?'
"""A fast equivalent of ``SLOW_DOTS``: it also matches dots that stay as they are, so that each dot
is visited once."""


def _normalise(language: str) -> LineRule:
    """Make a function that normalises the punctuation of a line as Moses does."""
    # perl_parity: the published text was made by the Perl script, quirks included
    normaliser = _sacremoses().MosesPunctNormalizer(language, perl_parity=True)
    normaliser.substitutions = [
        (DOTS, _quote_first) if pattern == SLOW_DOTS else (pattern, replacement)
        for pattern, replacement in normaliser.substitutions
    ]
    return normaliser.normalize


def _quote_first(match: re.Match[str]) -> str:
    """Return the text that replaces a match of ``DOTS``: full stops before a quotation mark are
    moved behind it."""
    dots, rest = match.groups()
    return dots if rest is None else f'"{dots}{rest}'


def _printable(language: str) -> LineRule:
    """Make a function that replaces each unprintable character by a space."""
    import regex

    unprintable = regex.compile(r"\p{C}")
    return lambda line: unprintable.sub(" ", line)


def _tokenise(language: str, aggressively: bool = False) -> LineRule:
    """Make a function that separates a line into Moses' tokens; ``aggressively`` splits at hyphens
    too."""
    tokeniser = _sacremoses().MosesTokenizer(language)
    return lambda line: tokeniser.tokenize(
        line, aggressive_dash_splits=aggressively, return_str=True
    )


def _lower_case(language: str) -> LineRule:
    """Make a function that lower-cases a line as Perl does, in any language."""
    # str.lower() writes another small sigma at the end of a word, Perl's lc does not
    return lambda line: line.replace("Σ", "σ").lower()


def _straighten_apostrophes(language: str) -> LineRule:
    """Make a function that replaces each typographic apostrophe by an ASCII one."""
    return lambda line: line.replace("’", "'")


RULES: dict[str, Callable[[str], LineRule]] = {
    "normalise": _normalise,
    "printable": _printable,
    "straighten-apostrophes": _straighten_apostrophes,
    "tokenise": _tokenise,
    "tokenise-aggressively": lambda language: _tokenise(language, aggressively=True),
    "lower-case": _lower_case,
}
"""The rules that ``Dataset`` names: name → function from a language to the rule for a line."""


@cache
def line_rules(names: tuple[str, ...], language: str) -> LineRule:
    """Make a function that applies the rules called ``names`` to a line, one after the other.

    The function is cached, because making it is slow and every chunk of lines asks for it.
    """
    rules = [RULES[name](language) for name in names]

    def apply(line: str) -> str:
        for rule in rules:
            line = rule(line)
        return line

    return apply


@cache
def detokenise(language: str) -> LineRule:
    """Make a function that turns a line of Moses' tokens, separated by spaces, into plain text."""
    detokeniser = _sacremoses().MosesDetokenizer(language)
    return lambda line: detokeniser.detokenize(line.split())


def clean(source: str, target: str, limits: Clean) -> Optional[tuple[str, str]]:
    """Return the sentence pair with single spaces, or None if the pair is to be dropped.

    A pair is dropped if a sentence is empty, its length is outside ``limits``, or it has a word of
    more than 1000 characters. This is Moses' ``clean-corpus-n.perl`` without its treatment of
    vertical bars, which Moses' tokeniser has already turned into entities.
    """
    source, target = " ".join(source.split()), " ".join(target.split())
    if not source or not target:
        return None
    lengths = source.count(" ") + 1, target.count(" ") + 1
    if min(lengths) < limits.shortest or max(lengths) > limits.longest:
        return None
    if max(lengths) / min(lengths) > limits.ratio:
        return None
    if _has_overlong_word(source) or _has_overlong_word(target):
        return None
    return source, target


def _has_overlong_word(line: str) -> bool:
    """Whether a word of the line has more than LONGEST_WORD characters."""
    return len(line) > LONGEST_WORD and max(map(len, line.split(" "))) > LONGEST_WORD


def _sacremoses():
    """Import the optional package sacremoses; raise AdminError if it is not installed."""
    try:
        import sacremoses
    except ImportError:
        raise AdminError("sacremoses is missing; run: pip install sacremoses") from None
    return sacremoses
