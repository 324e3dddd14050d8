"""The trade-off of a sweep: curves, Pareto front, Bjontegaard differences, intervals over seeds.

``analyse(points)`` computes, ``print_tradeoff`` and ``write`` show. What every figure means stands in
docs/tradeoff.md.
"""

from fedsim.measure.tradeoff.analysis import analyse
from fedsim.measure.tradeoff.figures import Comparison, Estimate, LabelFigures, Part, Tradeoff
from fedsim.measure.tradeoff.files import write
from fedsim.measure.tradeoff.points import Point
from fedsim.measure.tradeoff.tables import print_tradeoff

__all__ = [
    "Comparison",
    "Estimate",
    "LabelFigures",
    "Part",
    "Point",
    "Tradeoff",
    "analyse",
    "print_tradeoff",
    "write",
]
