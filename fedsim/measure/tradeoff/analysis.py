"""From the points of a sweep to its figures: means over seeds, Pareto front, Bjontegaard differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fedsim.measure.bjontegaard import Curve, Difference, NoComparisonError, bd_accuracy, bd_rate
from fedsim.measure.statistics import sign_test, t_interval, wilson_interval
from fedsim.measure.tradeoff.figures import Comparison, Estimate, LabelFigures, Part, Tradeoff, seeds_in_words
from fedsim.measure.tradeoff.pareto import efficient
from fedsim.measure.tradeoff.points import Point, by_label

__all__ = ["analyse"]

#: The family that others are compared with unless something else is asked for.
_REFERENCE = "factorized"


def analyse(points: Sequence[Point], anchor: str | None = None) -> Tradeoff:
    """The trade-off of a sweep; the order of the points is of no account.

    Args:
        points: one for each method and seed.
        anchor: family that the others are compared with. By default ``factorized`` (or the first
            whose name begins so, where there are several cuts), else the first learned family, else
            the first with two labels, in the order of their names.

    Raises:
        ValueError: the points contradict each other (see :func:`by_label`), or the anchor is none of
            their families.
    """
    groups = by_label(points)
    sending = sorted({point.family for point in points if not point.local})
    if anchor is not None and anchor not in sending:
        raise ValueError(f"no family {anchor!r} to compare with; there are {', '.join(sending) or 'none'}")
    chosen = anchor or _default_anchor(groups)
    labels = _with_fronts([_figures(group) for group in groups.values()])
    counts = Counter(one.family for one in labels)
    labels.sort(key=lambda one: (_rank(one, chosen, counts), one.family, one.payload_bytes, one.label))
    ordered = tuple(point for one in labels for point in groups[one.label])
    seeds = tuple(sorted({point.seed for point in points}))
    bare = Tradeoff(chosen, seeds, tuple(labels), (), (), ordered)
    return Tradeoff(chosen, seeds, tuple(labels), _comparisons(bare), _notes(bare), ordered)


def _default_anchor(groups: Mapping[str, Sequence[Point]]) -> str | None:
    first = [group[0] for group in groups.values() if not group[0].local]  # by family
    named = [point.family for point in first if point.family.startswith(_REFERENCE)]
    learned = [point.family for point in first if point.learned]
    families = [point.family for point in first]
    several = [family for family in families if families.count(family) > 1]
    return next(iter([*named, *learned, *several]), None)


def _rank(one: LabelFigures, anchor: str | None, counts: Mapping[str, int]) -> int:
    if one.local:
        return 4
    if one.family == anchor:
        return 0
    return 1 if one.learned else 2 if counts[one.family] > 1 else 3


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _figures(group: Sequence[Point]) -> LabelFigures:
    """Of one label; the flags are still to be set."""
    first = group[0]
    accuracies = [point.accuracy for point in group]
    sizes = [point.payload_bytes for point in group]
    over_seeds, over_sizes = t_interval(accuracies), t_interval(sizes)
    low, high = over_seeds or wilson_interval(round(first.accuracy * first.samples), first.samples)
    return LabelFigures(
        family=first.family,
        label=first.label,
        learned=first.learned,
        rate=first.rate,
        level=first.level,
        cut=first.cut,
        local=first.local,
        seeds=tuple(point.seed for point in group),
        samples=min(point.samples for point in group),
        payload_bytes=_mean(sizes),
        payload_interval=None if over_sizes is None else (max(0.0, over_sizes[0]), over_sizes[1]),
        constant_bytes=_mean([point.constant_bytes for point in group]),
        content_bytes=_mean([point.content_bytes for point in group]),
        accuracy=_mean(accuracies),
        accuracy_interval=(max(0.0, low), min(1.0, high)),
        interval_over="test set" if over_seeds is None else "seeds",
        head_macs=first.head_macs,
        head_parameters=first.head_parameters,
        on_curve=False,
        front=False,
        front_with_macs=False,
    )


def _with_fronts(labels: Sequence[LabelFigures]) -> list[LabelFigures]:
    sending = [one for one in labels if not one.local]
    front = _efficient(sending)
    curves = {
        label
        for family in {one.family for one in sending}
        for label in _efficient([one for one in sending if one.family == family and one.payload_bytes > 0])
    }
    costs = [(one.payload_bytes, -one.accuracy, float(one.head_macs)) for one in labels]
    with_macs = efficient(costs)
    return [
        replace(one, on_curve=one.label in curves, front=one.label in front, front_with_macs=flag)
        for one, flag in zip(labels, with_macs, strict=True)
    ]


def _efficient(labels: Sequence[LabelFigures]) -> set[str]:
    """The labels which no other of them beats in bytes and accuracy."""
    flags = efficient([(one.payload_bytes, -one.accuracy) for one in labels])
    return {one.label for one, flag in zip(labels, flags, strict=True) if flag}


def _comparisons(tradeoff: Tradeoff) -> tuple[Comparison, ...]:
    anchor = tradeoff.anchor
    if anchor is None:
        return ()
    constant = {one.family for one in tradeoff.labels if one.constant_bytes > 0}
    found = []
    for family in tradeoff.families:
        if family == anchor:
            continue
        found.append(_compare(tradeoff, family, anchor, "payload"))
        if {family, anchor} & constant:
            found.append(_compare(tradeoff, family, anchor, "content"))
    return tuple(found)


def _compare(tradeoff: Tradeoff, family: str, anchor: str, part: Part) -> Comparison:
    rates: dict[int, Difference | str] = {}
    accuracies: dict[int, Difference | str] = {}
    for seed in tradeoff.seeds:
        curve, reference = (_curve(tradeoff, name, seed, part) for name in (family, anchor))
        if curve is None or reference is None:
            missing = f"no point of {anchor if curve is not None else family}"
            rates[seed] = accuracies[seed] = missing
            continue
        rates[seed] = _difference(bd_rate, curve, reference)
        accuracies[seed] = _difference(bd_accuracy, curve, reference)
    return Comparison(
        family,
        part,
        # Ratios are averaged by their logarithms: half and double cancel.
        _estimate(rates, lambda p: math.log1p(p / 100), lambda x: 100 * math.expm1(x)),
        _estimate(accuracies, float, float),
    )


def _curve(tradeoff: Tradeoff, family: str, seed: int, part: Part) -> Curve | None:
    try:
        return tradeoff.curve(family, seed, part)
    except ValueError:
        return None


def _difference(
    measure: Callable[[Curve, Curve], Difference], curve: Curve, reference: Curve
) -> Difference | str:
    try:
        return measure(curve, reference)
    except NoComparisonError as none:
        return str(none)


def _estimate(
    found: Mapping[int, Difference | str], forth: Callable[[float], float], back: Callable[[float], float]
) -> Estimate:
    """The mean over seeds, taken of ``forth(value)`` and brought ``back``."""
    known = {seed: one for seed, one in found.items() if isinstance(one, Difference)}
    reasons = {seed: one for seed, one in found.items() if isinstance(one, str)}
    if not known:
        return Estimate(None, None, None, None, {}, reasons)
    values = [forth(one.value) for one in known.values()]
    interval = t_interval(values)
    return Estimate(
        mean=back(_mean(values)),
        interval=None if interval is None else (back(interval[0]), back(interval[1])),
        sign_p=sign_test(values),
        common=(_mean([one.low for one in known.values()]), _mean([one.high for one in known.values()])),
        by_seed={seed: one.value for seed, one in known.items()},
        reasons=reasons,
    )


def _notes(tradeoff: Tradeoff) -> tuple[str, ...]:
    notes = []
    single = [one.label for one in tradeoff.labels if one.interval_over == "test set"]
    if single:
        who = "" if len(single) == len(tradeoff.labels) else f" of {', '.join(single)}"
        notes.append(
            f"one seed{who}: intervals of the accuracy are Wilson's, of the test set; "
            "how much training differs from seed to seed is not in them"
        )
    for one in tradeoff.labels:
        missing = sorted(set(tradeoff.seeds) - set(one.seeds))
        if missing:
            notes.append(f"{one.label}: without {seeds_in_words(missing)}")
    for family in tradeoff.families:
        off = [one for one in tradeoff.labels if one.family == family and not one.on_curve]
        beaten = [one.label for one in off if one.payload_bytes > 0]
        empty = [one.label for one in off if not one.payload_bytes > 0]
        if beaten:
            notes.append(
                f"not on the curve of {family}, which does as well with no more bytes: {', '.join(beaten)}"
            )
        if empty:
            notes.append(f"not on the curve of {family}, because they send 0 bytes: {', '.join(empty)}")
    return tuple(notes)
