"""The engine ``virtual``: real payloads, and everything else in virtual time.

::

    test set --inprocess--> payloads, messages, answers          once each, for real
    devices, links, server --fedsim.simulator--> when, and what it costs
                             both --> events/<method>.parquet

A run is a function of its seed, but for the times that this machine is measured for: those of devices and of
a server that nobody names, and those of encoders and decoders that nobody has measured on the named ones
(:mod:`fedsim.simulator.stages`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq

from fedsim.calibration.transport import transport_here
from fedsim.engines import inprocess
from fedsim.engines.plan import DevicePlan, GroupPlan, RunPlan
from fedsim.hardware.transport import Transport
from fedsim.measure import ledger
from fedsim.simulator import stages
from fedsim.simulator.forecast import forecast, transport_said
from fedsim.simulator.material import Material, materials

__all__ = ["run", "transport"]

_MESSAGES = 40  # of each size


def run(plan: RunPlan, report: Callable[[int], None]) -> list[str]:
    """Carry the plan out.

    Args:
        plan: what to run; its ``groups`` are the fleet.
        report: called with the number of samples whose payloads are made, a few times a second.

    Returns:
        what is to be known of the results, in words.

    Raises:
        EngineError: a model and the samples do not fit each other.
        HardwareError: a number that a device does not have.
        SimulationError: more inferences than there is room for.
    """
    plan.events.mkdir(parents=True)
    losses = tuple(dict.fromkeys(group.erasure for group in plan.groups))
    found = {loss: _passed(plan, number, loss, report) for number, loss in enumerate(losses)}
    here = stages.measured(plan.methods, plan.samples, plan.batch_size)
    sends = any(not method.local for method in plan.methods)
    software, said = transport(plan.groups) if sends else (Transport(), [])
    notes = dict.fromkeys(said)
    for method in plan.methods:
        made = [found[group.erasure][method.name] for group in plan.groups]
        told = forecast(plan, method, here[method.name], made, software)
        pq.write_table(told.records, plan.events / f"{method.name}.parquet")  # type: ignore[no-untyped-call]
        notes |= dict.fromkeys(told.notes)
    return list(notes)


def transport(groups: Sequence[GroupPlan]) -> tuple[Transport, list[str]]:
    """What gRPC takes on devices whose files do not say so, as measured on this machine, and a word on it.

    Raises:
        EngineError: the server process that it is measured with does not start.
    """
    silent = [group for group in groups if transport_said(group) is None]
    if not silent:
        return Transport(), []
    found = transport_here(_MESSAGES)
    names = dict.fromkeys("this host" if group.device is None else group.device.name for group in silent)
    return found, [f"gRPC on {', '.join(names)}: {found}, measured on this host"]


def _passed(plan: RunPlan, number: int, loss: float, report: Callable[[int], None]) -> dict[str, Material]:
    """Each sample once through each method."""
    folder = plan.folder / f"pass-{number}"
    device = DevicePlan("host", 1, np.inf, None, erasure=loss, erasure_seed=plan.seed)
    alone = replace(plan, folder=folder, devices=(device,), groups=(), cells={})
    inprocess.run(alone, report if number == 0 else lambda _: None)
    events = ledger.read_events(alone.events)
    for file in alone.events.iterdir():
        file.unlink()
    alone.events.rmdir()
    folder.rmdir()
    return materials(events, plan.sample_count)
