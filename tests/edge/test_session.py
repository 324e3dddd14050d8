"""Samples through a model: what the failure of one does to the others, and what the clock has in it."""

import asyncio
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import torch

from edge.bundle import load_device
from edge.journal import Journal
from edge.pace import Pace
from edge.samples import Samples
from edge.schedule import Schedule
from edge.session import Plan, run_model


@pytest.fixture
def session(models, samples, serve, tmp_path, events_of):
    """Runs samples through a half against a server of ``plain``; the tally and the events."""
    runs = iter(range(100))

    def run(half, limit=3, fallback=None, wait_s=0.0, let_go=None, pace=None, **plan):
        out = tmp_path / f"events.{next(runs)}.jsonl"
        journal = Journal(out)
        found = []

        async def check(server):
            chosen = Plan(run="r", client="c", server=server.address, **plan)
            mine = Samples(samples, limit=limit)
            running = run_model(half, mine, chosen, journal, fallback, pace=pace or Pace(), let_go=let_go)
            found.append(await asyncio.wait_for(running, 30))

        serve([models["plain"]], check, wait_s=wait_s)
        journal.close()
        events = events_of(out)
        events.pop(None, None)
        return found[0], events

    return run


def spoilt(monkeypatch, half, method, condition, spoil):
    """Let ``half.method`` end in ``spoil`` for arguments that meet a condition."""
    kept = getattr(type(half), method)

    def call(self, value, *rest):
        return spoil(self, value) if self is half and condition(value) else kept(self, value, *rest)

    monkeypatch.setattr(type(half), method, call)


class Panic(BaseException):
    """What native code raises may not derive from Exception."""


def raising(error):
    def spoil(self, value):
        raise error

    return spoil


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize(
    ("name", "method", "error", "told"),
    [
        ("plain", "features", RuntimeError("no kernel"), "RuntimeError: no kernel"),
        ("plain", "encode", KeyError("defect"), "KeyError: 'defect'"),
        ("plain", "encode", Panic("index out of bounds"), "Panic: index out of bounds"),
        ("whole", "features", MemoryError(), "MemoryError: "),
    ],
)
def test_a_sample_that_cannot_be_computed_fails_alone(
    models, samples, session, monkeypatch, in_flight, name, method, error, told
):
    half = load_device(models[name])
    bad = Samples(samples).image(2)
    value = bad if method == "features" else half.features(bad)
    spoilt(monkeypatch, half, method, lambda given: torch.equal(given, value), raising(error))
    tally, events = session(half, limit=5, in_flight=in_flight)
    assert tally.failed == 1
    totals = {number: stages["total"][0] for (_, number), stages in events.items()}
    usual = "local" if name == "whole" else "answered"
    assert {n: total["outcome"] for n, total in totals.items()} == {
        **dict.fromkeys(range(100, 105), usual),
        102: "failed",
    }
    assert totals[102]["detail"] == told


def test_features_that_are_not_finite_fail_alone(models, samples, session, monkeypatch):
    half = load_device(models["plain"])
    features, bad = type(half).features, Samples(samples).image(1)
    spoilt(
        monkeypatch,
        half,
        "features",
        lambda given: torch.equal(given, bad),
        lambda _, image: features(load_device(models["plain"]), image) * float("nan"),
    )
    _, events = session(half)
    assert "not finite" in events["plain", 101]["total"][0]["detail"]


def test_a_fallback_that_fails_says_both(models, session, monkeypatch):
    half, whole = load_device(models["plain"]), load_device(models["whole"])
    spoilt(monkeypatch, whole, "features", lambda _: True, raising(RuntimeError("no kernel")))
    tally, events = session(half, limit=1, fallback=whole, wait_s=20.0, deadline_s=0.2)
    assert tally.failed == 1
    detail = events["plain", 100]["total"][0]["detail"]
    assert detail.startswith("no answer within 0.2 s")
    assert detail.endswith("; fallback: RuntimeError: no kernel")


def test_ideal_bits_do_not_hold_up_the_replies_of_others(models, session, monkeypatch):
    half = load_device(models["plain"])
    threads = []

    def slowly(payload):
        threads.append(threading.current_thread())
        time.sleep(0.02)
        return 8.0 * len(payload)

    monkeypatch.setattr(half.bottleneck, "ideal_bits", slowly)
    _, events = session(half, limit=8, in_flight=8)
    assert len(threads) == 8
    assert threading.main_thread() not in threads
    assert all(stages["send"][0]["ideal_bits"] > 0 for stages in events.values())


def test_a_bottleneck_that_cannot_say_its_bits_loses_no_answer(models, session, monkeypatch):
    half = load_device(models["plain"])
    monkeypatch.setattr(half.bottleneck, "ideal_bits", raising(RuntimeError("odd")).__get__(half))
    _, events = session(half, limit=1)
    total = events["plain", 100]["total"][0]
    assert (total["outcome"], total["detail"]) == ("answered", "ideal_bits: RuntimeError: odd")
    assert "ideal_bits" not in events["plain", 100]["send"][0]


@pytest.mark.parametrize("name", ["plain", "whole"])
def test_reading_an_image_is_on_no_clock(models, session, monkeypatch, name):
    image = Samples.image

    def slowly(self, position):
        time.sleep(0.2)
        return image(self, position)

    monkeypatch.setattr(Samples, "image", slowly)
    _, events = session(load_device(models[name]))
    assert all(stages["total"][0]["duration_s"] < 0.2 for stages in events.values())


def test_samples_on_time_are_not_early_and_have_no_wait_in_them(models, session):
    _, events = session(load_device(models["whole"]), limit=4, interval_s=0.1)
    starts = [events["whole", number]["total"][0]["start_s"] for number in range(100, 104)]
    assert all(b - a >= 0.09 for a, b in pairwise(starts))
    assert all(stages["total"][0]["duration_s"] < 0.1 for stages in events.values())


def test_the_wait_for_its_turn_is_part_of_a_samples_latency(models, session, monkeypatch):
    """An overloaded device must not look fast because its samples began late."""
    half = load_device(models["whole"])
    features = type(half).features
    monkeypatch.setattr(
        type(half), "features", lambda self, image: (time.sleep(0.1), features(self, image))[1]
    )
    _, events = session(half, limit=5, interval_s=0.02, warmup=0)
    totals = [events["whole", number]["total"][0] for number in range(100, 105)]
    for position, total in enumerate(totals):
        assert total["duration_s"] >= 0.1 + 0.08 * position - 0.005
        assert total["start_s"] - totals[0]["start_s"] == pytest.approx(0.02 * position, abs=0.015)


def times(events, name):
    """Of each sample in its order: when it was due, began and ended."""
    totals = [events[name, number]["total"][0] for number in sorted(number for _, number in events)]
    return [(t["due_s"], t["start_s"], t["start_s"] + t["duration_s"]) for t in totals]


def test_no_sample_begins_before_it_is_due_and_one_that_is_late_begins_at_once(models, session, monkeypatch):
    half = load_device(models["whole"])
    features = type(half).features
    monkeypatch.setattr(
        type(half), "features", lambda self, image: (time.sleep(0.05), features(self, image))[1]
    )
    due = np.array([0.1, 0.1, 0.11, 0.4])  # the second and third have to wait for the device
    _, events = session(half, limit=4, warmup=0, schedule=Schedule(due))
    found = times(events, "whole")
    assert [at - found[0][0] for at, *_ in found] == pytest.approx((due - due[0]).tolist(), abs=1e-5)
    assert all(began >= at for at, began, _ in found)
    for (*_, ended), (at, began, _) in pairwise(found):
        assert began >= max(ended, at)
    lateness = [began - at for at, began, _ in found]
    assert lateness[1] >= 0.05
    assert lateness[2] >= 0.09


def test_pauses_count_from_the_answer_before(models, session):
    pauses = np.array([0.05, 0.0, 0.2, 0.1])
    _, events = session(load_device(models["plain"]), limit=4, schedule=Schedule(pauses, paused=True))
    found = times(events, "plain")
    for (*_, ended), (at, began, _), pause in zip(found, found[1:], pauses[1:], strict=False):
        assert at == pytest.approx(ended + pause, abs=1e-5)
        assert began >= at


def test_a_schedule_counts_from_when_the_device_is_let_go(models, session):
    let_go_at = []

    async def let_go():
        await asyncio.sleep(0.2)
        let_go_at.append(time.time())

    _, events = session(load_device(models["plain"]), limit=1, schedule=Schedule(np.zeros(1)), let_go=let_go)
    ((due, began, _),) = times(events, "plain")
    assert let_go_at[0] - 1e-3 <= due <= began


def test_a_schedule_has_as_many_entries_as_the_device_has_samples(models, session):
    with pytest.raises(ValueError, match="a schedule of 2 samples, but the device has 3"):
        session(load_device(models["whole"]), schedule=Schedule(np.zeros(2)))


@pytest.mark.parametrize("in_flight", [1, 3])
def test_stages_last_as_long_as_on_the_modelled_device(models, session, in_flight):
    pace = Pace(head_s=0.1, encode_s=0.05)
    tally, events = session(load_device(models["plain"]), pace=pace, in_flight=in_flight)
    assert tally.slower == 0
    busy = []
    for _, stages in sorted(events.items()):
        head, encode, send, total = (stages[name][0] for name in ("head", "encode", "send", "total"))
        assert head["duration_s"] >= 0.1
        assert encode["duration_s"] >= 0.05
        assert total["duration_s"] >= 0.15
        assert head["provenance"] == encode["provenance"] == "modelled"
        assert send["provenance"] == total["provenance"] == "measured"
        assert "detail" not in total
        busy.append((head["start_s"], encode["start_s"] + encode["duration_s"]))
    assert len(busy) == 3
    # One processor: a sample is through before the next begins, though they are in flight together.
    assert all(later[0] >= earlier[1] - 1e-5 for earlier, later in pairwise(sorted(busy)))


def test_where_this_host_is_slower_the_stage_is_measured_and_it_is_said(
    models, samples, session, monkeypatch, capsys
):
    half = load_device(models["plain"])
    second = Samples(samples).image(1)
    features = type(half).features
    spoilt(
        monkeypatch,
        half,
        "features",
        lambda given: torch.equal(given, second),
        lambda _, image: (time.sleep(0.3), features(load_device(models["plain"]), image))[1],
    )
    tally, events = session(half, pace=Pace(head_s=0.2))
    assert tally.slower == 1
    heads = [events["plain", number]["head"][0] for number in (100, 101, 102)]
    assert [head["provenance"] for head in heads] == ["modelled", "measured", "modelled"]
    assert heads[1]["duration_s"] >= 0.3
    details = [events["plain", number]["total"][0].get("detail") for number in (100, 101, 102)]
    assert details == [None, "host slower than the modelled device: head", None]
    assert "plain: host slower than the modelled device, for 1 of 3 samples\n" in capsys.readouterr().err
    assert {events["plain", 100]["encode"][0]["provenance"]} == {"measured"}  # as it was not paced


def test_a_model_without_an_encoder_has_no_time_for_one(models, session):
    with pytest.raises(ValueError, match="model whole runs whole on the device: it has no encode_s"):
        session(load_device(models["whole"]), pace=Pace(0.1, 0.1))
