"""What the rounds of a federation cost on the links and devices of the fleet, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from fedsim.measure.blocks import NOT_APPLICABLE, Block, engineering, spread
from fedsim.measure.federation.cost_schema import FederationCost, Joules, Reached
from fedsim.measure.federation.schema import Federation
from fedsim.measure.federation.styles import KINDS

__all__ = ["cost_tables"]

_UNAVAILABLE = "unavailable"


def cost_tables(federation: Federation, name: str, width: int) -> list[Table]:
    """One row for each method that was priced; none where none was.

    How long a round takes, who was last and by how much later than the median; bytes on the links and joules
    of all devices; and what it took until a method was within a hundredth of the best accuracy that it found.
    """
    rows = [(row.method, row.cost) for row in federation.rows if row.cost is not None]
    costs = [cost for _, cost in rows]
    rounds = federation.rounds

    def column(header: str, shown: Callable[[FederationCost], str]) -> tuple[str, list[str]]:
        return header, [shown(cost) for cost in costs]

    blocks = [
        Block(
            "rounds on their links",
            [
                column("mean\ns", lambda one: _amount(one.round_mean_s)),
                column("p95\ns", lambda one: _amount(one.round_p95_s)),
                column("worst\ns", lambda one: _amount(one.round_worst_s)),
                column(f"all {rounds}\ns", lambda one: _amount(one.duration_s)),
            ],
        ),
        Block(
            "stragglers",
            [
                column("straggler\n(rounds)", _straggler),
                column("behind the\nmedian, s", lambda one: _amount(one.behind_mean_s, NOT_APPLICABLE)),
            ],
        ),
        Block(
            "wire bytes of a round",
            [
                column("down\nwire", lambda one: engineering(round(one.down_wire_bytes / rounds))),
                column("up\nwire", lambda one: engineering(round(one.up_wire_bytes / rounds))),
            ],
        ),
        Block(
            "joules of all devices",
            [
                column("compute\nJ", lambda one: _amount(one.joules.compute)),
                column("radio\nJ", lambda one: _amount(_radio(one.joules))),
                column("of it\ntails, J", lambda one: _amount(one.joules.tail)),
                column("at rest\nJ", lambda one: _amount(one.joules.rest)),
                column("in all\nJ", lambda one: _amount(one.joules.total)),
                column("a round\nJ", lambda one: _amount(_over(one.joules.total, rounds))),
            ],
        ),
    ]
    if not rows:
        return []
    blocks += _targets(costs)
    return spread(name, "method", [method for method, _ in rows], blocks, width)


def _targets(costs: Sequence[FederationCost]) -> list[Block]:
    """A block for each predictor, of the kind of accuracy that tells most."""
    kinds = {(one.classes, one.test) for cost in costs for one in cost.reached}
    kind = next((kind for kind in KINDS if kind in kinds), None)
    found = [
        {one.predictor: one for one in cost.reached if (one.classes, one.test) == kind} for cost in costs
    ]
    blocks = []
    for predictor in dict.fromkeys(name for each in found for name in each):

        def column(
            header: str, shown: Callable[[Reached], str], predictor: str = predictor
        ) -> tuple[str, list[str]]:
            return header, [shown(one) if (one := each.get(predictor)) else NOT_APPLICABLE for each in found]

        subject = f"until near the best accuracy ({' classes, '.join(kind)} test)" if kind else ""
        blocks.append(
            Block(
                subject,
                [
                    column(f"{predictor}\nat least, %", lambda one: f"{100 * one.target:.1f}"),
                    column("in\nround", lambda one: str(one.round)),
                    column("after\ns", lambda one: _amount(one.time_s)),
                    column("with\nJ", lambda one: _amount(one.joules)),
                    column("wire\nbytes", lambda one: engineering(one.down_wire_bytes + one.up_wire_bytes)),
                ],
            )
        )
    return blocks


def _straggler(cost: FederationCost) -> str:
    one = cost.straggler
    return NOT_APPLICABLE if one is None else f"{one.client} ({one.rounds})"


def _radio(one: Joules) -> float | None:
    """Of the radios, above their sleep."""
    if one.down is None or one.up is None or one.afterwards is None:
        return None
    return one.down + one.up + one.afterwards


def _over(value: float | None, count: int) -> float | None:
    return None if value is None else value / count


def _amount(value: float | None, absent: str = _UNAVAILABLE) -> str:
    """Three significant digits."""
    if value is None:
        return absent
    return f"{value:.3g}" if value < 999.5 else engineering(round(value))
