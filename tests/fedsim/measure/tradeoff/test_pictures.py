from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from fedsim.measure.tradeoff import Tradeoff, analyse
from fedsim.measure.tradeoff.pictures import compute_figure, curves_figure
from fedsim.measure.tradeoff.styles import styles

from .points import point, sweep, uncut


@pytest.fixture(scope="module")
def tradeoff() -> Tradeoff:
    return analyse(sweep())


@pytest.fixture(scope="module")
def curves(tradeoff: Tradeoff) -> Figure:
    return curves_figure(tradeoff)


@pytest.fixture(scope="module")
def compute(tradeoff: Tradeoff) -> Figure:
    return compute_figure(tradeoff)


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def positions(axes: Axes) -> set[tuple[float, float]]:
    """Where single markers stand."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_marker() != "None"]
    return {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines}


def test_every_point_and_every_hollow_one_is_there(curves: Figure, tradeoff: Tradeoff) -> None:
    sent = [one for one in tradeoff.labels if not one.local]
    hollow = {(one.content_bytes, one.accuracy) for one in sent if one.constant_bytes}
    assert len(hollow) == 11
    assert positions(curves.axes[0]) == {(one.payload_bytes, one.accuracy) for one in sent} | hollow


def test_a_family_is_a_line_in_its_colour(curves: Figure, tradeoff: Tradeoff) -> None:
    for family, style in styles(tradeoff).items():
        on = [one for one in tradeoff.labels if one.family == family and one.on_curve]
        if len(on) > 2:
            (line,) = [
                line
                for line in curves.axes[0].lines
                if list(line.get_xdata()) == [x.payload_bytes for x in on]
            ]
            assert to_hex(line.get_color()) == style.colour.lower()
            assert list(line.get_ydata()) == [one.accuracy for one in on]


def test_bars_are_the_intervals(curves: Figure, tradeoff: Tradeoff) -> None:
    bars = {(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in curves.axes[0].lines}
    for one in tradeoff.labels:
        if not one.local:
            assert ((one.payload_bytes, one.payload_bytes), one.accuracy_interval) in bars


def test_the_uncut_network_is_dashed_in_both(curves: Figure, compute: Figure, tradeoff: Tradeoff) -> None:
    local = tradeoff.labels[-1]
    for figure, level in ((curves, local.accuracy), (compute, local.head_macs)):
        across = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 1]]
        assert [(line.get_linestyle(), set(line.get_ydata())) for line in across] == [("--", {level})]
    assert "local: uncut, sends nothing" in legend_of(curves)
    assert "local: uncut, 91.7 %" in legend_of(compute)


def test_the_legend_names_all_and_stands_outside(curves: Figure, compute: Figure, tradeoff: Tradeoff) -> None:
    for figure in (curves, compute):
        names = legend_of(figure)
        assert [name for name in names if name in tradeoff.families] == list(tradeoff.families)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= figure.bbox.y0


def test_compute_is_a_marker_a_label_with_rings_on_the_front(compute: Figure, tradeoff: Tradeoff) -> None:
    sent = [one for one in tradeoff.labels if not one.local]
    assert positions(compute.axes[0]) == {(one.payload_bytes, one.head_macs) for one in sent}
    rings = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in compute.axes[0].lines
        if line.get_markerfacecolor() == "none"
    }
    assert rings == {(one.payload_bytes, one.head_macs) for one in sent if one.front_with_macs}


def test_no_compute_has_its_place_on_the_axis(compute: Figure) -> None:
    compute.draw_without_rendering()
    texts = [text.get_text() for text in compute.axes[0].get_yticklabels()]
    assert texts[:2] == ["0", "5 M"]


@pytest.mark.parametrize("name", ["curves", "compute"])
def test_no_label_covers_another_or_leaves_the_axes(name: str, request: pytest.FixtureRequest) -> None:
    figure: Figure = request.getfixturevalue(name)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    frame = figure.axes[0].get_window_extent()
    assert len(boxes) >= 5
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for box in boxes:
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_no_two_families_look_alike() -> None:
    points = [point(f"family{i:02}-1", 10 + i, 0.9, learned=i < 12) for i in range(19)]
    looks = list(styles(analyse(points)).values())
    for kind in (True, False):
        mine = [style for style in looks if style.learned == kind]
        assert len({(style.colour, style.marker) for style in mine}) == len(mine)
    assert len({style.colour for style in looks[:9]}) == 9


def test_long_bars_of_few_seeds_do_not_squeeze_the_points() -> None:
    points = [
        point(f"vq-{i}", 10 * 2**i, 0.80 + 0.02 * i + 0.02 * seed, seed) for i in range(4) for seed in (1, 2)
    ]
    tradeoff = analyse(points)
    low, high = tradeoff.labels[0].accuracy_interval
    assert high - low > 0.2
    bottom, top = curves_figure(tradeoff).axes[0].get_ylim()
    means = [one.accuracy for one in tradeoff.labels]
    assert bottom < min(means) < max(means) < top
    assert top - bottom < 0.15


@pytest.mark.parametrize("draw", [curves_figure, compute_figure])
def test_where_nothing_was_sent_the_picture_says_so(draw: object) -> None:
    assert callable(draw)
    for points in ([], [uncut(0.9)], [point("vq-1", 0, 0.1)]):
        (axes, *_) = draw(analyse(points)).axes
        assert [text.get_text() for text in axes.texts] == ["no method sends anything"]
