"""The figures of a sweep as files."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedsim.measure.files import replacing
from fedsim.measure.tradeoff.figures import Comparison, Estimate, LabelFigures, Tradeoff
from fedsim.measure.tradeoff.pictures import compute_figure, curves_figure

__all__ = ["SCHEMA", "as_json", "write"]

#: Version of ``tradeoff.json``; rises when a key changes its meaning, comes or goes.
SCHEMA = 1
_DPI = 150
_INTERVALS = ("payload_interval", "accuracy_interval")


def write(tradeoff: Tradeoff, folder: Path) -> list[Path]:
    """Write ``tradeoff.json``, ``tradeoff.csv``, ``tradeoff.png`` and ``compute.png``.

    Each is replaced whole or stays as it was. docs/tradeoff.md says what every figure means.

    Returns:
        their paths, in this order.
    """
    as_text, as_table = folder / "tradeoff.json", folder / "tradeoff.csv"
    with replacing(as_text) as temporary:
        text = json.dumps(as_json(tradeoff), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with replacing(as_table) as temporary:
        _write_csv(tradeoff, temporary)
    pictures = [
        (folder / "tradeoff.png", curves_figure(tradeoff)),
        (folder / "compute.png", compute_figure(tradeoff)),
    ]
    for path, figure in pictures:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)
    return [as_text, as_table, *(path for path, _ in pictures)]


def as_json(tradeoff: Tradeoff) -> dict[str, Any]:
    """All of it as plain JSON values."""
    return {
        "schema": SCHEMA,
        "anchor": tradeoff.anchor,
        "seeds": list(tradeoff.seeds),
        "labels": [_listed(asdict(one)) for one in tradeoff.labels],
        "comparisons": [_comparison(one) for one in tradeoff.comparisons],
        "notes": list(tradeoff.notes),
        "points": [asdict(point) for point in tradeoff.points],
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    return {
        "family": one.family,
        "part": one.part,
        "bd_rate_percent": _estimate(one.rate),
        "bd_accuracy_points": _estimate(one.accuracy),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    plain = _listed(asdict(estimate))
    for name in ("by_seed", "reasons"):
        plain[name] = {str(seed): value for seed, value in plain[name].items()}
    return {**plain, "reason": estimate.reason}


def _listed(plain: dict[str, Any]) -> dict[str, Any]:
    """With lists in place of tuples, as reading the file gives them back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def _write_csv(tradeoff: Tradeoff, path: Path) -> None:
    """A row for each label; an interval becomes two columns, the seeds are counted, None is empty."""
    rows = [_flat(one) for one in tradeoff.labels]
    header = list(rows[0]) if rows else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _flat(one: LabelFigures) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in asdict(one).items():
        if key in _INTERVALS:
            low, high = value or (None, None)
            stem = key.removesuffix("_interval")
            flat |= {f"{stem}_low": low, f"{stem}_high": high}
        else:
            flat[key] = len(value) if key == "seeds" else value
    return flat
