import math
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg

from admin_fairseq.errors import printable
from admin_fairseq.studies import drawing
from admin_fairseq.studies.drawing import draw, rendered
from admin_fairseq.studies.pictures import HeatMap, Line, Panel


def panels(*lines, top=None):
    return [Panel("left", "update", "loss", list(lines), top), Panel("right", "update", "loss")]


def heat_map(values=((1.0, math.nan), (2.0, 3.0)), scale="share", **options):
    return HeatMap("dependency", "branch", "sub-layer", values, scale, **options)


def bars(figure):
    """The axes of the colour bars."""
    return [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]


def place(axes):
    where = axes.get_subplotspec()
    return where.rowspan.start, where.colspan.start


def test_panels_are_labelled_and_share_their_ranges():
    figure = draw(panels(Line([1, 2], [3.0, 4.0], "a"), top=3.5))
    left, right = figure.axes
    assert (left.get_title(), left.get_xlabel(), left.get_ylabel()) == ("left", "update", "loss")
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[1] == 3.5


def test_a_top_hides_no_lower_line():
    low, high = Line([1, 2], [1.0, 2.0], "low"), Line([1, 2], [4.0, 1e9], "high")
    for order in ([high], [low]), ([low], [high]):
        figure = draw([Panel("", "", "", lines, top=5.0) for lines in order])
        assert [axes.get_ylim() for axes in figure.axes] == [pytest.approx((0.8, 5.0))] * 2
    (axes,) = draw([Panel("", "", "", [low, high], top=5.0, y_log=True)]).axes
    assert axes.get_ylim() == (1.0, 5.0)


@pytest.mark.parametrize("last", [4, 7, 13, 36])
def test_ticks_stand_on_layers(last):
    layers = range(1, last + 1)
    (axes,) = draw([Panel("", "sub-layer i", "ω_i", [Line(layers, layers, "a")])]).axes
    ticks = axes.get_xticks()
    assert len(ticks) > 2 and all(tick == int(tick) for tick in ticks)


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


def test_bands_have_gaps_where_they_are_not_finite():
    line = Line(range(7), [2.0] * 7, "a", 1, low=[1, 1, 1, math.nan, 1, 1, 1], high=[3.0] * 7)
    (axes,) = draw([Panel("", "", "", [line])]).axes
    (band,) = axes.collections
    paths = [path.get_extents() for path in band.get_paths()]
    assert [(box.x0, box.x1, box.y0, box.y1) for box in paths] == [(0, 2, 1, 3), (4, 6, 1, 3)]
    assert band.get_facecolor()[0] == pytest.approx([0xD5 / 255, 0x5E / 255, 0, 0.2])
    assert not draw(panels(Line([1], [1], "a", low=[0]))).axes[0].collections


def test_steps_are_a_staircase():
    stairs = Line([1, 2], [3.0, 4.0], "a", low=[2, 3], high=[4, 5], steps=True)
    (axes,) = draw([Panel("", "", "", [stairs, Line([1, 2], [3.0, 4.0], "b")])]).axes
    assert [line.get_drawstyle() for line in axes.lines] == ["steps-mid", "default"]
    (band,) = axes.collections
    assert [1.5, 2.0] in band.get_paths()[0].vertices.tolist()


def test_axes_are_logarithmic_apart_from_the_others():
    lines = [Line([1, 1000], [1, 1000], "a")]
    logs = [(False, False), (True, False), (False, True), (True, True), (True, True)]
    figure = draw([Panel("", "", "", lines, None, *log) for log in logs])
    names = {True: "log", False: "linear"}
    assert [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes] == [
        (names[x], names[y]) for x, y in logs
    ]
    last = figure.axes[4]
    assert [last.get_shared_x_axes().joined(axes, last) for axes in figure.axes[:4]] == [
        *(False, False, False, True)
    ]


def test_sharing_is_a_choice():
    short, long = (Panel("", "", "", [Line([0, x], [0, x], "a")]) for x in (1, 9))
    shared, own = (draw([short, heat_map(), long], share=share) for share in (True, False))
    left, heat, right = shared.axes[:3]
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert heat.get_xlim() == (-0.5, 1.5)
    assert own.axes[0].get_xlim()[1] < 2 < own.axes[2].get_xlim()[1]


def test_columns_of_a_heat_map_may_differ_in_width():
    where = {"extent": (1, 88, 2.5, 0.5), "columns": [1, 3, 32, 88]}
    figure = draw([heat_map([[1, 2, 3], [4, None, 6]], **where)])
    (image,) = figure.axes[0].images
    assert figure.axes[0].get_xlim() == (1, 88) and figure.axes[0].get_ylim() == (2.5, 0.5)
    assert image.get_array().tolist() == [[1, 2, 3], [4, None, 6]]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    colours = image.make_image(canvas.get_renderer())[0][:, :, :3]
    top, bottom = colours[-1], colours[0]
    widths = [(row == row[0]).all(1).sum() / len(row) for row in (top, bottom)]
    assert widths == [pytest.approx(2 / 87, abs=0.01)] * 2
    assert all(len(picture) < 60 * 1024 for picture in rendered(figure).values())


def test_heat_maps_show_their_numbers():
    figure = draw([heat_map([[1, None], [math.inf, 3]], extent=(0.5, 2.5, 2.5, 0.5))])
    axes, bar = figure.axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == (
        *("dependency", "branch", "sub-layer", "share"),
    )
    (image,) = axes.images
    assert image.get_array().tolist() == [[1, None], [None, 3]]
    assert image.get_clim() == (1, 3) and image.get_cmap().name == drawing.HEAT
    assert axes.get_xlim() == (0.5, 2.5) and axes.get_ylim() == (2.5, 0.5)  # first row on top
    assert all(tick == round(tick) for tick in [*axes.get_xticks(), *axes.get_yticks()])


def test_what_is_blank_has_no_colour():
    figure = draw([heat_map()])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    cells = [(0.25, 0.75), (0.75, 0.75), (0.25, 0.25), (0.75, 0.25)]  # as they are read
    points = (figure.axes[0].transAxes.transform(cell).astype(int) for cell in cells)
    looks = [tuple(pixels[len(pixels) - y, x, :3]) for x, y in points]
    assert looks[1] == (255, 255, 255) and len(set(looks)) == 4
    (nothing,) = draw([heat_map([[math.nan]])]).axes[0].images
    assert nothing.get_array().tolist() == [[None]] and nothing.get_clim() == (0, 1)


def test_heat_maps_of_one_scale_have_one_colour_bar_in_each_row():
    maps = [heat_map([[i, i + 1]], scale) for i, scale in enumerate("aabaaa")]
    figure = draw(maps, columns=3)
    assert [axes.images[0].get_clim() for axes in figure.axes[:6]] == [
        *((0, 6), (0, 6), (2, 3), (0, 6), (0, 6), (0, 6))
    ]
    assert sorted(axes.get_ylabel() for axes in bars(figure)) == ["a", "a", "b"]
    own = draw(maps, columns=3, share=False)
    assert [axes.images[0].get_clim() for axes in own.axes[:6]] == [(i, i + 1) for i in range(6)]
    assert len(bars(own)) == 6


@pytest.mark.parametrize(
    ("low", "high", "ends"), [(1, 3, "neither"), (2, 3, "min"), (1, 2, "max"), (1.5, 2, "both")]
)
def test_a_colour_bar_is_pointed_where_numbers_lie_beyond(low, high, ends):
    image = draw([heat_map(low=low, high=high)]).axes[0].images[0]
    assert (image.get_clim(), image.colorbar.extend) == ((low, high), ends)


def test_panels_stand_in_a_grid():
    figure = draw([Panel(str(i), "", "") for i in range(5)], columns=2)
    assert [place(axes) for axes in figure.axes] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert [axes.get_title() for axes in figure.axes] == list("01234")
    row = draw([Panel("", "", "") for _ in range(5)])
    assert [place(axes) for axes in row.axes] == [(0, i) for i in range(5)]
    widths = [figure.get_figwidth() / 2, row.get_figwidth() / 5]
    assert widths == [drawing.WIDE, drawing.NARROW]


LONG = "wmt14_en_fr admin 60L-12L encoder_normalize_before=True dropout=0.1 seed"


@pytest.mark.parametrize(
    ("count", "label", "columns"), [(1, "a", 1), (8, LONG, 2), (40, "admin", 2), (40, LONG, 6)]
)
def test_nothing_overlaps_and_nothing_is_cut_off(count, label, columns):
    lines = [Line([1, 2], [i, i], f"{label} {i}", i) for i in range(count)]
    title = "the loss of a model that has a long title, and so needs a line more"
    panel = Panel(title, "update", "loss (bits per token, without label smoothing)", lines)
    figure = draw([panel, heat_map(), panel, panel][: columns + 1], columns)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes.append(legend.get_window_extent())
    whole = figure.bbox
    for i, box in enumerate(boxes):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1
        assert not any(box.overlaps(other) for other in boxes[:i])
    assert all(box.x1 < boxes[-1].x0 for box in boxes[:-1])
    width = figure.axes[0].get_window_extent().width / figure.dpi
    assert width > 0.5 * max(drawing.NARROW, min(drawing.WIDE, drawing.FULL / columns))


def test_files_are_the_same_every_time():
    line = Line([1, 2], [3.0, 4.0], "a label", low=[2, 3], high=[4, 5])
    one, other = (rendered(draw([*panels(line), heat_map()])) for _ in range(2))
    assert one == other and set(one) == set(drawing.ENDINGS)
    assert all(len(picture) > 1000 for picture in one.values())


def test_files_are_small():
    maps = [heat_map(np.tril(np.random.default_rng(1).random((n, n)))) for n in (36, 54)]
    assert all(len(picture) < 150 * 1024 for picture in rendered(draw(maps)).values())


NAMES = [
    "$\\frac{$",
    "a$b{$c",
    "$x^$",
    "\\$x$",
    "_hidden",
    "\x1b[31m\0",
    "\ud800",
    "<svg>]]>&amp;",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_shown_as_it_is(name):
    panel = Panel(name, name, name, [Line([1, 2], [1, 2], name)])
    figure = draw([panel, HeatMap(name, name, name, [[1.0]], name)])
    picture = rendered(figure)["svg"].decode()
    shown = [unescape(comment.text).strip() for comment in comments(picture)]
    assert shown.count(printable(name)) >= 4


def comments(svg):
    """matplotlib draws letters as curves, and tells the text in a comment beside them."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    return ElementTree.fromstring(svg, parser).iter(ElementTree.Comment)


def test_long_names_are_shortened():
    (legend,) = draw(panels(Line([1, 2], [1, 2], "n" * 5000))).legends
    assert len(legend.get_texts()[0].get_text()) < 400


def test_numbers_without_places_for_ticks_are_gaps():
    large = [1.0, 1.7e308, 2.0]
    line = Line([1, 2, 3], large, "a", low=large, high=large)
    figure = draw([Panel("", "", "", [line]), heat_map([large])])
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).tolist() == [False, True, False]
    rendered(figure)
