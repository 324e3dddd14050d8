import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.measure.bjontegaard import accuracy_at, bd_rate, bytes_at
from fedsim.measure.statistics import wilson_interval
from fedsim.measure.tradeoff import Comparison, LabelFigures, Point, Tradeoff, analyse

from .points import codec, point, sweep, uncut

CURVE = [(20, 0.80), (40, 0.86), (80, 0.90), (160, 0.92)]


def family(name: str, k: float = 1, d: float = 0, seeds: tuple[int, ...] = (1,)) -> list[Point]:
    """The curve of k times the bytes and d more accuracy."""
    return [
        point(f"{name}-{i}", k * size, accuracy + d, seed)
        for seed in seeds
        for i, (size, accuracy) in enumerate(CURVE)
    ]


def figures(tradeoff: Tradeoff, label: str) -> LabelFigures:
    (found,) = [one for one in tradeoff.labels if one.label == label]
    return found


def against(tradeoff: Tradeoff, name: str, part: str = "payload") -> Comparison:
    (found,) = [one for one in tradeoff.comparisons if (one.family, one.part) == (name, part)]
    return found


def test_means_and_intervals_over_seeds() -> None:
    accuracies = [(1, 10.0, 0.90), (2, 11.0, 0.91), (3, 12.0, 0.92)]
    one = figures(analyse([point("vq-1", b, a, seed) for seed, b, a in accuracies]), "vq-1")
    assert (one.payload_bytes, one.accuracy) == (11, pytest.approx(0.91))
    half = 2.4841377  # of the mean of three values with standard deviation 1
    assert one.payload_interval == pytest.approx((11 - half, 11 + half))
    assert one.accuracy_interval == pytest.approx((0.91 - 0.01 * half, 0.91 + 0.01 * half))
    assert (one.seeds, one.interval_over) == ((1, 2, 3), "seeds")


def test_intervals_stay_where_bytes_and_accuracies_can_be() -> None:
    one = figures(analyse([point("vq-1", 1, 0.9, 1), point("vq-1", 99, 1.0, 2)]), "vq-1")
    assert one.payload_interval is not None
    assert one.payload_interval[0] == 0
    assert one.accuracy_interval[1] == 1


def test_one_seed_has_the_interval_of_the_test_set_and_says_so() -> None:
    tradeoff = analyse([point("vq-1", 10, 0.9), uncut(1.0)])
    assert figures(tradeoff, "vq-1").accuracy_interval == wilson_interval(900, 1000)
    assert figures(tradeoff, "local").accuracy_interval == wilson_interval(1000, 1000)
    assert figures(tradeoff, "vq-1").payload_interval is None
    (note,) = tradeoff.notes
    assert note.startswith("one seed: intervals of the accuracy are Wilson's, of the test set")


def test_bytes_at_equal_accuracy_are_paired_by_seed() -> None:
    points = family("factorized", seeds=(1, 2)) + family("vq", 2, seeds=(1,)) + family("vq", 4.5, seeds=(2,))
    rate = against(analyse(points), "vq").rate
    assert rate.by_seed == pytest.approx({1: 100, 2: 350})
    # The mean is that of the logarithms: sqrt(2 * 4.5) = 3; t of one degree of freedom is 12.706.
    assert rate.mean == pytest.approx(200)
    half = 12.7062047 * abs(math.log(4.5 / 2)) / 2
    assert rate.interval == pytest.approx((300 * math.exp(-half) - 100, 300 * math.exp(half) - 100), rel=1e-6)
    assert rate.common == pytest.approx((0.80, 0.92))
    assert rate.sign_p == 0.5
    assert rate.reason is None


def test_accuracy_at_equal_bytes() -> None:
    points = family("factorized", seeds=(1, 2, 3)) + family("vq", d=0.01, seeds=(1, 2, 3))
    gain = against(analyse(points), "vq").accuracy
    assert gain.mean == pytest.approx(1)
    assert gain.interval == pytest.approx((1, 1))
    assert gain.common == pytest.approx((20, 160))
    assert gain.sign_p == 0.25


def test_seeds_without_a_figure_are_named_and_the_others_counted() -> None:
    points = family("factorized", seeds=(1, 2, 3)) + family("vq", 2, seeds=(1, 2))
    points += family("vq", 2, -0.5, seeds=(3,))
    comparison = against(analyse(points), "vq")
    assert set(comparison.rate.by_seed) == {1, 2}
    assert comparison.rate.reason == (
        "seed 3: no accuracies in common (30.0–42.0 %, the anchor 80.0–92.0 %)"  # noqa: RUF001
    )
    assert comparison.accuracy.reason is None


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([point("vq-1", 10, 0.9)], "one point, a curve takes two"),
        (
            [point("vq-1", 10, 0.9, 9), point("vq-2", 20, 0.95, 9)],
            "seed 1: no point of vq; seed 9: no point of",
        ),
        ([point("vq-1", 0, 0.1)], "no point of vq"),
    ],
)
def test_no_figure_is_null_with_its_reason(points: list[Point], words: str) -> None:
    rate = against(analyse([*family("factorized"), *points]), "vq").rate
    assert (rate.mean, rate.interval, rate.common, rate.sign_p) == (None, None, None, None)
    assert rate.reason is not None
    assert rate.reason.startswith(words)


def test_the_constant_part_is_compared_apart() -> None:
    jpeg = [codec(f"jpeg-{i}", 3 * b + 190, a, constant=190) for i, (b, a) in enumerate(CURVE)]
    tradeoff = analyse([*family("factorized"), *jpeg])
    assert against(tradeoff, "jpeg", "content").rate.mean == pytest.approx(200)
    whole = against(tradeoff, "jpeg").rate.mean
    assert whole is not None
    assert whole > 200
    assert [(one.family, one.part) for one in tradeoff.comparisons] == [
        ("jpeg", "payload"),
        ("jpeg", "content"),
    ]
    assert figures(tradeoff, "jpeg-0").content_bytes == 60


def test_the_pareto_front_is_of_means_and_leaves_the_uncut_network_out() -> None:
    points = [
        point("a-1", 10, 0.80, head_macs=10),
        point("a-2", 20, 0.85, head_macs=20),  # as large as b-1 and worse
        point("b-1", 20, 0.90, head_macs=30),
        point("b-2", 30, 0.90, head_macs=30),  # larger and no better
        point("b-3", 40, 0.90, head_macs=5),  # larger and no better, but cheap
        codec("png", 500, 0.91),
        uncut(0.95),
        replace(uncut(0.94), label="small", family="small", head_macs=40),
    ]
    tradeoff = analyse(points)
    assert {one.label for one in tradeoff.labels if one.front} == {"a-1", "b-1", "png"}
    with_macs = {one.label for one in tradeoff.labels if one.front_with_macs}
    assert with_macs == {"a-1", "a-2", "b-1", "b-3", "png", "small", "local"}


def test_what_the_uncut_network_does_with_less_compute_is_not_on_the_front_with_macs() -> None:
    tradeoff = analyse([point("a-1", 10, 0.9, head_macs=40_000_000), uncut(0.91)])
    assert figures(tradeoff, "a-1").front
    assert not figures(tradeoff, "a-1").front_with_macs


def test_a_curve_runs_through_what_its_family_does_best() -> None:
    tradeoff = analyse([*family("vq"), point("vq-9", 50, 0.5), point("vq-10", 0, 0.1)])
    assert tradeoff.curve("vq").sizes == (20, 40, 80, 160)
    assert not figures(tradeoff, "vq-9").on_curve
    assert "not on the curve of vq, which does as well with no more bytes: vq-9" in tradeoff.notes
    assert "not on the curve of vq, because they send 0 bytes: vq-10" in tradeoff.notes


def test_curves_answer_at_equal_accuracy_and_at_equal_bytes() -> None:
    tradeoff = analyse(family("vq", seeds=(1,)) + family("vq", 3, seeds=(2,)))
    assert bytes_at(tradeoff.curve("vq"), 0.86) == pytest.approx(80)  # of the mean over seeds
    assert bytes_at(tradeoff.curve("vq", seed=2), 0.86) == pytest.approx(120)
    assert accuracy_at(tradeoff.curve("vq", seed=1), 80) == pytest.approx(0.90)
    assert bd_rate(tradeoff.curve("vq", 2), tradeoff.curve("vq", 1)).value == pytest.approx(200)
    with pytest.raises(ValueError, match="no family 'jpeg'; there are vq"):
        tradeoff.curve("jpeg")
    with pytest.raises(ValueError, match="vq has no point of seed 5"):
        tradeoff.curve("vq", seed=5)


@pytest.mark.parametrize(
    ("points", "anchor"),
    [
        ([*family("bottlefit"), *family("factorized"), codec("jpeg-1", 5, 0.5)], "factorized"),
        (
            [*family("bottlefit"), *family("factorized layer2"), *family("factorized layer1")],
            "factorized layer1",
        ),
        ([*family("vq"), *family("information"), codec("jpeg-1", 5, 0.5)], "information"),
        ([codec("jpeg", 9, 0.5), codec("png-1", 5, 0.5), codec("png-2", 7, 0.6), uncut(0.9)], "png"),
        ([codec("png", 5, 0.5), uncut(0.9)], None),
        ([uncut(0.9)], None),
        ([], None),
    ],
)
def test_the_anchor_unless_one_is_chosen(points: list[Point], anchor: str | None) -> None:
    tradeoff = analyse(points)
    assert tradeoff.anchor == anchor
    assert bool(tradeoff.comparisons) == (anchor is not None and len(tradeoff.families) > 1)


def test_a_chosen_anchor_stands_first_and_is_not_compared_with_itself() -> None:
    tradeoff = analyse(sweep(), "webp")
    assert tradeoff.labels[0].family == "webp"
    assert "webp" not in {one.family for one in tradeoff.comparisons}
    with pytest.raises(ValueError, match="no family 'gif' to compare with; there are bottlefit, channel"):
        analyse(sweep(), "gif")


def test_labels_stand_by_family_and_size() -> None:
    families = list(dict.fromkeys(one.family for one in analyse(sweep()).labels))
    learned = ["bottlefit", "channel", "hyperprior", "information", "key-value", "variable", "vq"]
    assert families == ["factorized", *learned, "jpeg", "webp", "float32", "png", "raw", "local"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "vq-1: two points of one seed, seeds \\[1, 1\\]"),
        ({"cut": "layer2"}, "vq-1: cut differs between seeds: \\['layer1', 'layer2'\\]"),
        ({"head_macs": 3}, "vq-1: head_macs differs between seeds"),
    ],
)
def test_points_that_contradict_each_other_are_refused(change: dict[str, object], words: str) -> None:
    first = point("vq-1", 10, 0.9)
    with pytest.raises(ValueError, match=words):
        analyse([first, replace(first, **({"seed": 2} | change))])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": 91.5}, "vq-1, seed 1: accuracy 91.5, expected 0..1"),
        ({"accuracy": math.nan}, "accuracy nan, expected 0..1"),
        ({"payload_bytes": -1.0}, "vq-1, seed 1: payload -1.0 B.*none may be below 0"),
        ({"payload_bytes": math.inf}, "payload inf B"),
        ({"samples": 0}, "vq-1, seed 1: 0 samples, expected at least 1"),
    ],
)
def test_impossible_points_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(point("vq-1", 10, 0.9), **change)


@settings(max_examples=6, deadline=None)
@given(st.permutations(sweep((1, 2))))
def test_the_order_of_the_points_is_of_no_account(points: list[Point]) -> None:
    assert analyse(points) == analyse(sweep((1, 2)))


@st.composite
def any_points(draw: st.DrawFn) -> list[Point]:
    """Whatever a sweep may come to: equal sizes and accuracies, nothing sent, all wrong, all right, gaps."""
    labels = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=8, unique=True))
    points = []
    for name, rate in labels:
        same = {
            "learned": draw(st.booleans()),
            "local": name == "c" and draw(st.booleans()),
            "head_macs": draw(st.sampled_from([0, 7])),
        }
        for seed in draw(st.sets(st.integers(1, 3), min_size=1)):
            size = draw(st.sampled_from([0.0, 0.5, 3.0, 3.0000000000000004, 80.0]))
            accuracy = draw(st.sampled_from([0.0, 0.5, 0.501, 1.0]))
            constant = draw(st.sampled_from([0, 2]))
            points.append(point(f"{name}-{rate}", size, accuracy, seed, constant_bytes=constant, **same))
    return points


@settings(max_examples=60, deadline=None)
@given(any_points())
def test_whatever_a_sweep_comes_to_has_an_analysis(points: list[Point]) -> None:
    tradeoff = analyse(points)
    assert (len(tradeoff.points), set(tradeoff.points)) == (len(points), set(points))
    sending = [one for one in tradeoff.labels if not one.local]
    assert any(one.front for one in sending) == bool(sending)
    for one in tradeoff.labels:
        assert 0 <= one.accuracy_interval[0] <= one.accuracy <= one.accuracy_interval[1] <= 1
        assert not (one.local and one.front)
    for comparison in tradeoff.comparisons:
        for estimate in (comparison.rate, comparison.accuracy):
            assert (estimate.mean is None) == (not estimate.by_seed)
            assert set(estimate.by_seed) | set(estimate.reasons) == set(tradeoff.seeds)
            if estimate.interval is not None:
                assert estimate.mean is not None
                low, high = estimate.interval
                assert low - 1e-9 <= estimate.mean <= high + 1e-9
