import struct
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedsim.measure.energy_plot import energy_figure, plot_energy
from fedsim.measure.schema import Energy

from .runs import CODEC, camera_fleet, metered, sample, summary_of


@pytest.fixture(scope="module")
def figure() -> Figure:
    return energy_figure(camera_fleet())


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "run" / "energy.png"
    plot_energy(camera_fleet(), path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", content[16:20]) == (1260,)  # 8.4 inches at 150 dpi
    assert list(path.parent.iterdir()) == [path]


def test_a_bar_is_as_long_as_the_causes_together(figure: Figure) -> None:
    axes = axes_of(figure)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["local", "png", "float16", "factorized"]
    energies = [row.energy for row in camera_fleet().rows]
    for place, energy in enumerate(energies):
        assert isinstance(energy, Energy)
        mine = [bar for bar in axes.patches if round(bar.get_y() + bar.get_height() / 2) == place]
        assert sum(bar.get_width() for bar in mine) == pytest.approx(energy.incremental_j)
        assert max(bar.get_x() + bar.get_width() for bar in mine) == pytest.approx(energy.incremental_j)


def test_colours_and_numbers_are_explained(figure: Figure) -> None:
    axes = axes_of(figure)
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["head", "encode", "radio: waking", "radio: transfers", "radio: tails"]
    assert axes.texts[0].get_text() == "900 mJ; at rest 30.1 J"
    assert axes.get_xlabel() == "J a sample answered, above a device at rest (modelled)"


def test_no_number_leaves_the_axes(figure: Figure) -> None:
    figure.draw_without_rendering()
    frame = axes_of(figure).get_window_extent()
    assert all(text.get_window_extent().x1 <= frame.x1 for text in axes_of(figure).texts)


def test_rows_without_energy_have_no_bar_and_unknown_sums_say_so() -> None:
    known = metered(sample("png", 0, payload=9), {"head": 2e-5}, {"base": 1.0}, "b")
    plain = sample("webp", 0, payload=9)
    axes = axes_of(energy_figure(summary_of([*known, *plain], {"png": CODEC, "webp": CODEC})))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["png"]
    assert [text.get_text() for text in axes.texts] == ["unavailable"]  # of device a, whose sample it was
    assert axes.get_xlabel().startswith("µJ")
