"""One method of a run in virtual time: the fleet of a plan, put together and carried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge.link import LinkSpec
from fedsim.engines.plan import GroupPlan, Method, RunPlan
from fedsim.hardware.battery import Battery
from fedsim.hardware.models import power_of, transport_of
from fedsim.hardware.power import DevicePower
from fedsim.hardware.transport import Transport
from fedsim.simulator.crossing import asleep, crossing, shortest, without_rate
from fedsim.simulator.energy import DeviceJoules, emptied, energy_of
from fedsim.simulator.fleet import ALWAYS_ON, NO_POWER, Cell, Device, Outcome, Server, Work, simulate
from fedsim.simulator.links import Place, placed
from fedsim.simulator.lowpower import remarks
from fedsim.simulator.material import Material
from fedsim.simulator.overhead import reply_frame_bytes
from fedsim.simulator.records import Samples, device_records, records
from fedsim.simulator.stages import HostTimes, device_times, server_times
from fedsim.simulator.workload import Calls, calls, frame_bytes, rows_of

__all__ = ["Forecast", "forecast", "transport_said"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Where nothing lies between a device and the server.
_NO_LINK = LinkSpec()
_AT_ONCE_S = 1e-4  # that a sample waits for a worker that is free


@dataclass(frozen=True)
class Forecast:
    """What comes of a method: lines of the ledger, and what is to be known of them."""

    records: pa.Table
    notes: list[str]


def transport_said(group: GroupPlan) -> Transport | None:
    """What gRPC takes on devices of a group; None where nobody says so. Nothing, where it is not used."""
    if without_rate(group.radio):
        return Transport()
    return None if group.device is None else transport_of(group.device)


def forecast(
    plan: RunPlan,
    method: Method,
    here: HostTimes,
    made: Sequence[Material],
    software: Transport = Transport(),  # noqa: B008  immutable
) -> Forecast:
    """Carry one method of a plan through virtual time.

    Args:
        plan: the run.
        method: one of its methods.
        here: its times on this machine.
        made: what becomes of the samples of the data, by group.
        software: what gRPC takes, of devices whose files do not say so.

    Raises:
        HardwareError: a number that a device does not have.
        SimulationError: more inferences than there is room for.
    """
    return _Forecast(plan, method, here, made, software).found()


class _Forecast:
    def __init__(
        self, plan: RunPlan, method: Method, here: HostTimes, made: Sequence[Material], software: Transport
    ) -> None:
        self._plan, self._method, self._made = plan, method, made
        self._software = [said or software for said in map(transport_said, plan.groups)]
        self._times = [device_times(group.device, here) for group in plan.groups]
        self._server = None if method.local else server_times(plan.server, here)
        self._calls = calls(
            plan.groups,
            plan.sample_count,
            plan.seed,
            plan.duration_s,
            [self._shortest_s(number) for number in range(len(plan.groups))],
        )
        ends = np.cumsum([len(one.numbers) for one in self._calls])
        numbers = np.concatenate([one.numbers for one in self._calls])
        self._rows = np.split(rows_of(numbers, plan.sample_count, plan.seed), ends[:-1])

    def found(self) -> Forecast:
        cells, places = self._cells()
        devices, samples = [], []
        for number, (call, rows, place) in enumerate(zip(self._calls, self._rows, places, strict=True)):
            device, sent = self._device(number, call, rows, place)
            devices.append(device)
            samples.append(sent)
        outcome = simulate(cells, self._tail_server(), devices)
        until_s = self._until_s(outcome)
        outcome = emptied(outcome, until_s)
        joules = self._joules(outcome, until_s)
        table = pa.concat_tables(
            [
                records(
                    outcome,
                    _joined(samples),
                    run=self._plan.run,
                    method=self._method.name,
                    clients=[call.client for call in self._calls],
                    rate=self._made[0].rate,
                    joules=joules,
                    local=self._method.local,
                ),
                device_records(
                    outcome,
                    joules,
                    run=self._plan.run,
                    method=self._method.name,
                    clients=[call.client for call in self._calls],
                    rate=self._made[0].rate,
                ),
            ]
        )
        return Forecast(table, list(self._notes(outcome, samples)))

    # --- parts ------------------------------------------------------------------------------

    def _shortest_s(self, number: int) -> tuple[float, float]:
        """What a sample of a group takes at least, and what of that no other of the device can use."""
        group, times, made = self._plan.groups[number], self._times[number], self._made[number]
        computed_s = times.head_s + (times.encode_s or 0.0)
        smallest = int(made.frame_bytes.min(initial=0 if self._server is None else 2**62))
        if not 0 < smallest < 2**62:
            return computed_s, computed_s
        sent_s, alone_s = shortest(self._spec(group), group.radio, smallest)
        return computed_s + min(sent_s, group.deadline_s), max(computed_s, alone_s)

    def _spec(self, group: GroupPlan) -> LinkSpec:
        return _NO_LINK if group.cell is None else self._plan.cells[group.cell]

    def _cells(self) -> tuple[list[Cell], list[Place]]:
        """The media, and where each device is; first of all one that takes no time."""
        cells, places = [Cell()], [Place(0, 0)] * len(self._calls)
        if self._method.local:
            return cells, places
        groups = [self._plan.groups[call.group] for call in self._calls]
        for name, spec in self._plan.cells.items():
            mine = [
                number
                for number, group in enumerate(groups)
                if group.cell == name and not without_rate(group.radio)
            ]
            found, where = placed([(spec, len(mine))])
            for number, place in zip(mine, where, strict=True):
                places[number] = Place(len(cells) + place.up, len(cells) + place.down)
            cells += found
        return cells, places

    def _tail_server(self) -> Server:
        if self._server is None:
            return Server(workers=len(self._calls))
        serving = self._server.serving
        return Server(
            self._plan.workers,
            self._plan.batch_size,
            1e-3 * self._plan.batch_wait_ms,
            serving.fixed_s,
            serving.each_s,
        )

    def _device(self, number: int, call: Calls, rows: Ints, place: Place) -> tuple[Device, Samples]:
        """A device with its work, and what the work is of."""
        group, made = self._plan.groups[call.group], self._made[call.group]
        times, spec = self._times[call.group], self._spec(group)
        generator = np.random.default_rng([self._plan.seed, number, 3])
        framed = frame_bytes(call.numbers, rows, made.frame_bytes[rows])
        known: dict[str, Floats | Ints] = {}
        computed = times.head_s + (times.encode_s or 0.0)
        paged = generator.random(len(rows))
        sent = (framed > 0) & (self._server is not None)
        work = Work(call.at_s, call.paused, computed, paged=paged, sent=sent)
        radio, decode = asleep(group.radio), 0.0
        if self._server is not None:
            decode = self._server.decode
            crossed = crossing(
                work,
                spec,
                group.radio,
                framed,
                self._replies(call, made.predictions[rows]),
                generator,
                server_s=self._server.serving.seconds(1),
                in_flight=group.in_flight,
                deadline_s=group.deadline_s,
                software=self._software[call.group],
            )
            work, radio = crossed.work, crossed.radio
            known = {
                "ideal_bits": made.ideal_bits[rows],
                "payload_bytes": made.payload_bytes[rows],
                "frame_bytes": framed,
                "wire_bytes": crossed.wire_bytes,
                "reply_wire_bytes": crossed.reply_wire_bytes,
            }
        device = Device(
            work,
            place.up,
            place.down,
            group.in_flight,
            np.inf if self._method.local else group.deadline_s,
            radio,
            NO_POWER if group.device is None else _power(group),
            None if group.battery_j is None else Battery(group.battery_j),
            np.inf if self._plan.duration_s is None else self._plan.duration_s,
        )
        return device, Samples(
            call.numbers,
            np.full(len(rows), times.head_s),
            np.full(len(rows), decode),
            made.labels[rows],
            made.predictions[rows],
            known,
            made.failed[rows],
        )

    def _replies(self, call: Calls, predictions: Ints) -> Ints:
        """Bytes of the answers, as if each sample were alone at the server."""
        assert self._server is not None
        served_s, decode = self._server.serving.seconds(1), self._server.decode
        return reply_frame_bytes(
            call.numbers,
            np.maximum(predictions, 0),
            queue_s=1e-3 * self._plan.batch_wait_ms if self._plan.batch_size > 1 else _AT_ONCE_S,
            decode_s=decode * served_s,
            tail_s=(1 - decode) * served_s,
        )

    def _until_s(self, outcome: Outcome) -> float:
        """Until when energy counts: the end of the fleet's time or, without one, of its last radio's tail."""
        if self._plan.duration_s is not None:
            return max(outcome.ended_s, self._plan.duration_s)
        tails = [device.radio.tail_s for device in outcome.devices if device.radio is not ALWAYS_ON]
        return outcome.ended_s + max(tails, default=0.0)

    def _joules(self, outcome: Outcome, until_s: float) -> list[DeviceJoules | None]:
        """Of each device that is named, until then or until its battery is empty."""
        return [
            None
            if self._plan.groups[call.group].device is None
            else replace(
                energy_of(outcome, number, outcome.lives_until(number, until_s)),
                powered=_powered(self._plan.groups[call.group]),
                heard=_heard(self._plan.groups[call.group]),
            )
            for number, call in enumerate(self._calls)
        ]

    def _notes(self, outcome: Outcome, samples: Sequence[Samples]) -> Iterator[str]:
        name = self._method.name
        for number, (group, times) in enumerate(zip(self._plan.groups, self._times, strict=True)):
            mine = [place for place, call in enumerate(self._calls) if call.group == number]
            if group.device is not None:
                yield f"{name} on {group.device.name}: {times}"
                if not _powered(group):
                    yield f"the powers of {group.device.name} are not known: its joules are unavailable"
                elif not _heard(group):
                    yield f"the radio of group {number} is not known: its joules are unavailable"
            if not self._method.local and without_rate(group.radio):
                sizes = np.concatenate([samples[place].sent["frame_bytes"] for place in mine])
                for said in remarks(group.radio, sizes, _period_s([self._calls[place] for place in mine])):
                    yield f"{name}: {said}"
            empty = outcome.empty_s[mine]
            if dead := int(np.isfinite(empty).sum()):
                yield (
                    f"{name}: {dead} of {len(mine)} devices of group {number} emptied their batteries, "
                    f"the first of them {np.nanmin(empty):,.0f} s into the run"
                )
        timed = np.repeat(
            [not call.paused for call in self._calls], [len(one.numbers) for one in self._calls]
        )
        if left := int(np.isnan(outcome.at("started")[timed]).sum()):
            yield f"{name}: {left:,} of {int(timed.sum()):,} samples were due and never begun"


def _period_s(devices: Sequence[Calls]) -> float | None:
    """From one sample of a device to the next, in the mean; None where answers set the pace."""
    if any(call.paused for call in devices):
        return None
    spans = [call.at_s[-1] - call.at_s[0] for call in devices if len(call.at_s)]
    gaps = sum(len(call.at_s) - 1 for call in devices if len(call.at_s))
    return sum(spans) / gaps if gaps else np.inf


def _power(group: GroupPlan) -> DevicePower:
    assert group.device is not None
    return NO_POWER if group.device.power is None else power_of(group.device)


def _powered(group: GroupPlan) -> bool:
    """Whether the powers of the devices are known."""
    return group.device is not None and group.device.power is not None


def _heard(group: GroupPlan) -> bool:
    """Whether the radio is known, where there is one."""
    return group.cell is None or group.radio is not None


def _joined(parts: Sequence[Samples]) -> Samples:
    """The samples of all devices, one after the other."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    sent = {name: np.concatenate([part.sent[name] for part in parts]) for name in parts[0].sent}
    return Samples(
        joined("numbers"),
        joined("head_s"),
        joined("decode_share"),
        joined("labels"),
        joined("predictions"),
        sent,
        joined("failed"),
    )
