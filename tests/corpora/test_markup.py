import re
import time

from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.corpora.markup import Markup

PARTS = st.lists(st.sampled_from(["</seg>", " ", "\t", "\u3000", "\x1c", "a", "<seg id", "|"]))


@given(PARTS)
def test_ends_of_segments_come_off_with_the_space_around_them(parts):
    line = "<seg id" + "".join(parts)
    assert list(Markup.SEGMENTS.sentences([line])) == [re.sub(r"\s*</seg>\s*", "", line)]


def test_much_space_takes_no_time():
    begin = time.monotonic()
    line = '<seg id="1"> a' + " " * 1_000_000 + "b </seg>"
    assert len(next(Markup.SEGMENTS.sentences([line]))) == 1_000_002
    assert time.monotonic() - begin < 1
