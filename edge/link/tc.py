"""The kernel's own shaping, where it has it: tbf for a rate, netem for delay, jitter and loss.

Needs CAP_NET_ADMIN on the interface's network namespace and iproute2; many kernels have no netem.
:func:`probe` says what this machine can do, in namespaces of its own that vanish with the question.

A token bucket lets a burst through for nothing, and a sender hands it packets of up to 64 kB, so
that 20 kB over "20 Mbit/s" can take 0.3 ms instead of 8.4. Hence a burst of two packets, and
``gso_max_segs 1`` on the interface while it is shaped. What is left of the burst shows: a transfer
is ahead of the rate by two packets.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from types import TracebackType
from typing import Any

from edge.link.errors import LinkError
from edge.link.spec import Direction

__all__ = ["Shaper", "probe"]

_PATIENCE_S = 10
_ETHERNET = 14
_UNLIMITED_BPS = 10e9  # what a link without a rate has to hold for its delay
_PROBES = {
    "tbf": (
        "tc",
        "qdisc",
        "add",
        "dev",
        "lo",
        "root",
        "tbf",
        "rate",
        "1mbit",
        "burst",
        "3028",
        "limit",
        "9000",
    ),
    "htb": ("tc", "qdisc", "add", "dev", "lo", "root", "htb"),
    "netem": ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"),
    "ifb": ("ip", "link", "add", "fedsim-ifb", "type", "ifb"),
}


def probe() -> dict[str, str | None]:
    """Why each of tbf, htb, netem and ifb (for what comes in) cannot be used here; None if it can.

    Each is set up in a network namespace of its own, of this user or, failing that, of a user
    namespace, which ends with the command.
    """
    for program in ("tc", "ip", "unshare"):
        if shutil.which(program) is None:
            package = "util-linux" if program == "unshare" else "iproute2"
            return dict.fromkeys(_PROBES, f"{program} is not installed ({package})")
    why = None
    for options in (("-n",), ("-rn",)):
        unshare = ("unshare", *options)
        why = _tried(*unshare, "true")
        if why is None:
            return {kind: _tried(*unshare, *command) for kind, command in _PROBES.items()}
    return dict.fromkeys(_PROBES, why)


class Shaper:
    """Shapes what leaves by an interface, until it is closed; a context manager.

    A rate alone is a token bucket (tbf); delay, jitter or loss take netem, which then does the rate
    too. Loss is a lost packet there, and not a retransmission on the link. What waits beyond
    ``queue_limit`` bytes is dropped.

    Args:
        interface: its name, in this network namespace.
        direction: the link; not a trace: :meth:`change` the rate instead.

    Raises:
        LinkError: a direction that tc cannot do.
        OSError: tc is absent or refuses; the message has its reason.
    """

    def __init__(self, interface: str, direction: Direction) -> None:
        self._interface = interface
        record = _shown("ip", "-d", "-j", "link", "show", "dev", interface)
        self._packet = int(record["mtu"]) + _ETHERNET
        self._segments = int(record["gso_max_segs"])
        qdisc = self._qdisc(direction)
        _done("ip", "link", "set", "dev", interface, "gso_max_segs", "1")
        try:
            _done("tc", "qdisc", "add", "dev", interface, "root", *qdisc)
        except OSError:
            self._restore()
            raise
        self._kind: str | None = qdisc[0]  # None once closed

    def change(self, direction: Direction) -> None:
        """Be another link from now on; what waits is kept if both are of the same kind."""
        qdisc = self._qdisc(direction)
        if qdisc[0] != self._kind:  # a qdisc of another kind is refused as a change
            _done("tc", "qdisc", "replace", "dev", self._interface, "root", *qdisc)
        else:
            _done("tc", "qdisc", "change", "dev", self._interface, "root", *qdisc)
        self._kind = qdisc[0]

    def close(self) -> None:
        """Leave the interface as it was. Idempotent."""
        if self._kind is not None:
            self._kind = None
            try:
                _done("tc", "qdisc", "del", "dev", self._interface, "root")
            finally:
                self._restore()

    def __enter__(self) -> Shaper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restore(self) -> None:
        _done("ip", "link", "set", "dev", self._interface, "gso_max_segs", str(self._segments))

    def _qdisc(self, direction: Direction) -> list[str]:
        if direction.trace is not None:
            raise LinkError("tc has no traces; change the rate over time, or use the relay")
        # tc takes rates as whole bit/s and times in microseconds.
        rate = [] if direction.rate_bps is None else ["rate", f"{math.ceil(direction.rate_bps)}bit"]
        if direction.delay_s == 0 and direction.loss == 0:
            if not rate:
                raise LinkError("a link without rate, delay and loss is nothing for tc to do")
            burst = 2 * self._packet
            return ["tbf", *rate, "burst", str(burst), "limit", str(max(direction.queue_limit, burst))]
        qdisc = ["netem", "delay", f"{direction.delay_s * 1e6:.0f}us"]
        if direction.jitter_s:
            qdisc.append(f"{direction.jitter_s * 1e6:.0f}us")
        if direction.loss:
            qdisc += ["loss", f"{direction.loss * 100:.6f}%"]
        # netem's limit is in packets, and those that are under way count.
        under_way = (direction.rate_bps or _UNLIMITED_BPS) * (direction.delay_s + direction.jitter_s) / 8
        limit = math.ceil((direction.queue_limit + under_way) / self._packet)
        return [*qdisc, *rate, "limit", str(max(limit, 2))]


def _tried(*command: str) -> str | None:
    """Why a command failed, in its own words; None if it did not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[0] if lines else f"{command[0]} ended with {done.returncode}"


def _done(*command: str) -> None:
    why = _tried(*command)
    if why is not None:
        raise OSError(f"{' '.join(command)}: {why}")


def _shown(*command: str) -> dict[str, Any]:
    """The first record of a command that answers in JSON."""
    _done(*command)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
    record: dict[str, Any] = json.loads(done.stdout)[0]
    return record
