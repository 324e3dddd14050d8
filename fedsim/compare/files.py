"""A comparison as files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsim.compare.figures import FIGURES, Comparison, MethodComparison, Size, Timing
from fedsim.compare.folder import ComparisonError
from fedsim.errors import OutputError
from fedsim.measure.files import replacing

__all__ = ["PLOT_FORMATS", "SCHEMA", "as_json", "check_plot", "write_json", "write_plot"]

#: Version of the JSON; rises when a key changes its meaning, comes or goes.
SCHEMA = 1
PLOT_FORMATS = (".png", ".pdf", ".svg")
_DPI = 150
_SIDES = ("simulated", "measured")


def write_json(comparison: Comparison, path: Path, missed: Sequence[str] = ()) -> None:
    """Write the figures as JSON, whole or not at all. docs/prediction.md says what each means.

    Args:
        comparison: the figures.
        path: of the file; one that is there is replaced.
        missed: what was not within a tolerance that was asked for.

    Raises:
        OutputError: it cannot be written there.
    """
    text = json.dumps(as_json(comparison, missed), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"--json {path}: cannot be written: {error.strerror or error}") from error


def write_plot(comparison: Comparison, path: Path) -> None:
    """Draw the distributions of the total latency and the means of the stages, whole or not at all.

    Args:
        comparison: the figures.
        path: of the file, in a format of :data:`PLOT_FORMATS`; one that is there is replaced.

    Raises:
        ComparisonError: another format.
        OutputError: it cannot be written there.
    """
    from fedsim.compare.pictures import comparison_figure  # noqa: PLC0415  (matplotlib)

    check_plot(path)
    figure = comparison_figure(comparison)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI)
    except OSError as error:
        raise OutputError(f"--plot {path}: cannot be written: {error.strerror or error}") from error


def check_plot(path: Path) -> None:
    """Refuse a picture in a format that cannot be drawn, before anything is computed.

    Raises:
        ComparisonError: names those that can.
    """
    if path.suffix.lower() not in PLOT_FORMATS:
        raise ComparisonError(f"--plot {path}: the name has to end in {', '.join(PLOT_FORMATS)}")


def as_json(comparison: Comparison, missed: Sequence[str] = ()) -> dict[str, Any]:
    """All of it as plain JSON values."""
    return {
        "schema": SCHEMA,
        "simulated": str(comparison.simulated),
        "measured": str(comparison.measured),
        "methods": [_method(one) for one in comparison.methods],
        "notes": list(comparison.notes),
        "missed": list(missed),
    }


def _method(one: MethodComparison) -> dict[str, Any]:
    answers = one.answers
    return {
        "method": one.method,
        "outcomes": dict(zip(_SIDES, map(dict, one.outcomes), strict=True)),
        "latency_ms": {stage: _timing(timing) for stage, timing in one.timings.items()},
        "bytes": {level: _size(size) for level, size in one.sizes.items()}
        | {
            level: {"simulated": pair.simulated, "measured": pair.measured}
            for level, pair in one.carried.items()
        },
        "joules": {
            stage: {
                "simulated": energy.simulated,
                "measured": energy.measured,
                "error": energy.error,
                "provenance": dict(zip(_SIDES, energy.provenance, strict=True)),
            }
            for stage, energy in one.joules.items()
        },
        "answers": {
            "samples": answers.samples,
            "predicted": answers.predicted,
            "alike": answers.alike,
            "other_labels": answers.other_labels,
            "accuracy": {"simulated": answers.simulated_accuracy, "measured": answers.measured_accuracy},
        },
    }


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "simulated": {figure: getattr(timing.simulated, figure) for figure in FIGURES},
        "measured": {figure: getattr(timing.measured, figure) for figure in FIGURES},
        "measured_interval": {figure: list(interval) for figure, interval in timing.intervals.items()},
        "error": {figure: timing.error(figure) for figure in FIGURES},
        "within_noise": {figure: timing.within_noise(figure) for figure in timing.intervals},
        "slight": timing.slight,
        "provenance": dict(zip(_SIDES, timing.provenance, strict=True)),
    }


def _size(size: Size) -> dict[str, Any]:
    return {
        "samples": size.samples,
        "equal": size.equal,
        "largest_difference": size.largest,
        "largest_error": size.largest_error if math.isfinite(size.largest_error) else None,
        "simulated": size.simulated,
        "measured": size.measured,
    }
