"""A federation as tables for a terminal: accuracy by what it is about, and bytes of a round up and down."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fedsim.measure.blocks import NOT_APPLICABLE, Block, engineering, print_tables, spread
from fedsim.measure.federation.cost_table import cost_tables
from fedsim.measure.federation.schema import Accuracy, Federation, FederationBytes, FederationRow

__all__ = ["accuracy_tables", "byte_tables", "print_federation"]

_UNAVAILABLE = "unavailable"
_A_ROUND = "bytes of all clients in a round"
_TESTS = ("global", "personal")
_SCOPES = ("all", "own")


def print_federation(federation: Federation, name: str, console: Console) -> None:
    """Print accuracies behind the last round, what a round costs, and what is to be known of the runs.

    What does not fit the console's width beside the method becomes a table of its own.
    """
    tables = [
        *accuracy_tables(federation, name, console.width),
        *byte_tables(federation, name, console.width),
        *cost_tables(federation, name, console.width),
    ]
    print_tables(tables, console)
    if federation.provenance.wire == _UNAVAILABLE:
        console.print(f"Note: wire bytes are unavailable; {federation.provenance.detail}.", markup=False)
    for row in federation.rows:
        if (loss := row.privacy) is not None:
            bound = "has no bound, since there is no noise" if loss.epsilon is None else f"{loss.epsilon:.3g}"
            said = f"epsilon {bound}, at delta {loss.delta:g} and the level of a {loss.level}"
            console.print(f"{row.method}: {said}, of {loss.releases} releases.", markup=False)
        for remark in row.remarks:
            console.print(f"Note: {remark}.", markup=False)
    for remark in federation.remarks:
        console.print(f"Note: {remark}.", markup=False)


def accuracy_tables(federation: Federation, name: str, width: int) -> list[Table]:
    """One row for each method: accuracy of each {predictor} x {all, own classes} x {global, personal test}.

    Over all samples of all clients; behind ± the standard deviation from client to client.
    """
    predictors = dict.fromkeys(one.predictor for row in federation.rows for one in row.accuracy)
    blocks = []
    for predictor in predictors:
        for scope in _SCOPES:
            columns = []
            for test in _TESTS:
                found = [_found(row, predictor, scope, test) for row in federation.rows]
                if any(one is not None and one.total for one in found):
                    columns.append(
                        (f"{predictor}\n{scope} classes\n{test} test", [_shown(one) for one in found])
                    )
            if columns:
                blocks.append(Block("accuracy in % behind the last round", columns))
    return spread(name, "method", [row.method for row in federation.rows], blocks, width)


def byte_tables(federation: Federation, name: str, width: int) -> list[Table]:
    """One row for each method: what training cost at four levels, all clients together.

    Per round, the mean of all rounds; the setup, which a client is sent once, of the whole run.
    """
    rounds = federation.rounds
    kinds = (
        ("up", _A_ROUND, rounds),
        ("down", _A_ROUND, rounds),
        ("masking", _A_ROUND, rounds),
        ("setup", "setup once", 1),
    )
    blocks = []
    for kind, subject, share in kinds:
        found = [None if row.bytes is None else getattr(row.bytes, kind) for row in federation.rows]
        if not any(one is None or one.messages for one in found):
            continue
        columns = [
            (f"{kind}\n{level}", [_amount(one, level, share) for one in found])
            for level in ("ideal", "payload", "frame", "wire")
        ]
        blocks.append(Block(subject, columns))
    return spread(name, "method", [row.method for row in federation.rows], blocks, width)


def _found(row: FederationRow, predictor: str, scope: str, test: str) -> Accuracy | None:
    for one in row.accuracy:
        if (one.predictor, one.classes, one.test) == (predictor, scope, test):
            return one
    return None


def _shown(one: Accuracy | None) -> str:
    if one is None or one.accuracy is None:
        return NOT_APPLICABLE
    if one.client_deviation is None:
        return f"{100 * one.accuracy:.1f}"
    return f"{100 * one.accuracy:.1f} ± {100 * one.client_deviation:.1f}"


def _amount(one: FederationBytes | None, level: str, rounds: int) -> str:
    if one is None:
        return _UNAVAILABLE
    if not one.messages:
        return NOT_APPLICABLE
    sizes = {
        "ideal": one.ideal_bits / 8,
        "payload": one.payload_bytes,
        "frame": one.frame_bytes,
        "wire": one.wire_bytes,
    }
    size = sizes[level]
    return _UNAVAILABLE if size is None else engineering(round(size / rounds))
