"""The programs of a run in wall time: their command lines, what they end with, and how far they are.

They are ``edge.server``, ``edge.link`` and ``edge.device``, whatever starts them: this machine or containers.
"""

from __future__ import annotations

from pathlib import Path

from fedsim.engines.plan import DevicePlan, RunPlan

__all__ = [
    "SOME_SAMPLES_FAILED",
    "FinishedSamples",
    "device_arguments",
    "link_arguments",
    "server_arguments",
]

#: Exit code of edge.device; the ledger says which.
SOME_SAMPLES_FAILED = 4


def server_arguments(plan: RunPlan) -> list[str]:
    """Of ``edge.server``: the bundles of a plan, and how it works."""
    arguments = ["--workers", str(plan.workers)]
    arguments += ["--batch", str(plan.batch_size), "--wait-ms", str(plan.batch_wait_ms)]
    bundles = dict.fromkeys(method.bundle for method in plan.methods if not method.local)
    for bundle in bundles:  # a bundle serves all its levels
        arguments += ["--model", str(bundle)]
    return arguments


def link_arguments(plan: RunPlan, cell: str, server: str, spec: Path, counters: Path) -> list[str]:
    """Of ``edge.link``: the relay of a cell.

    Args:
        plan: the run.
        cell: a name of its cells.
        server: HOST:PORT that it passes on to.
        spec: file of the link.
        counters: file for what it has carried.
    """
    seed = plan.seed + list(plan.cells).index(cell)
    return ["--to", server, "--spec", str(spec), "--seed", str(seed), "--counters", str(counters)]


def device_arguments(plan: RunPlan, number: int, device: DevicePlan, server: str | None) -> list[str]:
    """Of ``edge.device``.

    Args:
        plan: the run.
        number: of the device.
        device: what it is.
        server: HOST:PORT that it connects to; None where nothing is sent.
    """
    arguments = ["--run", plan.run, "--client", device.client]
    arguments += ["--samples", str(plan.samples), "--shard", f"{number}/{len(plan.devices)}"]
    arguments += ["--out", str(plan.events / f"{device.client}.jsonl")]
    arguments += ["--in-flight", str(device.in_flight), "--deadline", str(device.deadline_s)]
    if server is not None:
        arguments += ["--server", server]
    if device.fallback is not None:
        arguments += ["--fallback", str(device.fallback)]
    if device.erasure:
        arguments += ["--erase", str(device.erasure), "--erase-seed", str(device.erasure_seed)]
    if device.schedule is not None:
        arguments += ["--schedule", str(device.schedule)]
    for method in plan.methods:
        arguments += ["--model", str(method.bundle), "--as", method.name]
        if method.level is not None:
            arguments += ["--level", str(method.level)]
        if device.pace is not None and method.name in device.pace:
            head_s, encode_s = device.pace[method.name]
            arguments += ["--head-s", repr(float(head_s))]
            if encode_s is not None:
                arguments += ["--encode-s", repr(float(encode_s))]
    return arguments


class FinishedSamples:
    """Counts the samples that are final in an event file that is still being written."""

    _MARK = b'"outcome":'

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._count = 0

    def count(self) -> int:
        """How many there are by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._count += whole.count(self._MARK)
        return self._count
