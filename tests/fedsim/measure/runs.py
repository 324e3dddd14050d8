"""Ledgers of small runs, event by event, for the tests of what derives from a ledger."""

from collections.abc import Sequence
from dataclasses import replace

from edge.meter import Event
from fedsim.measure.ledger import to_table
from fedsim.measure.schema import Summary
from fedsim.measure.summary import ModelCost, summarise

LOCAL = ModelCost(None, False, head_macs=1_234_567, head_parameters=5_000, tail_macs=0, tail_parameters=0)
CODEC = ModelCost("png", False, head_macs=0, head_parameters=0, tail_macs=1_234_567, tail_parameters=5_000)
LEARNED = ModelCost(
    "factorized",
    True,
    head_macs=90_000,
    head_parameters=300,
    tail_macs=999,
    tail_parameters=40,
    head_bytes=1_500,
)


def sample(
    method: str,
    number: int,
    *,
    outcome: str = "answered",
    label: int | None = 1,
    prediction: int | None = 1,
    payload: int | None = None,
    wire: int | None = None,
    ms: float = 1.0,
    rate: float | None = None,
    client: str = "a",
    provenance: str = "measured",
    stages: bool = False,
) -> list[Event]:
    """The events of one sample: head takes ``ms``, send 2 ``ms``, total 4 ``ms``.

    Nothing is sent without a ``payload``; its frame is 11 bytes larger, its ideal 9 bits smaller. With
    ``stages`` all other stages of what is sent take ``ms`` as well.
    """
    common = {
        "run": "r",
        "method": method,
        "client": client,
        "start_s": 1e9 + number,
        "provenance": provenance,
        "rate": rate,
        "sample": number,
    }
    events = [Event(stage="head", duration_s=ms / 1e3, **common)]
    if payload is not None:
        sent = {"ideal_bits": 8 * payload - 9, "payload_bytes": payload, "frame_bytes": payload + 11}
        reply = None if wire is None else 170
        events.append(
            Event(
                stage="send",
                duration_s=2 * ms / 1e3,
                wire_bytes=wire,
                reply_wire_bytes=reply,
                **sent,
                **common,
            )
        )
        for stage in ("encode", "queue", "decode", "tail") if stages else ():
            events.append(Event(stage=stage, duration_s=ms / 1e3, **common))
    end = {"outcome": outcome, "label": label, "prediction": prediction}
    events.append(Event(stage="total", duration_s=4 * ms / 1e3, **end, **common))
    return events


def stream(method: str, wire: int | None, client: str = "a", rate: float | None = None) -> Event:
    """The event of one stream, with all its bytes towards the server."""
    return Event("r", method, client, "stream", 1e9, 1.0, "measured", rate=rate, wire_bytes=wire)


def machine(
    method: str,
    meter: str,
    joules: float | None,
    *,
    stage: str = "machine-package",
    seconds: float = 4.0,
    rate: float | None = None,
    detail: str = "RAPL counter",
) -> Event:
    """What a meter of the machine said of a method; unavailable without joules."""
    provenance = "unavailable" if joules is None else "measured"
    more = {"rate": rate, "joules": joules, "detail": detail}
    return Event("r", method, meter, stage, 1e9, seconds, provenance, **more)


def metered(
    events: Sequence[Event], joules: dict[str, float], devices: dict[str, float], clients: Sequence[str] = "a"
) -> list[Event]:
    """The events with joules of each stage of a sample, and an event of each of these of each device.

    ``total`` has those of the other stages together.
    """
    found = []
    for event in events:
        spent = joules.get(event.stage)
        if event.stage == "total":
            mine = [one.stage for one in events if (one.sample, one.method) == (event.sample, event.method)]
            spent = sum(joules.get(stage, 0.0) for stage in mine)
        found.append(replace(event, joules=spent))
    for method, rate in {event.method: event.rate for event in events}.items():
        for stage, spent in devices.items():
            common = {"rate": rate, "joules": spent}
            found += [
                Event("r", method, client, stage, 1e9, 60.0, "modelled", **common) for client in clients
            ]
    return found


def summary_of(events: Sequence[Event], costs: dict[str, ModelCost], duration_s: float = 1.5) -> Summary:
    """The summary, rows in the order of ``costs``."""
    return summarise(to_table(events), {"name": "tiny", "seed": 7}, 7, costs, list(costs), duration_s)


def trade_off() -> Summary:
    """Eleven methods of 20 samples, with sizes and accuracies such as a small data set gives."""
    methods = [
        ("local", LOCAL, None, None, 0),
        ("raw-image", CODEC, None, 64, 0),
        ("png", CODEC, None, 110, 0),
        ("jpeg", CODEC, 50.0, 300, 1),
        ("webp", CODEC, 50.0, 75, 2),
        ("float32", CODEC, None, 512, 0),
        ("float16", CODEC, None, 256, 0),
        ("integer", CODEC, 8.0, 128, 0),
        ("factorized beta=0.02", LEARNED, 0.02, 16, 0),
        ("factorized beta=0.08", LEARNED, 0.08, 12, 1),
        ("factorized beta=0.32", LEARNED, 0.32, 8, 3),
    ]
    events = []
    for name, _, rate, size, wrong in methods:
        outcome = "local" if size is None else "answered"
        wire = None if size is None else size + 160
        for number in range(20):
            prediction = 0 if number < wrong else 1
            events += sample(
                name, number, outcome=outcome, prediction=prediction, payload=size, wire=wire, rate=rate
            )
    return summary_of(events, {name: cost for name, cost, *_ in methods})


def quickstart() -> Summary:
    """A run with the labels and sizes of the quickstart: 599 samples a method."""
    methods = [
        ("local", LOCAL, None, None),
        ("raw-image", CODEC, None, 64),
        ("png", CODEC, None, 140),
        ("jpeg-50", CODEC, 50.0, 200),
        ("webp-50", CODEC, 50.0, 100),
        ("float32", CODEC, None, 4096),
        ("float16", CODEC, None, 2048),
        ("integer-8", CODEC, 8.0, 1032),
        ("factorized-beta0.03", LEARNED, 0.03, 41),
        ("factorized-beta0.1", LEARNED, 0.1, 28),
        ("factorized-beta0.3", LEARNED, 0.3, 15),
    ]
    events = []
    for name, _, rate, size in methods:
        wire = None if size is None else size + 123
        for number in range(599):
            outcome = "local" if size is None else "answered"
            common = {"prediction": int(number >= 6), "rate": rate, "ms": 1.23 + number % 30}
            events += sample(name, number, outcome=outcome, payload=size, wire=wire, stages=True, **common)
    return summary_of(events, {name: cost for name, cost, *_ in methods})


def camera_fleet() -> Summary:
    """Four ways of a network over a radio with a tail: 10 samples of two devices each, energy of all."""
    sizes = {"local": None, "png": 900, "float16": 2_048, "factorized": 41}
    costs = dict(zip(sizes, (LOCAL, CODEC, CODEC, LEARNED), strict=True))
    bits = {"png": 0.010, "float16": 0.022, "factorized": 0.0005}
    heads = {"local": 0.9, "png": 0.0, "float16": 0.15, "factorized": 0.16}
    events = []
    for name, size in sizes.items():
        mine = []
        for number in range(10):
            outcome = "local" if size is None else "answered"
            client = "ab"[number % 2]
            mine += sample(
                name, number, outcome=outcome, payload=size, client=client, stages=size is not None
            )
        joules = {"head": heads[name], "encode": 0.004, "send": bits.get(name, 0.0)}
        radio = {} if size is None else {"promotion": 1.6, "radio-tail": 9.4}
        events += metered(mine, joules, {**radio, "base": 150.0, "radio-idle": 0.6}, "ab")
    return summary_of(events, costs)
