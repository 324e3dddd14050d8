import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.scenario_source import lookup
from fedsim.sweep import grid
from fedsim.sweep.grid import SweptPoint

SCALARS = st.one_of(st.integers(0, 9), st.sampled_from(["a", "b"]), st.booleans())
KEYS = st.sampled_from(["model.bottleneck.beta", "model.bottleneck.bits", "model.cut", "training.batch_size"])
SECTIONS = st.fixed_dictionaries({"name": st.sampled_from(["one", "two"])}, optional={"beta": SCALARS})
GRIDS = st.lists(
    st.tuples(
        st.dictionaries(KEYS, st.lists(SCALARS, min_size=1, max_size=3, unique_by=json.dumps), max_size=3),
        st.lists(SECTIONS, min_size=1, max_size=2, unique_by=lambda v: json.dumps(v, sort_keys=True)),
    ).map(lambda pair: {**pair[0], grid.BOTTLENECK: pair[1]}),
    min_size=1,
    max_size=3,
)


def points_of(grids: list[dict[str, list[Any]]]) -> list[SweptPoint]:
    """Points that differ, in their order."""
    found: dict[str, SweptPoint] = {}
    for number, setting in grid.settings(grids):
        document = grid.apply({"model": {"cut": "c"}}, setting)
        found.setdefault(json.dumps(document, sort_keys=True), SweptPoint(number, setting, document))
    return list(found.values())


@given(GRIDS)
def test_names_tell_all_points_apart(grids: list[dict[str, list[Any]]]) -> None:
    points = points_of(grids)
    names = grid.naming(points, grids)
    words = [
        json.dumps([lookup(p.document, "model.bottleneck.name"), n])
        for p, n in zip(points, names, strict=True)
    ]
    assert len(set(words)) == len(points)
    for point, name in zip(points, names, strict=True):
        assert all(lookup(point.document, key) == value for key, value in name.items())


@given(GRIDS)
def test_every_setting_is_what_the_document_says(grids: list[dict[str, list[Any]]]) -> None:
    assert grid.size(grids) == len(list(grid.settings(grids)))
    for point in points_of(grids):
        for key, value in point.setting.items():
            if key != grid.BOTTLENECK:
                assert lookup(point.document, key) == value


def test_names_are_short() -> None:
    grids = [
        {"model.bottleneck": [{"name": "a"}], "model.cut": ["x"], "model.bottleneck.beta": [1, 2]},
        {"model.bottleneck": [{"name": "b"}], "model.cut": ["y"]},
    ]
    names = grid.naming(points_of(grids), grids)
    assert names == [{"model.bottleneck.beta": 1}, {"model.bottleneck.beta": 2}, {}]


def test_name_of_the_bottleneck_stands_there_once() -> None:
    grids = [{"model.bottleneck": [{}], "model.bottleneck.name": ["a", "b"], "model.bottleneck.beta": [1, 2]}]
    assert grid.naming(points_of(grids), grids) == [{"model.bottleneck.beta": beta} for beta in (1, 2, 1, 2)]


@pytest.mark.parametrize(
    ("value", "full"),
    [
        (None, []),
        ({}, []),
        ([], []),
        ({"model.cut": ["a", "b"]}, [{"model.cut": ["a", "b"]}]),
        ([{"model.cut": "a"}, {}], [{"model.cut": ["a"]}, {}]),
        ({"model.bottleneck": {"name": "x"}}, [{"model.bottleneck": [{"name": "x"}]}]),
    ],
)
def test_every_form_of_a_sweep_is_a_list_of_grids_of_lists(value: Any, full: list[Any]) -> None:
    assert grid.as_grids(value) == full
    assert grid.as_grids(full) == full


def test_sections_as_a_whole_are_not_swept() -> None:
    assert [
        key for key in ("model", "seed", "model.", "model.cut", "fleet.0.count") if grid.is_swept(key)
    ] == ["model.cut"]
