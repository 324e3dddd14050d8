"""A fleet as it is described, and its way through virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.link.trace import Trace
from fedsim.errors import SimulationError
from fedsim.hardware.battery import Battery
from fedsim.hardware.power import DevicePower
from fedsim.hardware.radio import RadioModel
from fedsim.simulator import kernel

__all__ = [
    "ALWAYS_ON",
    "NO_POWER",
    "Cell",
    "Device",
    "Outcome",
    "Round",
    "Server",
    "Sharing",
    "Work",
    "simulate",
]

Floats = NDArray[np.float64]
Sharing = Literal["processor", "fifo", "slotted"]

_KINDS: dict[Sharing, int] = {
    "processor": kernel.PROCESSOR_SHARING,
    "fifo": kernel.FIFO,
    "slotted": kernel.SLOTTED,
}
_ENDLESS = 1e18  # seconds
#: State of a device, where it does not begin with 0.
_AT_FIRST = {
    **dict.fromkeys(("up_first", "up_last", "down_first", "down_last"), -1),
    **dict.fromkeys(("woken", "patience"), np.inf),
    **dict.fromkeys(("rested", "awake", "up_latest", "down_latest"), -np.inf),
    "empty_s": np.nan,
}
#: Fields of a job that a device's work says.
_WORK = ("at", "compute_s", "up_bits", "up_delay_s", "down_bits", "down_delay_s", "paged")


@dataclass(frozen=True)
class Cell:
    """A medium in one direction, or in both: what devices share, or what one has alone.

    Args:
        rate: bits a second, or a trace of them; infinite for a medium that takes no time.
        sharing: among the transfers of one moment, in the words of :data:`edge.link.spec.Sharing`:
            ``processor`` gives each an equal part, ``fifo`` carries one behind the other, ``slotted`` is the
            former with what contention loses to collisions.
    """

    rate: float | Trace = np.inf
    sharing: Sharing = "processor"

    def __post_init__(self) -> None:
        if self.sharing not in _KINDS:
            raise SimulationError(f"cell: sharing is {self.sharing!r}, allowed are {', '.join(_KINDS)}")
        if not isinstance(self.rate, Trace) and not self.rate > 0:
            raise SimulationError(f"cell: rate is {self.rate!r}, allowed is a number, more than 0")


@dataclass(frozen=True)
class Server:
    """The tail server.

    Args:
        workers: batches that it works on at once.
        batch: samples at which it closes a batch.
        wait_s: seconds after which it closes one that is not full.
        fixed_s: seconds that a batch takes, whatever is in it.
        each_s: seconds that each of its samples takes.
    """

    workers: int = 1
    batch: int = 1
    wait_s: float = 0.0
    fixed_s: float = 0.0
    each_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.workers, self.batch) < 1 or min(self.wait_s, self.fixed_s, self.each_s) < 0:
            raise SimulationError(f"server: {self} has no worker, no place in a batch, or a time below 0")


@dataclass(frozen=True)
class Work:
    """The samples of one device. Each is a number that all have, or an array [samples].

    Args:
        at_s: array [samples] of times at which they are due, in order, or of the pauses ahead of each.
        paused: whether they are pauses.
        compute_s: seconds of the device's processor.
        up_bits: on the wire.
        down_bits: on the wire.
        up_delay_s: from the last bit's departure to its arrival.
        down_delay_s: the same of the answer.
        paged: how long the device does not listen before it hears of an answer, as a share of the period at
            which its radio listens, idle or in its tail.
        sent: whether anything is sent; else the sample is over when it is computed.
    """

    at_s: Floats
    paused: bool = False
    compute_s: float | Floats = 0.0
    up_bits: float | Floats = 0.0
    down_bits: float | Floats = 0.0
    up_delay_s: float | Floats = 0.0
    down_delay_s: float | Floats = 0.0
    paged: float | Floats = 0.5
    sent: bool | NDArray[np.bool_] = True


#: A radio that never sleeps, and costs nothing.
ALWAYS_ON = RadioModel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, tail=((_ENDLESS, 0.0),))
#: Of a device whose energy nobody asks for.
NO_POWER = DevicePower(0.0, 0.0)


@dataclass(frozen=True)
class Device:
    """One device.

    Args:
        work: its samples.
        up: number of its uplink's cell.
        down: number of its downlink's; the same where both directions share a medium.
        in_flight: most samples without an answer.
        deadline_s: that it waits for an answer, from when the sample is computed. One that comes later comes
            for nobody, and the sample has ended without it.
        radio: of at most three phases of a tail.
        power: of the device without its radio.
        battery: what it lives on; None for a supply that does not end. The device finds it empty when it is
            to begin something, and begins nothing from then on.
        until_s: when it goes for good; it begins nothing from then on.
    """

    work: Work
    up: int
    down: int
    in_flight: int = 1
    deadline_s: float = np.inf
    radio: RadioModel = ALWAYS_ON
    power: DevicePower = NO_POWER
    battery: Battery | None = None
    until_s: float = np.inf


@dataclass(frozen=True)
class Round:
    """A federated round: what goes down to each device of its cohort, what they do, what comes up.

    Args:
        devices: numbers, [n].
        down_bits: on the wire, [n].
        compute_s: seconds of each one's processor, [n].
        up_bits: on the wire, [n].
        delay_s: one way, [n].
        merge_s: that the server takes behind the last reply.
        deadline_s: after which it goes on without the others.
    """

    devices: NDArray[np.int64]
    down_bits: Floats
    compute_s: Floats
    up_bits: Floats
    delay_s: Floats
    merge_s: float = 0.0
    deadline_s: float = np.inf


@dataclass(frozen=True)
class Outcome:
    """When everything happened.

    Args:
        devices: of the fleet.
        jobs: records [jobs] of :data:`fedsim.simulator.kernel.JOB`: samples first, device by device in their
            order, then the rounds' replies, round by round.
        empty_s: when each device found its battery empty, [devices]; NaN for never. Of one that had nothing
            more to begin, nobody looked: see :func:`fedsim.simulator.energy.emptied`.
        events: how many the loop handled.
    """

    devices: tuple[Device, ...]
    jobs: NDArray[np.void]
    empty_s: Floats
    events: int

    @property
    def deadline_s(self) -> Floats:
        """That each device waits for an answer, [devices]."""
        return np.array([device.deadline_s for device in self.devices])

    @property
    def device(self) -> NDArray[np.int64]:
        """Whose each job is, [jobs]."""
        return self.jobs["device"]

    @property
    def round(self) -> NDArray[np.int64]:
        """Of which round each job is, [jobs]; -1 of a sample."""
        return self.jobs["turn"]

    @property
    def times(self) -> Floats:
        """[jobs, len(kernel.COLUMNS)] seconds."""
        return np.stack([self.jobs[name] for name in kernel.COLUMNS], 1)

    def jobs_of(self, device: int) -> NDArray[np.void]:
        """Those of one device, in their order."""
        found: NDArray[np.void] = self.jobs[self.places_of(device)]
        return found

    def places_of(self, device: int) -> NDArray[np.int64]:
        """Where the jobs of one device stand among all."""
        order, first = self._by_device
        return order[first[device] : first[device + 1]]

    @cached_property
    def _by_device(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The jobs sorted by their devices, and where each device's begin."""
        order = np.argsort(self.device, kind="stable")
        return order, np.searchsorted(self.device[order], np.arange(len(self.devices) + 1))

    @property
    def ended_s(self) -> float:
        """When the last thing happened; 0 where nothing did."""
        latest = (
            np.nanmax(self.jobs[name], initial=0.0) for name in ("computed", "up_done", "down_done", "ended")
        )
        return float(max(latest))

    def lives_until(self, device: int, ended_s: float) -> float:
        """When one device's battery was empty and what it had begun was over; ``ended_s`` if it never was."""
        if np.isnan(self.empty_s[device]):
            return ended_s
        jobs = self.jobs_of(device)
        latest = max(np.nanmax(jobs[name], initial=0.0) for name in ("computed", "up_done", "down_done"))
        return float(max(self.empty_s[device], latest))

    def at(self, column: str) -> Floats:
        """When each job came to one of :data:`fedsim.simulator.kernel.COLUMNS`, [jobs]; NaN for never."""
        return self.jobs[column]

    def took(self, begin: str, end: str) -> Floats:
        """Seconds from one to another, [jobs]."""
        return self.at(end) - self.at(begin)

    @property
    def of_samples(self) -> NDArray[np.bool_]:
        """Which jobs are samples, [jobs]."""
        chosen: NDArray[np.bool_] = self.round < 0
        return chosen


def simulate(
    cells: Sequence[Cell],
    server: Server,
    devices: Sequence[Device],
    rounds: Sequence[Round] = (),
    rounds_start_s: float = 0.0,
) -> Outcome:
    """Carry a fleet's work out in virtual time.

    Raises:
        SimulationError: arrays that do not fit together, a cell that there is not, a number out of bounds.
    """
    _check(cells, devices, rounds)
    lengths = [len(device.work.at_s) for device in devices]
    cohorts = [np.asarray(one.devices, np.int64) for one in rounds]
    jobs = _records(kernel.JOB, sum(lengths) + sum(map(len, cohorts)))
    for name in kernel.COLUMNS:
        jobs[name] = np.nan
    jobs["turn"] = -1
    fleet, at = _records(kernel.DEVICE, len(devices)), 0
    for number, (device, length) in enumerate(zip(devices, lengths, strict=True)):
        mine = jobs[at : at + length]
        mine["device"] = number
        _put_work(number, device.work, mine)
        for name, value in _fields_of(device).items():
            fleet[number][name] = value
        fleet[number]["first"], fleet[number]["last"] = at, at + length
        at += length
    jobs["behind"] = -1
    fleet["coming"] = fleet["oldest"] = fleet["first"]
    for name, value in _AT_FIRST.items():
        fleet[name] = value
    turns = _records(kernel.TURN, len(rounds))
    for number, one in enumerate(rounds):
        replies = jobs[at : at + len(cohorts[number])]
        replies["kind"], replies["turn"], replies["device"] = kernel.ROUND, number, cohorts[number]
        _put_round(number, one, replies)
        turns[number]["first"], turns[number]["last"] = at, at + len(replies)
        turns[number]["merge_s"], turns[number]["deadline_s"] = one.merge_s, one.deadline_s
        at += len(replies)
    tail = _records(kernel.SERVER, 1)
    for name in ("workers", "batch", "wait_s", "fixed_s", "each_s"):
        tail[name] = getattr(server, name)
    tail["rounds_s"], tail["timer"] = rounds_start_s, np.inf
    media, pieces, most = _media(cells, fleet, jobs["device"][sum(lengths) :])
    kernel.simulate(kernel.World(fleet, media, pieces, _records(kernel.WAITING, most), jobs, tail, turns))
    return Outcome(tuple(devices), jobs, fleet["empty_s"], int(tail["events"][0]))


def _records(dtype: np.dtype[np.void], count: int) -> NDArray[np.void]:
    return np.zeros(count, dtype)


def _fields_of(device: Device) -> dict[str, float]:
    """As the event loop knows it: powers above that of a device at rest whose radio sleeps."""
    radio, power = device.radio, device.power
    phases = [*radio.tail, (0.0, radio.idle_w), (0.0, radio.idle_w), (0.0, radio.idle_w)]
    fields = {
        "up": device.up,
        "down": device.down,
        "in_flight": device.in_flight,
        "paused": device.work.paused,
        "promotion_s": radio.promotion_s,
        "tail_s": radio.tail_s,
        "paging_s": radio.idle_drx_s,
        "drx_s": radio.drx_s,
        "drx_after_s": radio.drx_after_s,
        "deadline_s": device.deadline_s,
        "until_s": device.until_s,
        "capacity_j": np.inf if device.battery is None else device.battery.joules,
        "rest_w": power.base_w + radio.idle_w,
        "compute_w": power.active_w - power.base_w,
        "promotion_w": radio.promotion_w - radio.idle_w,
        "up_w": radio.active_w - radio.idle_w,
        "down_w": radio.receiving_w - radio.idle_w,
        "up_j": radio.up_w_per_bps,
        "down_j": radio.down_w_per_bps,
    }
    for name, (seconds, watts) in zip(("first", "second", "third"), phases, strict=False):
        fields |= {f"{name}_s": seconds, f"{name}_w": watts - radio.idle_w}
    return fields


def _put_work(number: int, work: Work, jobs: NDArray[np.void]) -> None:
    for name in _WORK:
        value = np.asarray(getattr(work, f"{name}_s" if name == "at" else name), np.float64)
        if value.shape not in ((), jobs.shape):
            allowed = f"allowed are a number and {list(jobs.shape)}"
            raise SimulationError(f"device {number}: {name} has the shape {list(value.shape)}; {allowed}")
        if not bool((np.isfinite(value) & (value >= 0)).all()):
            worst = value.flat[np.argmin(np.isfinite(value) & (value >= 0))]
            raise SimulationError(f"device {number}: {name} of a sample is {worst:g}, allowed is 0 and more")
        jobs[name] = value
    jobs["silent"] = ~np.asarray(work.sent, bool)
    if not work.paused and (np.diff(jobs["at"]) < 0).any():
        raise SimulationError(f"device {number}: its samples are not in the order of their times")


def _put_round(number: int, one: Round, jobs: NDArray[np.void]) -> None:
    jobs["paged"] = 0.5
    columns = {"compute_s": "compute_s", "up_bits": "up_bits", "down_bits": "down_bits"}
    for name, source in {**columns, "up_delay_s": "delay_s", "down_delay_s": "delay_s"}.items():
        value = np.asarray(getattr(one, source), np.float64)
        if value.shape not in ((), jobs.shape) or not bool((np.isfinite(value) & (value >= 0)).all()):
            allowed = f"allowed are a number and {list(jobs.shape)}, each 0 or more"
            raise SimulationError(f"round {number}: {source} does not fit; {allowed}")
        jobs[name] = value


def _media(
    cells: Sequence[Cell], fleet: NDArray[np.void], in_rounds: NDArray[np.int64]
) -> tuple[NDArray[np.void], NDArray[np.void], int]:
    """The cells, the pieces of their traces, and the most transfers that all may have at once."""
    media = _records(kernel.CELL, len(cells))
    most = np.zeros(len(cells), np.int64)
    turns = np.bincount(in_rounds, minlength=len(fleet))
    for name in ("up", "down"):
        np.add.at(most, fleet[name], fleet["in_flight"] + turns)
    media["room"] = np.cumsum(most) - most
    pieces: list[NDArray[np.void]] = [_records(kernel.PIECE, 0)]
    at = 0
    for medium, cell in zip(media, cells, strict=True):
        medium["kind"] = _KINDS[cell.sharing]
        medium["low"] = at
        if isinstance(cell.rate, Trace):
            found = _records(kernel.PIECE, len(cell.rate.times_s))
            found["at"], found["speed"] = cell.rate.times_s, cell.rate.bits_per_s
            found["bits"][1:] = np.cumsum(found["speed"][:-1] * np.diff(found["at"]))
            medium["period"] = cell.rate.duration_s if cell.rate.repeat else _ENDLESS
            pieces.append(found)
            at += len(found)
        else:
            medium["rate"] = cell.rate
        medium["high"] = at
    return media, np.concatenate(pieces), int(most.sum())


def _check(cells: Sequence[Cell], devices: Sequence[Device], rounds: Sequence[Round]) -> None:
    if not devices:
        raise SimulationError("a fleet without a device")
    for number, device in enumerate(devices):
        for name in ("up", "down"):
            if not 0 <= getattr(device, name) < len(cells):
                raise SimulationError(
                    f"device {number}: {name} is cell {getattr(device, name)}, and there are {len(cells)}"
                )
        if device.in_flight < 1:
            raise SimulationError(f"device {number}: in_flight is {device.in_flight}, allowed is 1 and more")
        if not device.deadline_s > 0:
            allowed = "allowed is a number, more than 0"
            raise SimulationError(f"device {number}: deadline_s is {device.deadline_s}, {allowed}")
        if not device.until_s >= 0:
            raise SimulationError(f"device {number}: until_s is {device.until_s}, allowed is 0 and more")
        if len(device.radio.tail) > 3:
            phases = len(device.radio.tail)
            raise SimulationError(f"device {number}: its radio's tail has {phases} phases, allowed are 3")
    for number, one in enumerate(rounds):
        chosen = np.asarray(one.devices)
        if len(np.unique(chosen)) < len(chosen) or ((chosen < 0) | (chosen >= len(devices))).any():
            raise SimulationError(
                f"round {number}: its devices are not {len(devices)} different ones at most"
            )
