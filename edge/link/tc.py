"""The kernel's own shaping of an interface: tbf for a rate; netem, where there is one, for the rest.

Needs iproute2, CAP_NET_ADMIN on the interface's network namespace, and for what comes in an ifb
device, which that is sent through. Many kernels have no netem, and delay, jitter and loss take it.

A token bucket lets a burst through for nothing: here two packets, so that a transfer is ahead of the
rate by these. Senders hand the kernel up to 64 kB at once, and netcards do so with what comes in; tbf
cuts that into packets first (htb does not, which lets 20 kB pass for free), netem takes it whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from edge.link.errors import LinkError
from edge.link.spec import Direction, LinkSpec

__all__ = ["KernelLink", "Passed"]

_PATIENCE_S = 10
_ETHERNET = 14
_UNLIMITED_BPS = 10e9  # what a link without a rate has to hold for its delay
_LATE_S = 1e-4  # what a timer of the kernel's is late by, at most, mostly
_UNLIMITED_PACKETS = 1000
_RELAY = "or use the relay (--to)"
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")  # where tc and ip lie; not everybody has them in PATH
_KERNEL = "choose a kernel that has it (fedsim doctor)"
_TAKEN = "somebody shapes it, or was killed: see docs/links.md"
#: What is said, in small letters, of what can be helped, and how.
_CURES = {
    "not permitted": "be root, or have CAP_NET_ADMIN (in compose, cap_add: [NET_ADMIN])",
    "kind is unknown": _KERNEL,
    "unknown device type": _KERNEL,
    "not supported": _KERNEL,
    "classifier not found": _KERNEL,
    "action module": _KERNEL,
    "exclusivity flag": _TAKEN,
    "file exists": _TAKEN,
}


@dataclass(frozen=True)
class Passed:
    """What a direction has let through, Ethernet headers included, and what it had no room for."""

    wire_bytes: int = 0
    packets: int = 0
    dropped: int = 0

    def __add__(self, other: Passed) -> Passed:
        return Passed(
            self.wire_bytes + other.wire_bytes, self.packets + other.packets, self.dropped + other.dropped
        )


class KernelLink:
    """An interface that is a link, until it is closed; a context manager.

    What leaves by it takes ``spec.up``, what comes in ``spec.down``, whoever's it is. What waits beyond
    ``queue_limit`` bytes is dropped, and loss is a lost packet: TCP sends it again.

    Args:
        interface: its name, in this network namespace.
        spec: shared as ``fifo``; without traces, and with packets of the interface's size.

    Raises:
        LinkError: a link that this kernel, or any, cannot make of it; it is as it was.
        OSError: there is no such interface or no tc, or they refuse; it is as it was.
    """

    def __init__(self, interface: str, spec: LinkSpec) -> None:
        self._interface = interface
        (record,) = _shown("ip", "-d", "-j", "link", "show", "dev", interface)
        self._mtu = int(record["mtu"])
        self._ifb = f"fedsim{record['ifindex']}"
        self._check(spec)
        self._spec = spec
        self._started_s = time.monotonic()
        self._down: _Queue | None = None  # while nothing has been asked of it
        with ExitStack() as undo:
            # What touches the interface comes last.
            if _asks(spec.down):
                self._down = self._new_ifb(spec.down, undo)
            self._up = _Queue(interface, "up", spec.up)
            undo.callback(self._up.close)
            if self._down is not None:
                self._redirect(undo)
            self._undo = undo.pop_all()

    def change(self, spec: LinkSpec) -> None:
        """Be another link from now on; what waits is kept where the same kind of queue will do.

        Raises:
            LinkError: as at the beginning; the link stays as it is.
            OSError: likewise.
        """
        self._check(spec)
        try:
            self._set(spec)
        except OSError:
            self._set(self._spec)
            raise
        self._spec = spec

    def counters(self) -> dict[str, Any]:
        """What each direction has let through, in how many seconds; None for one that was never shaped."""
        return {
            "seconds": time.monotonic() - self._started_s,
            "up": asdict(self._up.passed()),
            "down": None if self._down is None else asdict(self._down.passed()),
        }

    def close(self) -> None:
        """Leave the interface as it was. Idempotent.

        Raises:
            OSError: something could not be taken away, as with the interface itself; the rest is.
        """
        self._undo.close()

    def __enter__(self) -> KernelLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, spec: LinkSpec) -> None:
        for name, direction in (("up", spec.up), ("down", spec.down)):
            if direction.trace is not None:
                raise LinkError(f"{name}.trace: tc has no traces; give a rate_bps, {_RELAY}")
        if spec.sharing != "fifo":
            raise LinkError(
                f"sharing is {spec.sharing}: what uses {self._interface} waits in one queue of the kernel's; "
                f"say fifo, {_RELAY}"
            )
        asked, there = spec.segment + spec.header, self._mtu + _ETHERNET
        if asked != there:
            raise LinkError(
                f"segment and header: packets of {asked} bytes, and those of {self._interface} have {there}; "
                f"set its mtu to {asked - _ETHERNET} or segment to {there - spec.header}, {_RELAY}"
            )

    def _set(self, spec: LinkSpec) -> None:
        if self._down is not None:
            self._down.change(spec.down)
        elif _asks(spec.down):
            with ExitStack() as undo:
                down = self._new_ifb(spec.down, undo)
                self._redirect(undo)
                self._undo.push(undo.pop_all())
            self._down = down
        self._up.change(spec.up)

    def _new_ifb(self, direction: Direction, undo: ExitStack) -> _Queue:
        name = self._ifb
        asked = _asked("down", direction, "an ifb device")
        _done(asked, "ip", "link", "add", name, "mtu", str(self._mtu), "type", "ifb")
        undo.callback(_done, "at the end", "ip", "link", "del", name)
        with suppress(OSError):  # with an address it would send, and be counted
            _done("down", "ip", "link", "set", name, "addrgenmode", "none")
        queue = _Queue(name, "down", direction)
        _done("down", "ip", "link", "set", name, "up")
        return queue

    def _redirect(self, undo: ExitStack) -> None:
        """Send all that comes in through the ifb device."""
        here = ("dev", self._interface)
        _done("down", "tc", "qdisc", "add", *here, "ingress")
        undo.callback(_done, "at the end", "tc", "qdisc", "del", *here, "ingress")
        every = ("protocol", "all", "u32", "match", "u32", "0", "0")
        action = ("action", "mirred", "egress", "redirect", "dev", self._ifb)
        _done("down", "tc", "filter", "add", *here, "parent", "ffff:", *every, *action)


class _Queue:
    """What waits to leave by a device: a direction of the link, by its name."""

    def __init__(self, device: str, name: str, direction: Direction) -> None:
        self._device, self._name = device, name
        (record,) = _shown("ip", "-d", "-j", "link", "show", "dev", device)
        self._packet = int(record["mtu"]) + _ETHERNET
        self._segments = int(record["gso_max_segs"])
        self._past = Passed()  # by queues of another kind
        self._cut = False
        for there in self._shown():
            if there["handle"] != "0:":  # none of the system's own; to add one would replace it
                what = f"{device} has a qdisc already, {there['kind']} {there['handle']}"
                raise OSError(f"{name}: {what}; {_TAKEN}, {_RELAY}")
        self._kind = self._put("add", direction)
        try:
            self._cut_up(self._kind == "netem")
        except OSError:
            self.close()
            raise

    def change(self, direction: Direction) -> None:
        """Be another from now on."""
        passed = self.passed()
        kind = self._put("replace", direction)
        if kind != self._kind:  # its counters begin at 0
            self._past, self._kind = passed, kind
        self._cut_up(kind == "netem")

    def passed(self) -> Passed:
        """What it has let through since it was made."""
        there = [Passed(it["bytes"], it["packets"], it["drops"]) for it in self._shown()]
        return sum(there, self._past)

    def close(self) -> None:
        """Leave the device as it was."""
        try:
            self._cut_up(False)
        finally:
            _done("at the end", "tc", "qdisc", "del", "dev", self._device, "root")

    def _shown(self) -> list[dict[str, Any]]:
        return _shown("tc", "-s", "-j", "qdisc", "show", "dev", self._device, "root")

    def _put(self, verb: str, direction: Direction) -> str:
        """The kind that it is now."""
        command = self._command(direction)
        asked = _asked(self._name, direction, command[0])
        _done(asked, "tc", "qdisc", verb, "dev", self._device, "root", *command)
        return command[0]

    def _cut_up(self, cut: bool) -> None:
        """Have senders hand over packets, and not several as one."""
        if cut != self._cut:
            segments = 1 if cut else self._segments
            _done(self._name, "ip", "link", "set", "dev", self._device, "gso_max_segs", str(segments))
            self._cut = cut

    def _command(self, direction: Direction) -> list[str]:
        # tc takes rates as whole bit/s and times in microseconds.
        rate = [] if direction.rate_bps is None else ["rate", f"{math.ceil(direction.rate_bps)}bit"]
        if direction.delay_s == 0 and direction.loss == 0:
            if direction.rate_bps is None:
                return ["pfifo", "limit", str(_UNLIMITED_PACKETS)]
            # While a timer is late, what the bucket cannot hold is lost.
            burst = max(2 * self._packet, math.ceil(direction.rate_bps * _LATE_S / 8))
            return ["tbf", *rate, "burst", str(burst), "limit", str(max(direction.queue_limit, burst))]
        command = ["netem", "delay", f"{direction.delay_s * 1e6:.0f}us"]
        if direction.jitter_s:
            command.append(f"{direction.jitter_s * 1e6:.0f}us")
        if direction.loss:
            command += ["loss", f"{direction.loss * 100:.6f}%"]
        # netem's limit is in packets, and those that are under way count.
        under_way = (direction.rate_bps or _UNLIMITED_BPS) * (direction.delay_s + direction.jitter_s) / 8
        limit = math.ceil((direction.queue_limit + under_way) / self._packet)
        return [*command, *rate, "limit", str(max(limit, 2))]


def _asks(direction: Direction) -> list[str]:
    """What of a direction takes shaping, and settles of which kind."""
    netem = [name for name in ("delay_s", "loss") if getattr(direction, name)]
    return netem or (["rate_bps"] if direction.rate_bps is not None else [])


def _asked(name: str, direction: Direction, what: str) -> str:
    limits = " and ".join(f"{name}.{limit}" for limit in _asks(direction))
    return f"{what} for {limits or name}"


def _done(asked: str, *command: str) -> str:
    """What a command says that is run for ``asked``.

    Raises:
        OSError: it failed; the message names what was asked, why it cannot be, and what helps.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    program = shutil.which(command[0], path=path)
    if program is None:
        raise OSError(f"{asked}: {command[0]} is not installed (iproute2); install it, {_RELAY}")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
            start_new_session=True,  # a terminal's SIGINT is not for it
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{asked}: {error}") from error
    if done.returncode == 0:
        return done.stdout
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    why = (lines[0] if lines else f"ended with {done.returncode}").removesuffix(".")
    cures = [cure for words, cure in _CURES.items() if words in why.lower()]
    helps = f"; {cures[0]}, {_RELAY}" if cures else ""
    raise OSError(f"{asked}: {' '.join(command)}: {why}{helps}")


def _shown(*command: str) -> list[dict[str, Any]]:
    """The records of a command that answers in JSON."""
    records: list[dict[str, Any]] = json.loads(_done("interface", *command) or "[]")
    return records
