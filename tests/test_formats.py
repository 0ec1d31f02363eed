import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.errors import printable
from admin_fairseq.formats import FORMULA, as_csv, as_html, as_json, as_markdown

ANY = st.text(st.characters(), max_size=20)  # halves of surrogate pairs too


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=LINK(1)", r"\x3dLINK(1)"),
        ("+1+1", r"\x2b1+1"),
        ("@SUM(1)", r"\x40SUM(1)"),
        ("-1+cmd|' /C calc'!A0", r"\x2d1+cmd|' /C calc'!A0"),
    ],
)
def test_a_spreadsheet_takes_no_text_for_a_formula(text, cell):
    assert next(csv.reader(io.StringIO(as_csv([[text]])))) == [cell]


@pytest.mark.parametrize("number", [-1.5, "-1.5", "+2", "-inf", "-1e5", "-2.00±1.00"])
def test_numbers_stay_numbers(number):
    assert as_csv([[number, None]]) == f"{number},\n"


def test_markdown_has_no_markup_of_a_name():
    assert as_markdown("<script>&") == "&lt;script&gt;&amp;"
    assert as_markdown("[x](javascript:1) a|b `c` *d* $e$") == (
        r"\[x\](javascript:1) a\|b \`c\` \*d\* \$e\$"
    )
    assert as_markdown("_a_ wmt14_en_de \\") == r"\_a\_ wmt14_en_de \\"
    assert as_markdown("a\n# b") == r"a\\n# b"


@given(ANY)
def test_every_format_holds_any_text_in_one_line(text):
    cell = as_csv([[text, 1]])
    (read,) = csv.reader(io.StringIO(cell))
    if read[0].startswith(FORMULA):
        float(read[0].split("±")[0])  # a number
    for told in (cell.rstrip("\n"), as_markdown(text), as_html(text), as_json(text)):
        assert printable(told) == told
        told.encode()
    assert json.loads(as_json(text)) == text


@given(ANY)
def test_html_has_no_markup_of_a_name(text):
    assert not set("<>\"'") & set(as_html(text))
