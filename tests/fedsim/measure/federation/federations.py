"""A federation of three clients and two rounds, made by hand."""

import io
from collections.abc import Callable

import numpy as np
from rich.console import Console

from edge.meter import Event
from fedsim.data import Dataset
from fedsim.federated.evaluation import Result
from fedsim.federated.rounds import RoundRecord
from fedsim.federated.site import NetworkPlan, Share, Site
from fedsim.measure.federation.schema import Federation
from fedsim.measure.federation.summary import MethodRun, summarise_federation

CLIENTS, CLASSES = 3, 4


def site() -> Site:
    """Each client has four samples of two classes, and two of its own test."""
    labels = np.repeat(np.arange(CLASSES), 6)
    images = np.zeros((len(labels), 1, 8, 8), np.uint8)
    dataset = Dataset("blank", CLASSES, images, labels, images[:4], labels[:4])
    shares = [
        Share((np.array([6 * n, 6 * n + 1, 6 * n + 6, 6 * n + 7]),), np.array([6 * n + 2, 6 * n + 3]))
        for n in range(CLIENTS)
    ]
    return Site(dataset, shares, [NetworkPlan("digits-cnn", {"widths": [2, 2, 2]})])


def records() -> list[RoundRecord]:
    """Two rounds, the second with results of two clients, right on all and on half of their samples."""
    kinds = [
        (predictor, scope, test)
        for predictor in ("head", "prototypes")
        for scope in ("own", "all")
        for test in ("personal", "global")
    ]
    results = {n: [Result(*kind, 4 // (n + 1), 4) for kind in kinds] for n in range(2)}
    return [RoundRecord(1, (0, 1, 2), (0, 1, 2)), RoundRecord(2, (0, 1, 2), (0, 1, 2), results=results)]


def federation(events: list[Event]) -> Federation:
    """With one row, m."""
    return summarise_federation(site(), [MethodRun("m", "fedproto", records())], events, 2)


def message(
    stage: str,
    number: int,
    *,
    client: int = 0,
    payload: int,
    frame: int,
    bits: float | None = None,
    wire: int | None = None,
) -> Event:
    """A message of round ``number``."""
    return Event(
        "run",
        "m",
        f"device-{client}",
        stage,
        0.0,
        0.0,
        "measured",
        round=number,
        ideal_bits=8.0 * payload if bits is None else bits,
        payload_bytes=payload,
        frame_bytes=frame,
        wire_bytes=wire,
    )


def step(number: int, duration_s: float) -> Event:
    """A client's work."""
    return Event("run", "m", "device-0", "step", 0.0, duration_s, "measured", round=number)


def console_of(width: int) -> tuple[Console, Callable[[], str]]:
    """A console of this width, and what was printed on it."""
    file = io.StringIO()
    return Console(file=file, width=width), file.getvalue
