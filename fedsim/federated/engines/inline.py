"""The engine ``inprocess``: all clients in this process, one after the other, on :class:`InlineGrid`."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedsim.federated.checkpoint import Kept
from fedsim.federated.clients import client_app, give_back, kept_by
from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.grid import InlineGrid, Passage, run_inline
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.runspec import RunSpec
from fedsim.federated.site import Site
from fedsim.federated.strategy import Merged, RoundRecord
from fedsim.federated.vectorised import train_batched

__all__ = ["run"]


def run(
    spec: RunSpec,
    site: Site | None = None,
    *,
    kept: Kept | None = None,
    keep: Callable[[Kept], None] | None = None,
    at_once: bool = False,
    strict: bool = False,
    sent: Passage | None = None,
    received: Passage | None = None,
    merged: Merged | None = None,
) -> Outcome:
    """Carry a run out.

    Args:
        spec: of the run.
        site: of :meth:`RunSpec.site`, where it has been made already.
        kept: the same run as it was after one of its rounds, to go on from.
        keep: called ahead of the first round and after each with the run as it is.
        at_once: train clients of equal networks at once (:mod:`fedsim.federated.vectorised`).
        strict: a client that raises ends the run, in place of being left out.
        sent: see :class:`~fedsim.federated.grid.InlineGrid`.
        received: see there.
        merged: see :class:`~fedsim.federated.strategy.MethodStrategy`.

    Raises:
        FedsimError: data, networks or the method cannot be made, or the run failed.
        ClientError: a client did, where that is ``strict``.
    """
    here, method = spec.site(together=True) if site is None else site, spec.federated_method()

    def provide(context: Context) -> tuple[Site, FederatedMethod]:
        return here, method

    batched = train_batched(provide) if at_once else None
    grid = InlineGrid(
        client_app(provide), here.clients, strict=strict, sent=sent, received=received, batched=batched
    )
    records: list[RoundRecord] = []
    if kept is not None:
        records += kept.records
        give_back(grid, kept.clients)

    def told(number: int, state: State) -> None:
        if keep is not None:
            keep(Kept(number, state, list(records), frozenset(strategy.informed), kept_by(grid)))

    def round_ended(state: State, record: RoundRecord) -> None:
        records.append(record)
        told(record.number, state)

    strategy = spec.strategy(here, method, kept=kept, merged=merged, round_ended=round_ended)
    if kept is None:
        told(0, strategy.state)
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy.run(grid)

    if kept is None or kept.rounds < spec.rounds:
        run_inline(app, grid)
    return Outcome(strategy.state, records)
