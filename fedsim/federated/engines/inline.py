"""The engine ``inprocess``: all clients in this process, one after the other, on :class:`InlineGrid`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr.serverapp import Grid, ServerApp

from fedsim.federated.checkpoint import FederationCheckpoint
from fedsim.federated.clients import client_app, give_back, kept_by
from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.grid import InlineGrid, Passage, run_inline
from fedsim.federated.method import State
from fedsim.federated.runspec import RunSpec
from fedsim.federated.strategy import RoundRecord

__all__ = ["run"]


def run(
    spec: RunSpec,
    *,
    checkpoint: Path | None = None,
    report: Callable[[int], None] | None = None,
    strict: bool = False,
    sent: Passage | None = None,
    received: Passage | None = None,
) -> Outcome:
    """Carry a run out.

    Args:
        spec: of the run.
        checkpoint: folder in which it is kept after every round; what is there of the same run is gone on
            from, and the folder is removed when the run is over. None to keep nothing.
        report: called with the number of rounds that are over.
        strict: a client that raises ends the run, in place of being left out.
        sent: see :class:`~fedsim.federated.grid.InlineGrid`.
        received: see there.

    Raises:
        FedsimError: data, networks or the method cannot be made, or the run failed.
        ClientError: a client did, where that is ``strict``.
        OutputError: the checkpoint cannot be written.
    """
    site, method = spec.site(together=True), spec.federated_method()
    provided = (site, method)
    grid = InlineGrid(
        client_app(lambda context: provided), site.clients, strict=strict, sent=sent, received=received
    )
    kept, folder = None, None
    if checkpoint is not None:
        folder = FederationCheckpoint(checkpoint, spec.to_json())
        kept = folder.load()
    records: list[RoundRecord] = []
    if kept is not None:
        records += kept.records
        give_back(grid, kept.clients)

    def round_ended(state: State, record: RoundRecord) -> None:
        records.append(record)
        if folder is not None:
            folder.save(record.number, state, records, frozenset(strategy.informed), kept_by(grid))
        if report is not None:
            report(record.number)

    strategy = spec.strategy(
        site,
        method,
        state=None if kept is None else kept.state,
        done=0 if kept is None else kept.rounds,
        informed=() if kept is None else kept.informed,
        round_ended=round_ended,
    )
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: object) -> None:
        strategy.run(grid)

    if kept is not None and report is not None:
        report(kept.rounds)
    if kept is None or kept.rounds < spec.rounds:
        run_inline(app, grid)
    outcome = Outcome(strategy.state, records)
    if folder is not None:
        folder.remove()
    return outcome
