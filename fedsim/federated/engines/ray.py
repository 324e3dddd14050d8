"""The engine ``ray``: Flower's simulation on Ray, the road to many machines.

A SuperLink in simulation mode is given the run by ``flwr run`` and has the clients played by Ray actors, as
many at a time as there are processors for. With ``RAY_ADDRESS`` in the environment these are those of a Ray
cluster that runs already, on whose machines fedsim has to be installed; otherwise a Ray of its own is
started, and stopped at the end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from fedsim.errors import FederationError
from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.engines.superlink import Federation
from fedsim.federated.runspec import RunSpec

__all__ = ["run"]


def run(
    spec: RunSpec,
    folder: Path,
    *,
    processors: int = 1,
    report: Callable[[int], None] | None = None,
) -> Outcome:
    """Carry a run out.

    Args:
        spec: of the run.
        folder: of its own, for ``logs`` and ``results``.
        processors: that a client has while it works.
        report: called with the number of rounds that are over.

    Raises:
        FederationError: Ray is not installed, or the run failed; says why, or repeats the end of the log.
            Nothing is left running.
    """
    if importlib.util.find_spec("ray") is None:
        raise FederationError("the engine 'ray' needs Ray, which is not installed: pip install 'fedsim[ray]'")
    clients = f"num-supernodes={spec.clients} client-resources-num-cpus={processors}"
    with Federation.started(folder, ["--simulation"]) as federation:
        results = federation.carry_out(
            spec, folder / "results", ["--federation-config", clients], report=report
        )
        return results.outcome()
