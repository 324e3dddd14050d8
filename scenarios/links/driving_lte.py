"""Makes the traces of driving-lte.toml: the rates of an LTE link in a car that drives, one a second.

Synthetic: the logarithm of the rate is a first-order autoregressive process whose mean, deviation and
autocorrelation are those of a public trace (Mahimahi, ATT-LTE-driving-2016, in bins of a second). Where a
real trace is at hand, name its file in a link file of your own: both formats of edge.link.read_trace do.

    python scenarios/links/driving_lte.py scenarios/links
"""

import sys
from pathlib import Path

import numpy as np

SECONDS = 600
#: Of log(Mbit/s): mean, deviation, correlation of one second with the next; then the most and least Mbit/s.
STATISTICS = {"up": (0.184, 1.274, 0.523, 8.0, 0.02), "down": (1.159, 0.933, 0.667, 20.0, 0.02)}


def rates(
    mean: float,
    deviation: float,
    correlation: float,
    most: float,
    least: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Mbit/s, [SECONDS]."""
    found = np.empty(SECONDS)
    state = generator.normal()
    for second in range(SECONDS):
        found[second] = mean + deviation * state
        state = correlation * state + np.sqrt(1 - correlation**2) * generator.normal()
    return np.clip(np.exp(found), least, most)


def main(folder: Path) -> None:
    """Write both traces."""
    for number, (direction, statistics) in enumerate(STATISTICS.items()):
        values = rates(*statistics, np.random.default_rng(number))
        lines = [f"{second},{value:.3f}" for second, value in enumerate(values)]
        (folder / f"driving-lte-{direction}.csv").write_text("\n".join(["time_s,Mbit/s", *lines, ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
