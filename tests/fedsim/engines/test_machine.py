"""The energy of the machine, method by method: real processes, and counters in files as the kernel's."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from edge.energy import zeus
from edge.meter import Event
from fedsim.engines import processes
from fedsim.engines.plan import RunPlan
from fedsim.errors import EngineError
from fedsim.measure import ledger
from fedsim.measure.machine import MACHINE_STAGES
from fedsim.measure.schema import Summary
from fedsim.measure.summary import summarise
from fedsim.measure.table import print_results

from ...edge.energy.sysfs import RANGE_UJ, write, zone
from ..measure.runs import CODEC, LEARNED
from .plans import made, repeated, small


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    methods = (
        made(tmp_path, "float32", "float32", "stage2"),
        made(tmp_path, "jpeg", "jpeg", "input", rate=50.0),
    )
    return repeated(small(tmp_path, *methods), 30)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two processors, the first with its memory."""
    root = tmp_path / "sys"
    zone(root, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    zone(root, "intel-rapl:0:0", "dram")
    zone(root, "intel-rapl:1", "package-1")
    return root


def counter(root: Path, number: str) -> Path:
    return root / "class/powercap" / number / "energy_uj"


def spend(file: Path, joules: float) -> None:
    """Move a counter on, which begins anew at its range."""
    write(file, (int(file.read_text()) + round(joules * 1e6)) % RANGE_UJ)


class Once:
    """Does something in the first part of a run's report that is asked for, and remembers."""

    def __init__(self, plan: RunPlan) -> None:
        self._count = plan.sample_count
        self._actions: dict[str, Callable[[], None]] = {}
        self.done: list[str] = []

    def on(self, part: str, action: Callable[[], None]) -> None:
        self._actions[part] = action

    def __call__(self, finished: int) -> None:
        method, more = divmod(finished, self._count)
        part = f"in {method}" if more else f"behind {method}"
        if part in self._actions and part not in self.done:
            self._actions[part]()
            self.done.append(part)


def by_meter(events: list[Event]) -> dict[tuple[str, str], Event]:
    found = [event for event in events if event.stage in MACHINE_STAGES]
    meters = {(event.method, event.client): event for event in found}
    assert len(meters) == len(found)
    return meters


def summary_of(plan: RunPlan, events: list[Event]) -> Summary:
    costs = {"float32": CODEC, "jpeg": LEARNED}
    return summarise(ledger.to_table(events), {"name": "tiny"}, 7, costs, list(costs), 1.0)


def test_each_method_has_the_energy_of_its_own_time(plan: RunPlan, sysfs: Path) -> None:
    package, dram = counter(sysfs, "intel-rapl:0"), counter(sysfs, "intel-rapl:0:0")
    report = Once(plan)
    report.on("behind 0", lambda: spend(package, 0.25))  # while devices start
    report.on("in 0", lambda: (spend(package, 3.0), spend(dram, 0.5)))  # the package begins anew at 0
    report.on("behind 1", lambda: spend(package, 100.0))  # between the methods
    report.on("in 1", lambda: spend(package, 5.0))
    report.on("behind 2", lambda: spend(package, 1000.0))  # while devices end
    processes.run(plan, report, (sysfs,))
    assert report.done == ["behind 0", "in 0", "behind 1", "in 1", "behind 2"]

    events = ledger.read_events(plan.events)
    ledger.check(events, {method.name: set(range(plan.sample_count)) for method in plan.methods})
    found = by_meter(events)
    assert {key: event.joules for key, event in found.items() if event.client.startswith("package-0")} == {
        ("float32", "package-0"): pytest.approx(3.0),
        ("float32", "package-0/dram"): pytest.approx(0.5),
        ("jpeg", "package-0"): pytest.approx(5.0),
        ("jpeg", "package-0/dram"): None,
    }
    assert [found["float32", name].stage for name in ("package-0", "package-0/dram")] == [
        "machine-package",
        "machine-dram",
    ]
    still = found["float32", "package-1"]
    assert (still.joules, still.provenance) == (None, "unavailable")
    assert "stands still" in (still.detail or "")
    measured = found["float32", "package-0"]
    assert (measured.provenance, measured.sample) == ("measured", None)
    assert str(sysfs) in (measured.detail or "")

    # Each window holds all samples of its method, and none of the other.
    for method in plan.methods:
        event = found[method.name, "package-0"]
        totals = [one for one in events if (one.method, one.stage) == (method.name, "total")]
        assert event.start_s <= min(one.start_s for one in totals)
        ended = max(one.start_s + one.duration_s for one in totals)
        assert ended - 0.01 <= event.start_s + event.duration_s <= ended + 2.0
        assert event.rate == totals[0].rate

    rows = {row.method: row for row in summary_of(plan, events).rows}
    of = {reading.meter: reading for reading in rows["jpeg"].machine}
    assert of["package-0"].sample_j == pytest.approx(5.0 / plan.sample_count)
    assert of["package-0"].watts == pytest.approx(5.0 / found["jpeg", "package-0"].duration_s)
    assert (of["package-1"].sample_j, of["package-1"].provenance) == (None, "unavailable")
    assert [row.energy for row in rows.values()] == [None, None]  # it is no energy of devices


def test_a_counter_that_goes_away_is_unavailable_and_the_run_goes_on(plan: RunPlan, sysfs: Path) -> None:
    report = Once(plan)
    report.on("in 0", counter(sysfs, "intel-rapl:0").unlink)
    report.on("in 1", lambda: spend(counter(sysfs, "intel-rapl:1"), 2.0))
    processes.run(plan, report, (sysfs,))
    assert report.done == ["in 0", "in 1"]
    events = ledger.read_events(plan.events)
    ledger.check(events, {method.name: set(range(plan.sample_count)) for method in plan.methods})
    found = by_meter(events)
    for method in plan.methods:
        gone = found[method.name, "package-0"]
        assert (gone.joules, gone.provenance, gone.stage) == (None, "unavailable", "machine-package")
        assert "intel-rapl:0/energy_uj cannot be read" in (gone.detail or "")
    assert found["jpeg", "package-1"].joules == pytest.approx(2.0)


@pytest.mark.skipif(bool(zeus.find().meters), reason="this machine has a meter that is none of its sysfs")
def test_a_machine_without_a_meter_says_why_in_the_summary_alone(plan: RunPlan, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    processes.run(plan, lambda _: None, (empty,))
    events = ledger.read_events(plan.events)
    found = by_meter(events)
    assert set(found) == {("float32", "none"), ("jpeg", "none")}
    for event in found.values():
        assert (event.stage, event.joules, event.provenance) == ("machine", None, "unavailable")
        assert f"no RAPL zone in {empty}" in (event.detail or "")
        assert event.duration_s > 0
    summary = summary_of(plan, events)
    for row in summary.rows:
        (reading,) = row.machine
        assert (reading.meter, reading.what, reading.sample_j, reading.watts) == ("none", None, None, None)
        assert f"no RAPL zone in {empty}" in (reading.detail or "")
    file = io.StringIO()
    print_results(summary, Console(width=120, file=file))
    assert "machine" not in file.getvalue()


def test_an_engine_that_fails_leaves_no_meter_running(plan: RunPlan, sysfs: Path) -> None:
    running: list[int] = []

    def damage(finished: int) -> None:
        if finished and not running:
            running.append(meters_running())
            (plan.methods[1].bundle / "device" / "model.json").unlink()

    with pytest.raises(EngineError, match=r"model\.json"):
        processes.run(plan, damage, (sysfs,))
    assert running == [3]
    assert meters_running() == 0


def meters_running() -> int:
    """Threads that read meters."""
    return sum(thread.name == "energy" for thread in threading.enumerate())
