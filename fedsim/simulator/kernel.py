"""The event loop: what happens to every job of a fleet, in virtual time.

A job of an inference goes ::

    device's processor -> (radio wakes) -> uplink -> server: batch, worker -> downlink -> answered

and a job of a federated round the other way about: downlink -> processor -> uplink -> merged.

All functions that are compiled stand in this one file: numba's cache looks at the file of a function, and not
at what it calls in others. Times are seconds, sizes are bits, everything is float64, and nothing is drawn
here, so that a run is a function of its arrays.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np
from numba import njit

__all__ = [
    "CELL",
    "COLUMNS",
    "DEVICE",
    "FIFO",
    "INFERENCE",
    "JOB",
    "PIECE",
    "PROCESSOR_SHARING",
    "ROUND",
    "SERVER",
    "SLOTTED",
    "TURN",
    "WAITING",
    "World",
    "simulate",
]

#: Kinds of jobs.
INFERENCE, ROUND = 0, 1
#: How a cell is shared.
PROCESSOR_SHARING, FIFO, SLOTTED = 0, 1, 2
#: What is known of a job behind a run: when it came to each of these, NaN for where it never came.
COLUMNS = (
    "due",  # its arrival, or the end of the device's pause
    "started",  # the processor begins
    "computed",  # the processor is done
    "up_begun",  # its bits begin to flow: the radio is awake, and the link has come to it
    "up_done",  # the last bit is on its way
    "arrived",  # at the server
    "served",  # a worker begins
    "done",  # the worker is done
    "down_begun",
    "down_done",
    "ended",  # the answer is there, or nobody waits for it any more; of a round, the reply is merged
)

# Kinds of events, and what the number with each stands for.
_WAKE = 0  # a device may have something to do
_COMPUTED = 1  # the processor is done with a job
_UPLINK = 2  # a job may enter the uplink: the radio is awake
_CELL = 3  # the first transfer of a shared cell is through, if nothing has changed since
_UPLOADED = 4  # a job is through the uplink
_ARRIVED = 5  # a job is at the server
_TIMER = 6  # a batch has waited long enough
_DONE = 7  # a worker is done with the batch at a place of the queue
_DOWNLINK = 8  # a job may enter the downlink
_DOWNLOADED = 9  # a job is through the downlink
_REACHED = 10  # a job is at its device
_ROUND = 11  # a round begins
_DEADLINE = 12  # a round has waited long enough
_UP_FLOWS = 13  # the turn of a job has come on an uplink that carries one behind the other
_DOWN_FLOWS = 14  # the same on a downlink
_PATIENCE = 15  # a device has waited long enough for the oldest of its answers


def _record(whole: str, real: str) -> np.dtype[np.void]:
    """A record of whole numbers and of real ones."""
    return np.dtype([(name, "i8") for name in whole.split()] + [(name, "f8") for name in real.split()])


#: A device. ``first`` and ``last`` are its jobs, of which the latter is not one any more; ``at`` of them is a
#: pause behind the answer where ``paused``, else a time. Its radio takes ``promotion_s`` to wake, stays awake
#: for ``tail_s`` behind a transfer, and hears of what is there for it late: ``paging_s`` at most when it
#: sleeps, ``drx_s`` in its tail, from ``drx_after_s`` on. It waits ``deadline_s`` for an answer. It begins
#: nothing from ``until_s`` on, nor with an empty battery of ``capacity_j``. It draws ``rest_w`` all the time,
#: and more when it computes, wakes its radio, sends, receives, for each bit, and in three phases of a tail.
#: State: its next job, the oldest that is not over, jobs without an answer; bits that flow up and down,
#: transfers whose turn has not come; the first and the last message that its connection has on the link, up
#: and down; its next wake-up, its next look at what is overdue, from when on a pause counts, until when the
#: processor works, since when the radio rests, when it is awake that was called last, since when flows are as
#: they are, when its latest message is at the server, and the latest answer at the device, what the device
#: has used above rest; when it was found empty.
DEVICE = _record(
    "first last in_flight paused up down coming oldest pending ups downs queued "
    "up_first up_last down_first down_last",
    "promotion_s tail_s paging_s drx_s drx_after_s deadline_s until_s capacity_j "
    "rest_w compute_w promotion_w up_w down_w up_j down_j first_s first_w second_s second_w third_s third_w "
    "woken patience eligible busy rested awake changed up_latest down_latest used_j empty_s",
)
#: A medium that devices share, or that one has alone, of ``rate`` bits a second, or of the pieces ``low`` to
#: ``high`` of a trace that begins anew after ``period`` seconds. Its transfers are kept from ``room`` on.
#: State: transfers, changes so far; the virtual time (bits that each transfer has had), when that was brought
#: up to date, when the last transfer is through where one goes behind the other.
CELL = _record("kind low high room size version", "rate period clock seen free")
#: A piece of a trace: when it begins, bits that flow ahead of it, bits a second in it.
PIECE = _record("", "at bits speed")
#: A transfer in a shared cell: its job, and the virtual time at which it is through.
WAITING = _record("job", "tag")
#: The tail server: a batch of n takes ``fixed_s + n * each_s`` seconds. State: places of its queue, batches
#: that are worked on, round; when the next timer rings.
SERVER = _record("workers batch head tail working turn events", "wait_s fixed_s each_s rounds_s timer")
#: A sample or a reply, those of samples first, ordered by device. ``paged`` is the share of the paging time
#: that it waits for; of a ``silent`` one nothing is sent. State: :data:`COLUMNS`; the next message of its
#: connection; whether its answer was ``missed``; and for a place of the server's queue which job is there and
#: how large the batch is that begins with it.
JOB = _record(
    "kind device turn silent behind missed queued batch",
    " ".join(("at compute_s up_bits up_delay_s down_bits down_delay_s paged", *COLUMNS)),
)
#: A federated round: its jobs, and how many it waits for; what the server takes behind the last one, and the
#: time after which it goes on without them.
TURN = _record("first last left", "merge_s deadline_s")


class World(NamedTuple):
    """All there is: arrays of the records above, which say what they stand for, and where they stand."""

    devices: Any  #: [devices]
    cells: Any  #: [cells]
    pieces: Any  #: of all traces
    waiting: Any  #: as many as there may be transfers at once in all cells
    jobs: Any  #: [jobs]
    server: Any  #: [1]
    turns: Any  #: [rounds]


#: Events to come, a heap of (when, number, kind, subject).
Events = Any

_compiled = njit(cache=True, error_model="numpy")
_inlined = njit(cache=True, error_model="numpy", inline="always")


@_inlined
def _before(tag: float, job: int, other: Any) -> bool:
    """Whether a transfer is through ahead of another; of equal ones, the earlier job."""
    return bool(tag < other.tag or (tag == other.tag and job < other.job))


@_compiled
def _push(waiting: Any, low: int, size: int, tag: float, job: int) -> None:
    """Into the binary heap at ``low``, of ``size`` entries so far."""
    child = size
    while child > 0:
        parent = (child - 1) // 2
        if not _before(tag, job, waiting[low + parent]):
            break
        waiting[low + child] = waiting[low + parent]
        child = parent
    waiting[low + child].tag, waiting[low + child].job = tag, job


@_compiled
def _pop(waiting: Any, low: int, size: int) -> int:
    """The first job, taken out of the binary heap at ``low``, of ``size`` entries so far."""
    first = waiting[low].job
    last = size - 1
    tag, job = waiting[low + last].tag, waiting[low + last].job
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= last:
            break
        right = waiting[low + child + 1] if child + 1 < last else waiting[low + child]
        if _before(right.tag, right.job, waiting[low + child]):
            child += 1
        if _before(tag, job, waiting[low + child]):
            break
        waiting[low + parent] = waiting[low + child]
        parent = child
    waiting[low + parent].tag, waiting[low + parent].job = tag, job
    return first  # type: ignore[no-any-return]


@_compiled
def _flowed(pieces: Any, cell: Any, time: float) -> float:
    """Bits that a traced cell carries from 0 until ``time``."""
    turns = np.floor(time / cell.period)
    rest = time - turns * cell.period
    last = pieces[cell.high - 1]
    whole = last.bits + last.speed * (cell.period - last.at)
    low, high = cell.low, cell.high
    while high - low > 1:
        middle = (low + high) // 2
        if pieces[middle].at <= rest:
            low = middle
        else:
            high = middle
    piece = pieces[low]
    return turns * whole + piece.bits + piece.speed * (rest - piece.at)  # type: ignore[no-any-return]


@_compiled
def _finish(pieces: Any, cell: Any, start: float, bits: float) -> float:
    """When a cell that begins at ``start`` has carried so many bits, as :class:`edge.link.trace.Trace`."""
    if cell.low == cell.high:
        return start + bits / cell.rate  # type: ignore[no-any-return]
    if bits <= 0.0:
        return start
    last = pieces[cell.high - 1]
    whole = last.bits + last.speed * (cell.period - last.at)
    goal = _flowed(pieces, cell, start) + bits
    turns = np.ceil(goal / whole) - 1.0
    rest = min(max(goal - turns * whole, 0.0), whole)
    low, high = cell.low, cell.high - 1  # the first piece at whose end so much has flowed
    while low < high:
        middle = (low + high) // 2
        if pieces[middle + 1].bits < rest:
            low = middle + 1
        else:
            high = middle
    piece = pieces[low]
    within = piece.at
    if piece.speed > 0.0:  # else the rest was rounded to nothing
        within += (rest - piece.bits) / piece.speed
    return float(max(start, turns * cell.period + within))


@_inlined
def _share(kind: int, transfers: int) -> float:
    """Part of a cell's rate that each of its transfers has.

    Slotted contention as :func:`edge.link.spec.slotted_efficiency` has it: of n that contend, one alone gets
    through in (1 - 1/n)^(n-1) of the slots.
    """
    if kind == SLOTTED and transfers > 1:
        return float((1.0 - 1.0 / transfers) ** (transfers - 1) / transfers)
    return 1.0 / transfers


@_inlined
def _later(world: World, events: Events, at: float, kind: int, subject: int) -> None:
    """An event to come; of those at one time, what was foreseen first happens first."""
    server = world.server[0]
    heapq.heappush(events, (at, server.events, np.int64(kind), np.int64(subject)))
    server.events += 1


@_compiled
def _begin(world: World, events: Events, number: int, now: float) -> None:
    """Let a device begin its next sample, if there is one and it may, or wake up for it."""
    device = world.devices[number]
    if device.coming == device.last or device.pending == device.in_flight or _gone(device, now):
        return
    due = world.jobs[device.coming].at
    if device.paused:
        due += device.eligible
    start = max(due, device.busy)
    if start > now:
        if start != device.woken:
            device.woken = start
            _later(world, events, start, _WAKE, number)
        return
    world.jobs[device.coming].due = due
    _compute(world, events, device.coming, now)
    device.coming += 1
    device.pending += 1


@_inlined
def _compute(world: World, events: Events, number: int, now: float) -> None:
    """The processor takes a job, when it is done with what it has."""
    job = world.jobs[number]
    device = world.devices[job.device]
    job.started = max(now, device.busy)
    device.busy = job.started + job.compute_s
    _later(world, events, device.busy, _COMPUTED, number)


@_inlined
def _tail_j(device: Any, silent_s: float) -> float:
    """What a tail has used that has lasted so long; nothing where there was no transfer."""
    if silent_s == np.inf:
        return 0.0
    first = min(silent_s, device.first_s)
    second = min(silent_s - first, device.second_s)
    third = min(silent_s - first - second, device.third_s)
    return float(first * device.first_w + second * device.second_w + third * device.third_w)


@_inlined
def _radio_j(device: Any, now: float) -> float:
    """What the radio has used since its flows are as they are, without their bits."""
    if device.ups + device.downs == 0:
        return float(_tail_j(device, now - device.rested))
    watts = device.up_w if device.ups > 0 else 0.0
    if device.downs > 0:
        watts = max(watts, device.down_w)
    return float(watts * (now - device.changed))


@_compiled
def _gone(device: Any, now: float) -> bool:
    """Whether a device begins nothing any more: its time is over, or its battery is empty."""
    if now >= device.until_s:
        return True
    if device.capacity_j == np.inf:
        return False
    if device.rest_w * now + device.used_j + _radio_j(device, now) < device.capacity_j:
        return False
    device.until_s, device.empty_s = now, now
    return True


@_inlined
def _called(device: Any, now: float, share: float) -> float:
    """When a radio is awake that is called now, which takes the server a share of its listening period."""
    busy = device.ups + device.downs + device.queued
    if busy == 0 and device.awake < now:
        silent_s = now - device.rested
        if silent_s > device.tail_s:
            device.awake = now + share * device.paging_s + device.promotion_s
        elif silent_s > device.drx_after_s:
            device.awake = now + share * device.drx_s
    return float(max(now, device.awake))


@_compiled
def _send_down(world: World, events: Events, number: int, now: float) -> None:
    """The server has something for a device."""
    job = world.jobs[number]
    device = world.devices[job.device]
    _later(world, events, _called(device, now, job.paged), _DOWNLINK, number)


@_compiled
def _enter(world: World, events: Events, number: int, upwards: bool, now: float) -> None:
    """A message comes to its cell.

    The samples of a device have one connection, on which one message goes behind the other; a round has its
    own. A cell is shared by connections.
    """
    job = world.jobs[number]
    device = world.devices[job.device]
    place, bits = (device.up, job.up_bits) if upwards else (device.down, job.down_bits)
    cell = world.cells[place]
    if cell.kind == FIFO or cell.rate == np.inf:
        start = max(now, cell.free)
        cell.free = _finish(world.pieces, cell, start, bits)
        if start > now:
            device.queued += 1
            _later(world, events, start, _UP_FLOWS if upwards else _DOWN_FLOWS, number)
        else:
            _flow(world, number, upwards, now)
        _later(world, events, cell.free, _UPLOADED if upwards else _DOWNLOADED, number)
        return
    if job.kind == INFERENCE:
        if upwards:
            if device.up_first >= 0:
                world.jobs[device.up_last].behind = number
                device.up_last = number
                return
            device.up_first = device.up_last = number
        else:
            if device.down_first >= 0:
                world.jobs[device.down_last].behind = number
                device.down_last = number
                return
            device.down_first = device.down_last = number
    _join(world, events, number, upwards, now)


@_compiled
def _flow(world: World, number: int, upwards: bool, now: float) -> None:
    """The bits of a job begin to flow."""
    job = world.jobs[number]
    device = world.devices[job.device]
    if device.ups + device.downs == 0 and now - device.rested > device.tail_s:
        device.used_j += device.promotion_w * device.promotion_s
    device.used_j += _radio_j(device, now)
    device.changed = now
    if upwards:
        device.ups += 1
        job.up_begun = now
    else:
        device.downs += 1
        job.down_begun = now


@_compiled
def _join(world: World, events: Events, number: int, upwards: bool, now: float) -> None:
    """A transfer begins to share a cell."""
    job = world.jobs[number]
    device = world.devices[job.device]
    place, bits = (device.up, job.up_bits) if upwards else (device.down, job.down_bits)
    cell = world.cells[place]
    _flow(world, number, upwards, now)
    if cell.size > 0:
        if cell.low == cell.high:
            flowed = cell.rate * (now - cell.seen)
        else:
            flowed = _flowed(world.pieces, cell, now) - _flowed(world.pieces, cell, cell.seen)
        cell.clock += _share(cell.kind, cell.size) * flowed
    cell.seen = now
    _push(world.waiting, cell.room, cell.size, cell.clock + bits, number)
    cell.size += 1
    _foresee(world, events, place, now)


@_inlined
def _foresee(world: World, events: Events, place: int, now: float) -> None:
    """When the first transfer of a shared cell is through, if nothing changes until then."""
    cell = world.cells[place]
    cell.version += 1
    bits = max(0.0, world.waiting[cell.room].tag - cell.clock)
    after = _finish(world.pieces, cell, now, bits / _share(cell.kind, cell.size))
    _later(world, events, after, _CELL, cell.version * len(world.cells) + place)


@_compiled
def _leave(world: World, events: Events, place: int, now: float) -> None:
    """The first transfer of a shared cell is through."""
    cell = world.cells[place]
    cell.clock, cell.seen = world.waiting[cell.room].tag, now
    number = _pop(world.waiting, cell.room, cell.size)
    cell.size -= 1
    job = world.jobs[number]
    device = world.devices[job.device]
    upwards = not np.isnan(job.up_begun) and np.isnan(job.up_done)
    _through(world, events, number, upwards, now)
    following = -1
    if job.kind == INFERENCE:
        following, job.behind = job.behind, -1
        if upwards:
            device.up_first = following
        else:
            device.down_first = following
    if following >= 0:
        _join(world, events, following, upwards, now)
    elif cell.size > 0:
        _foresee(world, events, place, now)
    else:
        cell.version += 1
        cell.clock = 0.0


@_inlined
def _through(world: World, events: Events, number: int, upwards: bool, now: float) -> None:
    """The last bit of a transfer is on its way. The messages of a connection keep their order."""
    job = world.jobs[number]
    device = world.devices[job.device]
    device.used_j += _radio_j(device, now)
    device.changed = now
    device.rested = now
    if upwards:
        device.used_j += job.up_bits * device.up_j
        device.ups -= 1
        job.up_done = now
        at = now + job.up_delay_s
        if job.kind == INFERENCE:
            at = max(at, device.up_latest)
            device.up_latest = at
        _later(world, events, at, _ARRIVED, number)
    else:
        device.used_j += job.down_bits * device.down_j
        device.downs -= 1
        job.down_done = now
        at = now + job.down_delay_s
        if job.kind == INFERENCE:
            at = max(at, device.down_latest)
            device.down_latest = at
        _later(world, events, at, _REACHED, number)


@_compiled
def _arrive(world: World, events: Events, number: int, now: float) -> None:
    """A sample queues at the server; a reply counts, if its round has not ended."""
    job, server = world.jobs[number], world.server[0]
    job.arrived = now
    if job.kind == INFERENCE:
        world.jobs[server.tail].queued = number
        server.tail += 1
        _serve(world, events, now)
    elif job.turn == server.turn:
        job.ended = now
        world.turns[job.turn].left -= 1
        if world.turns[job.turn].left == 0:
            _end_round(world, events, now)


@_compiled
def _serve(world: World, events: Events, now: float) -> None:
    """Workers that are free begin the batches that are closed."""
    jobs, server = world.jobs, world.server[0]
    while server.head < server.tail and server.working < server.workers:
        size = min(server.batch, server.tail - server.head)
        closes = jobs[jobs[server.head].queued].arrived + server.wait_s
        if size < server.batch and now < closes:
            if server.timer != closes:
                server.timer = closes
                _later(world, events, closes, _TIMER, 0)
            return
        for place in range(server.head, server.head + size):
            jobs[jobs[place].queued].served = now
        jobs[server.head].batch = size
        _later(world, events, now + server.fixed_s + size * server.each_s, _DONE, server.head)
        server.head += size
        server.working += 1


@_compiled
def _answer(world: World, events: Events, head: int, now: float) -> None:
    """A worker is done: its answers go down, and it takes the next batch."""
    jobs = world.jobs
    world.server[0].working -= 1
    for place in range(head, head + jobs[head].batch):
        jobs[jobs[place].queued].done = now
        _send_down(world, events, jobs[place].queued, now)
    _serve(world, events, now)


@_compiled
def _reach(world: World, events: Events, number: int, now: float) -> None:
    """An answer is there; what a round brings is worked on."""
    job = world.jobs[number]
    if job.kind == ROUND:
        job.due = now
        _compute(world, events, number, now)
        return
    if job.missed == 0:
        _over(world, number, now)
        _begin(world, events, job.device, now)


@_inlined
def _over(world: World, number: int, now: float) -> None:
    """A sample has come to its end, and the next may begin."""
    job = world.jobs[number]
    device = world.devices[job.device]
    job.ended = now
    device.pending -= 1
    device.eligible = now


@_compiled
def _give_up(world: World, events: Events, number: int, now: float) -> None:
    """A device waits no longer for answers that are overdue; they come all the same, for nobody."""
    device = world.devices[number]
    device.patience = np.inf
    while device.oldest < device.coming:
        job = world.jobs[device.oldest]
        if np.isnan(job.ended):
            if np.isnan(job.computed):
                break  # when it is sent, its time begins
            if job.computed + device.deadline_s > now:
                device.patience = job.computed + device.deadline_s
                _later(world, events, device.patience, _PATIENCE, number)
                break
            job.missed = 1
            _over(world, device.oldest, now)
        device.oldest += 1
    _begin(world, events, number, now)


@_compiled
def _begin_round(world: World, events: Events, number: int, now: float) -> None:
    """Send to all of the cohort that are there."""
    turn = world.turns[number]
    for job in range(turn.first, turn.last):
        if not _gone(world.devices[world.jobs[job].device], now):
            turn.left += 1
            _send_down(world, events, job, now)
    if turn.left == 0:
        _end_round(world, events, now)
    elif np.isfinite(turn.deadline_s):
        _later(world, events, now + turn.deadline_s, _DEADLINE, number)


@_compiled
def _end_round(world: World, events: Events, now: float) -> None:
    """Merge, then begin the next."""
    server = world.server[0]
    merged = now + world.turns[server.turn].merge_s
    server.turn += 1
    if server.turn < len(world.turns):
        _later(world, events, merged, _ROUND, server.turn)


@_compiled
def _compute_done(world: World, events: Events, number: int, now: float) -> None:
    """A job goes up as soon as the radio is awake, and the processor is free for the next."""
    job = world.jobs[number]
    device = world.devices[job.device]
    job.computed = now
    device.used_j += device.compute_w * job.compute_s
    if job.silent:
        _over(world, number, now)
    else:
        if job.kind == INFERENCE and device.patience == np.inf and device.deadline_s < np.inf:
            device.patience = now + device.deadline_s
            _later(world, events, device.patience, _PATIENCE, job.device)
        awake = _called(device, now, 0.0)
        if awake > now:
            _later(world, events, awake, _UPLINK, number)
        else:
            _enter(world, events, number, True, now)
    _begin(world, events, job.device, now)


@_compiled
def _handle(world: World, events: Events, now: float, kind: int, subject: int) -> None:  # noqa: PLR0912
    """What an event brings about."""
    if kind == _WAKE:
        if world.devices[subject].woken == now:  # else there was an earlier one
            world.devices[subject].woken = np.inf
            _begin(world, events, subject, now)
    elif kind == _COMPUTED:
        _compute_done(world, events, subject, now)
    elif kind in (_UPLINK, _DOWNLINK):
        _enter(world, events, subject, kind == _UPLINK, now)
    elif kind in (_UP_FLOWS, _DOWN_FLOWS):
        world.devices[world.jobs[subject].device].queued -= 1
        _flow(world, subject, kind == _UP_FLOWS, now)
    elif kind == _CELL:
        place = subject % len(world.cells)
        if subject // len(world.cells) == world.cells[place].version:
            _leave(world, events, place, now)
    elif kind in (_UPLOADED, _DOWNLOADED):
        _through(world, events, subject, kind == _UPLOADED, now)
    elif kind == _ARRIVED:
        _arrive(world, events, subject, now)
    elif kind == _TIMER:
        _serve(world, events, now)
    elif kind == _DONE:
        _answer(world, events, subject, now)
    elif kind == _PATIENCE:
        _give_up(world, events, subject, now)
    elif kind == _REACHED:
        _reach(world, events, subject, now)
    elif kind == _ROUND:
        _begin_round(world, events, subject, now)
    elif kind == _DEADLINE and subject == world.server[0].turn:
        _end_round(world, events, now)


@_compiled
def simulate(world: World) -> None:
    """Carry everything out, in place."""
    events: Events = [(0.0, np.int64(0), np.int64(_WAKE), np.int64(0))]
    events.pop()
    for number in range(len(world.devices)):
        device = world.devices[number]
        if device.first < device.last:
            device.woken = world.jobs[device.first].at
            _later(world, events, device.woken, _WAKE, number)
    if len(world.turns) > 0:
        _later(world, events, world.server[0].rounds_s, _ROUND, 0)
    while len(events) > 0:
        now, _, kind, subject = heapq.heappop(events)
        _handle(world, events, now, kind, subject)
