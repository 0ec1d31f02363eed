import pytest

pytest.importorskip("matplotlib")

from admin_fairseq.studies import drawing
from admin_fairseq.studies.pictures import Bars, Series

PICTURE = Bars(
    "speed",
    "words",
    ["a", "b"],
    [
        Series("stock", [2.0, 4.0], [1.0, 3.0], [3.0, 6.0]),
        Series("ours", [1234.5, None], [None, None], [None, None]),
    ],
    mark=1,
)


def test_bars_are_as_long_as_their_numbers():
    (axes,) = drawing.draw([PICTURE]).axes
    stock, ours = (box for box in axes.containers if hasattr(box, "patches"))
    assert [patch.get_width() for patch in stock] == [2.0, 4.0]
    assert [patch.get_width() for patch in ours] == [1234.5, 0.0]
    assert [text.get_text() for text in axes.texts] == ["2.00", "4.00", "1234", "n/a"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


def test_whiskers_go_from_low_to_high():
    (axes,) = drawing.draw([PICTURE]).axes
    whiskers = axes.containers[0].lines[2][0].get_segments()
    assert [[x for x, _ in ends] for ends in whiskers] == [[1.0, 3.0], [3.0, 6.0]]


def test_the_same_bytes_for_the_same_numbers():
    once, again = (drawing.rendered(drawing.draw([PICTURE, PICTURE])) for _ in range(2))
    assert once == again and set(once) == {"png", "svg"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "n/a"),
        (0.0, "0.00"),
        (0.123, "0.12"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (999.9, "1000"),
        (81, "81"),
    ],
)
def test_numbers_have_three_digits(value, told):
    assert drawing._three_digits(value) == told
