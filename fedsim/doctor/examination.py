"""All probes, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fedsim.doctor import containers, hardware, network, software
from fedsim.doctor.finding import Finding

__all__ = ["PROBES", "Probe", "examine"]

_LONGEST_S = 30.0


@dataclass(frozen=True)
class Probe:
    """A look at one thing.

    Args:
        name: of the thing, where the probe itself fails.
        look: says what is there; may raise anything, and may hang.
    """

    name: str
    look: Callable[[], Sequence[Finding]]


PROBES = (
    Probe("python", software.python),
    Probe("packages", software.packages),
    Probe("ray", software.ray),
    Probe("data sets", software.data_sets),
    Probe("cores", hardware.cores),
    Probe("memory", hardware.memory),
    Probe("cuda", hardware.cuda),
    Probe("mps", hardware.mps),
    Probe("energy meters", hardware.meters),
    Probe("tcp counters", network.tcp_counters),
    Probe("root", network.root),
    Probe("cap_net_admin", network.net_admin),
    Probe("network namespaces", network.namespaces),
    Probe("qdiscs", network.qdiscs),
    Probe("tun", network.tun),
    Probe("docker engine", containers.engine),
    Probe("docker compose", containers.compose),
)


def examine(probes: Sequence[Probe] = PROBES, longest_s: float = _LONGEST_S) -> Iterator[Finding]:
    """What each probe finds, as soon as it does.

    A probe that raises, or that takes longer than ``longest_s``, is a finding ``unknown`` with the reason.
    """
    for probe in probes:
        yield from _bounded(probe, longest_s)


def _bounded(probe: Probe, longest_s: float) -> Sequence[Finding]:
    """A driver that hangs cannot be interrupted, only left behind: its thread ends with the process."""
    found: list[Sequence[Finding]] = []

    def look() -> None:
        try:
            found.append(probe.look())
        except Exception as error:  # one line, not the end
            found.append([_unknown(probe, f"{type(error).__name__}: {error}")])

    thread = threading.Thread(target=look, name=f"doctor {probe.name}", daemon=True)
    thread.start()
    thread.join(longest_s)
    return found[0] if found else [_unknown(probe, f"no answer within {longest_s:g} s")]


def _unknown(probe: Probe, reason: str) -> Finding:
    return Finding(probe.name, "unknown", f"the probe failed: {' '.join(reason.split())}", "", "")
