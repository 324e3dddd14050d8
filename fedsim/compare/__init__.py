"""Prediction against measurement: two run folders of the same methods, stage by stage, with the error.

``compare(simulated, measured)`` computes; ``print_comparison``, ``write_json`` and ``write_plot`` show, and
:class:`Tolerance` judges. What every figure means stands in docs/prediction.md.
"""

from fedsim.compare.comparison import compare
from fedsim.compare.figures import Comparison, MethodComparison
from fedsim.compare.files import as_json, check_plot, write_json, write_plot
from fedsim.compare.folder import ComparisonError
from fedsim.compare.tables import print_comparison
from fedsim.compare.tolerance import Tolerance

__all__ = [
    "Comparison",
    "ComparisonError",
    "MethodComparison",
    "Tolerance",
    "as_json",
    "check_plot",
    "compare",
    "print_comparison",
    "write_json",
    "write_plot",
]
