"""How far a federation is, and how well it tells classes by now."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric

__all__ = ["RoundMetrics"]


class RoundMetrics:
    """The rounds that a server has left in its folder (:mod:`fedsim.federated.engines.outcome`).

    Args:
        folder: of the results; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "rounds" / "run.json"

    def collect(self) -> Iterator[Metric]:
        """Rounds that are over, and accuracies behind the last that was evaluated."""
        try:
            run = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return
        yield GaugeMetricFamily("fedsim_rounds", "Rounds that are over.", run["rounds"])
        right: Counter[tuple[str, str, str]] = Counter()
        total: Counter[tuple[str, str, str]] = Counter()
        evaluated = [record for record in run["records"] if record["results"]]
        for results in evaluated[-1]["results"].values() if evaluated else ():
            for one in results:
                key = one["predictor"], one["classes"], one["test"]
                right[key] += one["right"]
                total[key] += one["total"]
        accuracy = GaugeMetricFamily(
            "fedsim_round_accuracy",
            "Share of their test samples that the clients told rightly, behind the last evaluated round.",
            labels=("predictor", "classes", "test"),
        )
        for key, number in total.items():
            if number:
                accuracy.add_metric(key, right[key] / number)
        yield accuracy
