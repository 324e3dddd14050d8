"""Points of small sweeps, for the tests of the trade-off."""

import math
import random
from typing import Any

from fedsim.measure.tradeoff import Point


def point(label: str, size: float, accuracy: float, seed: int = 1, **changes: Any) -> Point:
    """A learned point whose family is what stands before the last hyphen of its label."""
    family, _, rate = label.rpartition("-")
    values: dict[str, Any] = {
        "family": family or label,
        "label": label,
        "seed": seed,
        "learned": True,
        "rate": float(rate) if rate.isdigit() else None,
        "level": None,
        "cut": "layer1",
        "payload_bytes": size,
        "accuracy": accuracy,
        "samples": 1000,
        "head_macs": 5_000_000,
        "head_parameters": 80_000,
        "constant_bytes": 0,
        "local": False,
    }
    return Point(**(values | changes))


def codec(label: str, size: float, accuracy: float, seed: int = 1, constant: int = 0) -> Point:
    """A point of an image codec: nothing is computed on the device."""
    return point(
        label, size, accuracy, seed, learned=False, head_macs=0, head_parameters=0, constant_bytes=constant
    )


def uncut(accuracy: float, seed: int = 1) -> Point:
    """The network that runs whole on the device."""
    changes = {"learned": False, "head_macs": 36_000_000, "head_parameters": 700_000, "local": True}
    return point("local", 0.0, accuracy, seed, family="local", **changes)


def sweep(seeds: tuple[int, ...] = (1, 2, 3)) -> list[Point]:
    """Eight families of four rates, two codecs of five qualities, three single points, the uncut network."""
    draw = random.Random(7)
    families = [
        "factorized",
        "hyperprior",
        "bottlefit",
        "vq",
        "key-value",
        "variable",
        "information",
        "channel",
    ]
    points = []
    for seed in seeds:
        for i, family in enumerate(families):
            for k in range(4):
                size = (30 + 8 * i) * 2 ** (k - 1) * (1 + draw.gauss(0, 0.02))
                accuracy = 0.915 - 0.01 * (i % 4) - 0.1 * math.exp(-0.9 * k) + draw.gauss(0, 0.002)
                points.append(point(f"{family}-{k}", size, accuracy, seed, head_macs=5_000_000 + 300_000 * i))
        for family, size, constant in (("jpeg", 210, 190), ("webp", 50, 28)):
            for k in range(5):
                accuracy = 0.912 - 0.2 * math.exp(-0.8 * k) + draw.gauss(0, 0.002)
                points.append(codec(f"{family}-{k}", size + 20 * 1.5**k, accuracy, seed, constant))
        whole = 0.915 + 0.001 * seed
        points += [codec("png", 470, whole, seed, 80), codec("raw", 784, whole, seed), uncut(whole, seed)]
        points.append(point("float32", 50176, whole, seed, learned=False, head_macs=4_000_000))
    return points
