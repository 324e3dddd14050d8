"""The part of a federation's figures that is of its links and devices: time, stragglers, bytes, joules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedsim.measure.parts import Amount, Count, Fraction, Part

__all__ = ["FederationCost", "Joules", "Reached", "RoundCost", "Straggler"]

_UNKNOWN = "null where it is not known of all clients."


class Joules(Part):
    """Energy of all clients together."""

    compute: Amount | None = Field(description=f"Of the processors, above rest; {_UNKNOWN}")
    down: Amount | None = Field(description=f"Of the radios, to receive, above their sleep; {_UNKNOWN}")
    up: Amount | None = Field(description="The same to send.")
    afterwards: Amount | None = Field(description="Of tails that are not over when the last round is.")
    promotion: Amount | None = Field(description="Of down and up, what went into waking radios.")
    tail: Amount | None = Field(description="Of down, up and afterwards, what went into tails.")
    rest: Amount | None = Field(
        description="What all devices of the fleet draw at rest, their radios asleep, as long as the rounds "
        f"last; {_UNKNOWN}"
    )
    total: Amount | None = Field(description=f"compute, down, up, afterwards and rest; {_UNKNOWN}")


class Straggler(Part):
    """The client that was the last to reply most often."""

    client: str
    rounds: Count = Field(description="Rounds in which it was the last.")


class RoundCost(Part):
    """One round on its links."""

    round: Annotated[int, Field(ge=1)]
    end_s: Amount = Field(description="When it was over, from the beginning of the first.")
    duration_s: Amount
    straggler: str | None = Field(description="Who was the last to reply; null where nobody did.")
    behind_s: Amount | None = Field(description="By how much that was later than the median reply.")
    beyond: list[str] = Field(description="Whose work takes longer than the federation's deadline.")
    down_wire_bytes: Count = Field(description="To all clients: what crosses the links, headers included.")
    up_wire_bytes: Count
    joules: Amount | None = Field(description=f"Of the clients' work and messages, above rest; {_UNKNOWN}")
    joules_so_far: Amount | None = Field(
        description=f"Of all clients until the round was over, rest included; {_UNKNOWN}"
    )


class Reached(Part):
    """When a method first came close to the best accuracy that it found, of one kind."""

    predictor: str
    classes: Literal["own", "all"]
    test: Literal["personal", "global"]
    best: Fraction = Field(description="The best accuracy of all rounds that were evaluated.")
    target: Fraction = Field(description="Best minus a hundredth.")
    round: Annotated[int, Field(ge=1)] = Field(description="The first that reached the target.")
    accuracy: Fraction = Field(description="Behind that round.")
    time_s: Amount = Field(description="Until that round was over.")
    down_wire_bytes: Count = Field(description="Of all rounds until then.")
    up_wire_bytes: Count
    joules: Amount | None = Field(description="Of all clients until then, rest included.")


class FederationCost(Part):
    """What the rounds of a method cost on the links and devices of the fleet. All of it is modelled."""

    duration_s: Amount = Field(description="Until the last round was over.")
    round_mean_s: Amount
    round_p95_s: Amount
    round_worst_s: Amount
    straggler: Straggler | None = Field(description="Null where nobody ever replied.")
    behind_mean_s: Amount | None = Field(description="Mean of the rounds' behind_s.")
    down_wire_bytes: Count
    up_wire_bytes: Count
    joules: Joules
    reached: list[Reached] = Field(description="For each kind of accuracy that was found.")
    rounds: list[RoundCost]
