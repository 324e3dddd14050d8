"""The part of ``summary.json`` that is of a federation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edge.meter import Provenance
from fedsim.measure.federation.cost_schema import FederationCost
from fedsim.measure.parts import Amount, Count, Fraction, Part

__all__ = [
    "Accuracy",
    "Federation",
    "FederationBytes",
    "FederationClient",
    "FederationProvenance",
    "FederationRound",
    "FederationRow",
    "Privacy",
    "Traffic",
]


class Accuracy(Part):
    """How often clients were right, said of one predictor, one choice of classes, and one test set."""

    predictor: str = Field(
        description="prototypes, or head: the client's classifier. A method may have others."
    )
    classes: Literal["own", "all"] = Field(
        description="Among which a client chose: those of its own samples, or all that there are."
    )
    test: Literal["personal", "global"] = Field(
        description="On which samples: the client's own test, or the test set of the data; among the own "
        "classes, those samples that are of them."
    )
    right: Count = Field(description="Samples told rightly, over all clients.")
    total: Count = Field(description="Samples, over all clients: each has the global test set for itself.")
    accuracy: Fraction | None = Field(description="right / total; null of no samples.")
    client_mean: Fraction | None = Field(
        description="Mean of the clients' accuracies, each weighing the same; null of no samples."
    )
    client_deviation: Amount | None = Field(
        description="Standard deviation of the clients' accuracies (n - 1); null of fewer than two."
    )
    clients: Count = Field(description="Clients that had samples for it.")


class FederationBytes(Part):
    """Messages of one kind, all clients together."""

    messages: Count
    ideal_bits: Amount = Field(description="Information in the payloads, under the coder's own tables.")
    payload_bytes: Count = Field(description="What the method put into the messages.")
    frame_bytes: Count = Field(description="The contents of Flower's messages as protobuf.")
    wire_bytes: Count | None = Field(description="What crossed a socket; null where that is not known.")


class Traffic(Part):
    """Messages by kind; up is from clients to the server."""

    hello: FederationBytes = Field(description="Asking once who has which partition, both ways.")
    masking: FederationBytes = Field(description="Keys and secrets, both ways, where replies are masked.")
    setup: FederationBytes = Field(description="What a client is sent once and keeps.")
    down: FederationBytes = Field(description="For training.")
    up: FederationBytes
    evaluation_down: FederationBytes
    evaluation_up: FederationBytes


class FederationRound(Part):
    """One round of one method."""

    round: Annotated[int, Field(ge=1)]
    cohort: Count = Field(description="Clients that were asked.")
    merged: Count = Field(description="Clients whose replies were merged.")
    lost: Count = Field(description="Clients that dropped out.")
    late: Count = Field(description="Clients that missed the deadline.")
    rejected: Count = Field(description="Replies that were refused, of training and of evaluation.")
    void: str = Field(description="Why nothing was merged although there were replies; empty otherwise.")
    step_s: Amount | None = Field(
        description="Seconds of the clients' work for training, added up; null where nobody worked, or where "
        "it was not measured."
    )
    bytes: Traffic | None = Field(description="Null where it was not counted.")
    accuracy: list[Accuracy] = Field(description="Behind this round; empty where nothing was evaluated.")


class Privacy(Part):
    """What a run has given away: it is (epsilon, delta)-differentially private."""

    epsilon: Amount | None = Field(description="Null where there is no noise, so no bound.")
    delta: Fraction
    level: Literal["sample", "client"] = Field(description="Whose presence is hidden, one added or removed.")
    releases: Count = Field(description="Rounds in which one and the same of them took part, at most.")


class FederationRow(Part):
    """One method."""

    method: str = Field(description="Name of the row, unique in the run.")
    name: str = Field(description="The method, as in a scenario.")
    rounds: list[FederationRound]
    accuracy: list[Accuracy] = Field(description="Behind the last round.")
    bytes: Traffic | None = Field(description="Of all rounds; null where it was not counted.")
    privacy: Privacy | None = Field(description="Null of a method that is not private.")
    remarks: list[str] = Field(description="What is to be known of the run, in sentences.")
    cost: FederationCost | None = Field(
        default=None,
        description="On the links and devices of the fleet; null where the fleet names neither.",
    )


class FederationClient(Part):
    """What one client holds."""

    client: str
    network: Count = Field(description="Number of its network.")
    train: Count = Field(description="Samples that it trains on, in all rounds together, each once.")
    test: Count = Field(description="Samples of its own test.")
    classes: Count = Field(description="Classes of its training samples.")


class FederationProvenance(Part):
    """How the bytes were obtained."""

    ideal: Provenance
    payload: Provenance
    frame: Provenance
    wire: Provenance
    detail: str | None = Field(description="Why something is unavailable, where it is.")


class Federation(Part):
    """The figures of a federation."""

    rounds: Annotated[int, Field(ge=1)]
    base_samples: Count = Field(description="Samples that the server has itself.")
    clients: list[FederationClient]
    networks: list[str] = Field(description="Backbones of the clients, by their numbers.")
    provenance: FederationProvenance
    rows: list[FederationRow]
    remarks: list[str] = Field(
        default=[], description="What is to be known of the numbers of devices and links, in sentences."
    )
