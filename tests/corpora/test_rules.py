import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.corpora.datasets import DATASETS, Clean, Part
from admin_fairseq.corpora.rules import (
    DOTS,
    RULES,
    SLOW_DOTS,
    _quote_first,
    clean,
    detokenise,
    line_rules,
)

from .published import clean as moses_clean
from .published import lower

WORDS = st.lists(st.sampled_from(["a", "bb", "x" * 1000, "x" * 1001]), max_size=7)


@given(WORDS, WORDS, st.sampled_from([1.5, 2, 9]), st.integers(1, 3), st.integers(3, 6))
def test_cleaning_is_that_of_moses(source, target, ratio, low, high):
    lines = "  ".join(source) + " ", " ".join(target)
    kept = clean(*lines, Clean(ratio, low, high))
    expected = moses_clean([lines[0]], [lines[1]], ratio, low, high)
    assert ([kept[0]], [kept[1]]) == expected if kept else expected == ([], [])


@given(st.text())
def test_lower_case_is_that_of_perl(text):
    assert [line_rules(("lower-case",), "de")(text)] == lower([text])


@given(st.text(st.sampled_from('.." \t<a')))
def test_full_stops_before_a_quotation_mark(text):
    expected = re.sub(SLOW_DOTS, r'"\g<1>\g<2>', text)
    assert re.sub(DOTS, _quote_first, text) == expected


def test_a_line_of_dots_takes_no_time():
    begin = time.monotonic()
    assert line_rules(("normalise",), "fr")("." * 500_000 + "a") == "." * 500_000 + "a"
    assert time.monotonic() - begin < 5


def test_rules_apply_in_order():
    both = line_rules(("straighten-apostrophes", "tokenise", "lower-case"), "en")
    assert both("It’s Mr. Smith’s.") == "it &apos;s mr. smith &apos;s ."
    aggressive = line_rules(("normalise", "printable", "tokenise-aggressively"), "en")
    assert aggressive("a well-known\u200b “word”") == "a well @-@ known &quot; word &quot;"


@pytest.mark.parametrize("text", ["It's \"so\" (here), isn't it?", "A well-known rise of 3.5."])
def test_detokenising_undoes_tokenising(text):
    for tokenise in ("tokenise", "tokenise-aggressively"):
        assert detokenise("en")(line_rules((tokenise,), "en")(text)) == text


def test_data_sets_name_what_is_there():
    for dataset in DATASETS.values():
        known = {archive.name for archive in dataset.archives} or {None}
        parts = [*dataset.train, *dataset.test]
        parts += [dataset.valid] if isinstance(dataset.valid, Part) else []
        assert {part.archive for part in parts} == known  # none missing, none for nothing
        assert set(dataset.corpus_rules + dataset.test_rules) <= set(RULES)
