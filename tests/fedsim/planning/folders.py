"""Run folders as runs leave them, small: real bundles with untrained weights, a ledger, a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge import bundle
from edge.bundle import ModelSpec
from edge.meter import Event
from fedsim.measure import ledger
from fedsim.measure.summary import ModelCost, summarise
from fedsim.scenario import Scenario

from ..measure.runs import sample

SAMPLES = 40
SCENARIO: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "validation": 0.2},
    "model": {
        "backbone": "digits-cnn",
        "backbone_arguments": {"widths": [2, 2, 2]},
        "cut": "stage2",
        "bottleneck": {"name": "float16"},
    },
    "fleet": [{"count": 2}],
    "engine": "inprocess",
}


@dataclass(frozen=True)
class Method:
    """A row: its model, and what its run came to."""

    name: str
    wrong: int = 2
    payload: int | None = 32
    cut: str = "stage2"
    bottleneck: str | None = "float16"
    level: int | None = None
    failed: int = 0
    arguments: tuple[tuple[str, Any], ...] = ()
    labelled: bool = True

    @property
    def spec(self) -> ModelSpec:
        """Of its model."""
        model = self.name if self.level is None else self.name.removesuffix(f"-level{self.level}")
        return ModelSpec(
            model,
            "digits-cnn",
            {"widths": [2, 2, 2]},
            "output" if self.bottleneck is None else self.cut,
            None,
            (1, 8, 8),
            self.bottleneck,
            dict(self.arguments),
        )


LOCAL = Method("local", wrong=1, payload=None, bottleneck=None)
SMALL = Method("integer-4", wrong=4, payload=16, bottleneck="integer", arguments=(("bits", 4),))
LARGE = Method("float16", wrong=1, payload=64)


#: Files of bundles that have been made, by specification: making one takes longer than a test should.
_MADE: dict[str, dict[Path, bytes]] = {}


def _saved(spec: ModelSpec, folder: Path) -> None:
    if folder.exists():
        return
    if repr(spec) not in _MADE:
        model = bundle.build(spec)
        model.eval()
        if model.bottleneck is not None:
            model.bottleneck.freeze()
        bundle.save(model, spec, folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        _MADE[repr(spec)] = {path.relative_to(folder): path.read_bytes() for path in paths}
    for path, content in _MADE[repr(spec)].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def make_run(
    folder: Path,
    methods: Sequence[Method],
    seed: int = 1,
    changes: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    samples: int = SAMPLES,
) -> Path:
    """A finished run with a row for each method."""
    scenario = Scenario.model_validate(SCENARIO | (changes or {}) | {"seed": seed})
    events: list[Event] = []
    costs = {}
    for method in methods:
        _saved(method.spec, folder / "models" / method.spec.name)
        local = method.bottleneck is None
        for number in range(samples):
            lost = number >= samples - method.failed
            end = "failed" if lost else "local" if local else "answered"
            label = 1 if method.labelled else None
            prediction = None if lost else int(number >= method.wrong)
            payload = None if method.payload is None else method.payload + number % 2
            events += sample(
                method.name, number, outcome=end, label=label, prediction=prediction, payload=payload
            )
        costs[method.name] = ModelCost(method.bottleneck, False, 900, 30, 0 if local else 90, 3, method.level)
    ledger.write_parquet(events, folder / "ledger.parquet")
    order = [method.name for method in methods]
    summary = summarise(ledger.to_table(events), scenario.resolved(), seed, costs, order, 1.0, inputs)
    summary.write(folder / "summary.json")
    return folder


def make_sweep(folder: Path, methods: Sequence[Method], seeds: Sequence[int]) -> Path:
    """A sweep's folder: a run for each method and seed; of every next seed one sample more is wrong."""
    for i, seed in enumerate(seeds):
        for method in methods:
            point = folder / "points" / method.name / f"seed-{seed}"
            make_run(point, [replace(method, wrong=method.wrong + i)], seed)
    return folder
