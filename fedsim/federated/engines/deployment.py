"""The engine ``deployment``: Flower's SuperLink, and a SuperNode for each client, as processes.

It is what runs on many machines, all on one: every message crosses a socket, and every client works in
processes of its own, a new one for each message. That takes seconds a message and about 400 MB a client.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedsim.errors import FederationError
from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.engines.programs import Program
from fedsim.federated.engines.superlink import HOST, Federation, free_ports
from fedsim.federated.runspec import RunSpec

__all__ = ["run"]


def run(
    spec: RunSpec, folder: Path, *, tls: bool = False, report: Callable[[int], None] | None = None
) -> Outcome:
    """Carry a run out.

    Args:
        spec: of the run.
        folder: of its own, for ``logs`` and ``results``.
        tls: encrypt what passes between SuperNodes and SuperLink, with certificates made for this run.
        report: called with the number of rounds that are over.

    Returns:
        what came of it; a SuperNode that died on the way is among the troubles.

    Raises:
        FederationError: the run failed; says why, or repeats the end of the log. Nothing is left running.
    """
    with Federation.started(folder, tls=tls) as federation:
        nodes = _Nodes(federation, spec.clients)
        results = federation.carry_out(spec, folder / "results", report=report, watch=nodes.look)
        return results.outcome(nodes.troubles)


class _Nodes:
    """The SuperNodes of a run."""

    def __init__(self, federation: Federation, clients: int) -> None:
        security = ["--insecure"]
        if federation.certificates is not None:
            security = ["--root-certificates", str(federation.certificates.authority)]
        self._running: dict[int, Program] = {}
        #: Those that have ended before the run did, in words.
        self.troubles: list[str] = []
        for partition, port in enumerate(free_ports(clients)):
            command = ["flower-supernode", *security, "--superlink", federation.address]
            command += ["--host", HOST, "--port", str(port)]
            command += ["--node-config", f"partition-id={partition} num-partitions={clients}"]
            self._running[partition] = federation.start(f"supernode-{partition}", command)

    def look(self) -> None:
        """Note who has ended.

        Raises:
            FederationError: all have.
        """
        for partition, node in list(self._running.items()):
            if (code := node.poll()) is not None:
                del self._running[partition]
                self.troubles.append(f"the SuperNode of client {partition} ended with exit code {code}")
                if not self._running:
                    raise FederationError(f"all SuperNodes have ended; the last: {node.ended(code)}")
