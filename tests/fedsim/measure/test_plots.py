import struct
import sys
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fedsim.measure.plots import plot_tradeoff, tradeoff_figure

from .runs import CODEC, LOCAL, sample, summary_of, trade_off


@pytest.fixture(scope="module")
def figure() -> Figure:
    return tradeoff_figure(trade_off())


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def label_boxes(figure: Figure) -> list[Bbox]:
    """Where the texts stand, without the lines that lead to their points."""
    figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in axes_of(figure).texts]


def test_the_picture_is_a_png_of_150_dpi(tmp_path: Path) -> None:
    path = tmp_path / "run" / "trade-off.png"
    plot_tradeoff(trade_off(), path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1080, 720)  # 7.2 by 4.8 inches
    assert list(path.parent.iterdir()) == [path]


def test_every_way_of_sending_has_its_label(figure: Figure) -> None:
    texts = [text.get_text() for text in axes_of(figure).texts]
    baselines = ["raw-image", "png", "jpeg", "webp", "float32", "float16", "integer"]
    assert sorted(texts) == sorted([*baselines, "0.02", "0.08", "0.32"])


def test_learned_points_are_one_curve_by_size(figure: Figure) -> None:
    curves = [
        line for line in axes_of(figure).lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"
    ]
    (curve,) = curves
    assert list(curve.get_xdata()) == [8, 12, 16]
    assert list(curve.get_ydata()) == [17 / 20, 19 / 20, 1.0]


def test_the_uncut_network_is_a_dashed_line(figure: Figure) -> None:
    (dashed,) = [line for line in axes_of(figure).lines if line.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {1.0}


def test_axes_name_their_units(figure: Figure) -> None:
    axes = axes_of(figure)
    assert axes.get_xscale() == "log"
    assert "bytes" in axes.get_xlabel()
    assert "%" in axes.get_ylabel()
    assert figure.get_suptitle() == "tiny"


def test_no_label_covers_another_or_leaves_the_axes(figure: Figure) -> None:
    boxes = label_boxes(figure)
    frame = axes_of(figure).get_window_extent()
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_points_on_one_spot_get_labels_apart() -> None:
    names = [f"codec {n}" for n in range(6)]
    events = [e for name in names for n in range(4) for e in sample(name, n, payload=100)]
    figure = tradeoff_figure(summary_of(events, dict.fromkeys(names, CODEC)))
    boxes = label_boxes(figure)
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_run_in_which_nothing_was_sent_still_has_its_picture(tmp_path: Path) -> None:
    local = sample("local", 0, outcome="local")
    failed = sample("png", 0, outcome="failed", prediction=None)
    summary = summary_of([*local, *failed], {"local": LOCAL, "png": CODEC})
    plot_tradeoff(summary, tmp_path / "x.png")
    axes = axes_of(tradeoff_figure(summary))
    assert [text.get_text() for text in axes.texts] == ["no method has both an accuracy and a payload"]
    assert [line.get_linestyle() for line in axes.lines] == ["--"]


def test_plotting_holds_no_global_state() -> None:
    tradeoff_figure(trade_off())
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
