"""Pictures of a federation."""

from pathlib import Path

import numpy as np
from PIL import Image

from fedsim.measure.federation.plots import (
    federation_figure,
    holdings,
    partition_figure,
    plot_federation,
    plot_partition,
)

from .federations import CLASSES, CLIENTS, federation, message, site

EVENTS = [
    message("up", 1, payload=100, frame=120),
    message("up", 2, payload=150, frame=170),
    message("down", 2, payload=80, frame=90),
]


def test_a_line_for_each_predictor_and_direction() -> None:
    figure = federation_figure(federation(EVENTS), "small")
    panels = {axes.get_title(): axes for axes in figure.axes}
    for title in ("all classes, global test", "all classes, personal test", "own classes, personal test"):
        lines = panels[title].get_lines()
        assert [line.get_linestyle() for line in lines] == ["-", "--"]
        for line in lines:
            assert line.get_xydata().tolist() == [[2, 0.75]]
    (size,) = [axes for title, axes in panels.items() if title.startswith("payload")]
    up, down = size.get_lines()
    assert up.get_xydata().tolist() == [[1, 100], [2, 150]]
    assert down.get_xydata().tolist() == [[2, 80]]
    assert (up.get_marker(), down.get_marker(), down.get_markerfacecolor()) == (".", "o", "none")
    assert size.get_yscale() == "log"
    assert {line.get_color() for axes in figure.axes for line in axes.get_lines()} == {up.get_color()}


def test_what_sends_nothing_and_what_was_not_counted_is_said() -> None:
    silent = federation_figure(federation([message("up", 1, payload=0, frame=12)]), "silent").axes[-1]
    assert [text.get_text() for text in silent.texts] == ["m: nothing is sent"]
    unknown = federation_figure(federation([]), "unknown").axes[-1]
    assert [text.get_text() for text in unknown.texts] == ["not counted"]
    assert unknown.get_yscale() == "linear"


def test_a_test_that_nobody_has_leaves_its_place_to_another() -> None:
    found = federation([])
    rows = [
        row.model_copy(
            update={
                "rounds": [
                    each.model_copy(update={"accuracy": [a for a in each.accuracy if a.test == "global"]})
                    for each in row.rounds
                ]
            }
        )
        for row in found.rows
    ]
    figure = federation_figure(found.model_copy(update={"rows": rows}), "no personal test")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["all classes, global test", "own classes, global test"]
    assert len(titles) == 3
    assert all(axes.get_lines() for axes in figure.axes[:2])


def test_the_area_of_a_dot_is_the_number_of_samples() -> None:
    (axes,) = partition_figure(site(), "small").axes
    train, test = holdings(site())
    assert train.shape == test.shape == (CLIENTS, CLASSES)
    assert train.sum(1).tolist() == [4] * CLIENTS
    for dots, counts in zip(axes.collections, (train, test), strict=True):
        for (column, row), size in zip(dots.get_offsets(), dots.get_sizes(), strict=True):
            assert counts[int(row), int(column)] / size == counts.max() / dots.get_sizes().max()
        assert len(dots.get_offsets()) == np.count_nonzero(counts)
    assert "12 samples to train on, 6 for own tests (rings)" in axes.get_title()


def test_pictures_are_written_whole(tmp_path: Path) -> None:
    plot_federation(federation(EVENTS), "small", tmp_path / "federation.png")
    plot_partition(site(), "small", tmp_path / "partition.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["federation.png", "partition.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
