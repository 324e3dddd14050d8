import time

import pytest

from edge.clock import Clock
from edge.journal import Journal
from edge.meter import Event
from edge.recorder import Recorder


@pytest.fixture
def recorded(tmp_path):
    """A recorder, and what it has written so far."""
    journal = Journal(tmp_path / "events.jsonl")
    recorder = Recorder(journal, "run", "method", "client", 0.5)
    yield recorder, lambda: [Event.from_json(line) for line in journal_lines(tmp_path / "events.jsonl")]
    journal.close()


def journal_lines(path):
    return path.read_text().splitlines()


def test_a_sample_is_its_stages_and_their_total(recorded):
    recorder, events = recorded
    clock = Clock()
    at = clock.add("head", clock.began, 0.25)
    clock.stop(clock.add("send", at, 0.5))
    recorder.sample(7, 3, clock, "answered", sent={"payload_bytes": 11}, prediction=4, detail="odd")
    head, send, total = events()
    assert [event.stage for event in (head, send, total)] == ["head", "send", "total"]
    assert {(e.run, e.method, e.client, e.rate, e.sample) for e in (head, send, total)} == {
        ("run", "method", "client", 0.5, 7)
    }
    assert (head.payload_bytes, send.payload_bytes, total.payload_bytes) == (None, 11, None)
    assert send.start_s == pytest.approx(head.start_s + 0.25)
    assert total.duration_s == pytest.approx(0.75)
    assert (total.outcome, total.label, total.prediction, total.detail) == ("answered", 3, 4, "odd")


def test_what_was_due_and_what_was_waited_out_is_told_apart(recorded):
    recorder, events = recorded
    clock = Clock()
    clock.due = clock.began - 0.5
    at = clock.add("head", clock.began, 0.25, modelled=True)
    clock.stop(clock.add("encode", at, 0.5))
    recorder.sample(7, 3, clock, "local")
    head, encode, total = events()
    assert [event.provenance for event in (head, encode, total)] == ["modelled", "measured", "measured"]
    assert [event.due_s for event in (head, encode)] == [None, None]
    assert total.due_s == pytest.approx(total.start_s - 0.5)


def test_times_are_unix_times_and_a_clock_that_runs_is_stopped(recorded):
    recorder, events = recorded
    before = time.time()
    recorder.sample(0, None, Clock(), "failed")
    (total,) = events()
    assert before - 0.1 <= total.start_s <= time.time() + 0.1
    assert 0 <= total.duration_s <= time.time() - before + 0.1


def test_a_stream(recorded):
    recorder, events = recorded
    recorder.stream(12.5, 2.0, wire_bytes=99, detail="closed")
    (stream,) = events()
    assert (stream.stage, stream.start_s, stream.duration_s) == ("stream", 12.5, 2.0)
    assert (stream.wire_bytes, stream.detail, stream.sample) == (99, "closed", None)
