import math

import pytest

pytest.importorskip("matplotlib")

from admin_fairseq import drawing
from admin_fairseq.drawing import Line, Panel, draw, write
from admin_fairseq.errors import AdminError


def panels(*lines, top=None):
    return [Panel("left", "update", "loss", list(lines), top), Panel("right", "update", "loss")]


def test_panels_are_labelled_and_share_their_ranges():
    figure = draw(panels(Line([1, 2], [3.0, 4.0], "a"), top=3.5))
    left, right = figure.axes
    assert (left.get_title(), left.get_xlabel(), left.get_ylabel()) == ("left", "update", "loss")
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[1] == 3.5


def test_lines_of_one_label_stand_in_the_legend_once():
    figure = draw(panels(*(Line([1, 2], [i, i], label) for i, label in enumerate("aab"))))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert len(figure.axes[0].lines) == 3
    assert draw(panels()).legends == []


def test_what_is_not_finite_is_a_gap():
    (line,) = draw(panels(Line([1, 2, 3], [1.0, math.inf, math.nan], "a"))).axes[0].lines
    assert [math.isnan(y) for y in line.get_ydata()] == [False, True, True]


def test_rows_look_different():
    many = [Line(range(20), range(20), str(i), color=i) for i in range(len(drawing.PALETTE) * 3)]
    looks = {(x.get_color(), x.get_marker()) for x in draw(panels(*many)).axes[0].lines}
    assert len(looks) == len(many)
    styles = [Line([1], [1], str(i), style=i) for i in range(len(drawing.STYLES))]
    assert len({x.get_linestyle() for x in draw(panels(*styles)).axes[0].lines}) == len(styles)


def test_files_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        write(draw(panels(Line([1, 2], [3.0, 4.0], "a label"))), str(tmp_path / name))
    for ending in drawing.ENDINGS:
        one, other = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
        assert one == other and len(one) > 1000
    with pytest.raises(AdminError, match="is there already"):
        write(draw(panels()), str(tmp_path / "a"))
