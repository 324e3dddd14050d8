"""What a family looks like, the same in every picture of a trade-off."""

from __future__ import annotations

from dataclasses import dataclass

from fedsim.measure.tradeoff.figures import Tradeoff

__all__ = ["UNCUT_COLOUR", "Style", "styles"]

#: Okabe and Ito's colours without their yellow, which is too light for a line on white, then three of
#: Tol's muted ones: people with the common colour deficiencies tell them apart. Besides, every family
#: has a marker of its own, and after the sixth a line of its own.
_LEARNED_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#332288", "#882255", "#999933"),
)
_LEARNED_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_SOLID, _DASHED, _DOT_DASHED, _DOTTED = "-", (0, (5.0, 1.5)), (0, (4.0, 1.2, 1.0, 1.2)), (0, (1.0, 1.2))
_OTHER_COLOURS = ("#303030", "#808080")
_OTHER_MARKERS = ("x", "+", "1", "2", "3", "4", (6, 2, 0))
UNCUT_COLOUR = "#707070"


@dataclass(frozen=True)
class Style:
    """Of the points of a family, and of the line through them."""

    colour: str
    marker: str | tuple[int, int, int]
    line: str | tuple[int, tuple[float, ...]]
    learned: bool


def styles(tradeoff: Tradeoff) -> dict[str, Style]:
    """By family that sends, in the order of the trade-off: learned ones in colour, others in grey."""
    learned = {one.family for one in tradeoff.labels if one.learned}
    found: dict[str, Style] = {}
    for family in tradeoff.families:
        trained = family in learned
        i = sum(style.learned == trained for style in found.values())
        found[family] = _learned(i) if trained else _other(i)
    return found


def _learned(i: int) -> Style:
    line = _SOLID if i < 6 else _DASHED if i < len(_LEARNED_COLOURS) else _DOT_DASHED
    colour = _LEARNED_COLOURS[i % len(_LEARNED_COLOURS)]
    return Style(colour, _LEARNED_MARKERS[i % len(_LEARNED_MARKERS)], line, True)


def _other(i: int) -> Style:
    colour = _OTHER_COLOURS[i % len(_OTHER_COLOURS)]
    return Style(colour, _OTHER_MARKERS[i % len(_OTHER_MARKERS)], _DOTTED, False)
