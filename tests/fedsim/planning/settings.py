"""Settings without a run folder behind them, for the tests of what chooses between settings."""

from pathlib import Path
from typing import Any

from edge.bundle import ModelSpec
from fedsim.measure.schema import Distribution, Row
from fedsim.measure.statistics import wilson_interval
from fedsim.planning import Candidate, Costs, Setting, Trained

from ..measure.runs import LEARNED, LOCAL, sample, summary_of

SAMPLES = 1000


def _row(local: bool) -> Row:
    outcome = {"outcome": "local"} if local else {"payload": 40, "wire": 200}
    (row,) = summary_of(sample("one", 0, **outcome), {"one": LOCAL if local else LEARNED}).rows
    return row


ROWS = {local: _row(local) for local in (True, False)}


def trained(
    right: int, seed: int = 1, size: float | None = 40.0, local: bool = False, **changes: Any
) -> Trained:
    """A training that told so many of 1000 samples rightly."""
    sizes = None if local or size is None else Distribution(mean=size, p50=size, p95=size, max=size)
    given = changes.pop("scenario", {"data": {"name": "digits", "validation": 0.2}})
    outcomes = ROWS[local].outcomes.model_copy(
        update={"answered": 0 if local else SAMPLES, "local": SAMPLES if local else 0}
    )
    values = {"accuracy": right / SAMPLES, "samples": SAMPLES, "payload_bytes": sizes, "outcomes": outcomes}
    values["accuracy_interval"] = wilson_interval(right, SAMPLES)
    row = ROWS[local].model_copy(update=values | changes)
    folder = Path("runs") / f"run-{seed}"
    return Trained(folder, folder / "models" / "one", seed, given, None, row)


def setting(
    name: str,
    right: int = 900,
    *,
    joules: float | None = 0.01,
    ms: float | None = 50.0,
    size: float | None = 40.0,
    wire: float | None = 200.0,
    local: bool = False,
    failed: float = 0.0,
    by_seed: tuple[Trained, ...] = (),
    level: int | None = None,
    **changes: Any,
) -> Setting:
    """A setting of these figures; p50 of the latency is half of p95."""
    spec = ModelSpec(
        name, "digits-cnn", {}, "output" if local else "stage2", None, (1, 8, 8), None if local else "float16"
    )
    of = by_seed or (trained(right, size=size, local=local, **changes),)
    half = None if ms is None else ms / 2
    costs = Costs(half, ms, 0.0 if local else wire, joules, {}, failed)
    return Setting(Candidate(name, spec, level, of), costs)


def choice() -> list[Setting]:
    """Six settings: four on the front of accuracy and energy, one beaten, and the uncut network."""
    return [
        setting("small", 850, joules=0.004, ms=40, size=12),
        setting("middle", 920, joules=0.008, ms=80, size=30),
        setting("beaten", 900, joules=0.009, ms=90, size=35),
        setting("large", 950, joules=0.020, ms=150, size=90),
        setting("raw", 960, joules=0.200, ms=900, size=2000),
        setting("local", 960, joules=0.300, ms=30, local=True),
    ]
