import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.meter import Event
from fedsim.measure.ledger import LedgerError, open_parquet, to_table, write_tables
from fedsim.measure.sc2 import sc2_kilobytes
from fedsim.measure.schema import Row, Summary, SummaryError, json_schema
from fedsim.measure.statistics import wilson_interval
from fedsim.measure.summary import summarise

from .runs import CODEC, LEARNED, LOCAL, sample, stream, summary_of, trade_off

DOCS = Path(__file__).parents[3] / "docs"


def only_row(summary: Summary) -> Row:
    (row,) = summary.rows
    return row


def test_every_figure_of_a_row_by_hand() -> None:
    events = [stream("f", 1_000, rate=0.08), stream("f", 720, client="b", rate=0.08)]
    for number, (payload, ms, right) in enumerate(
        [(10, 1, 1), (20, 2, 1), (30, 3, 0), (40, 4, 1), (300, 5, 1)]
    ):
        events += sample("f", number, payload=payload, wire=payload + 100, ms=ms, prediction=right, rate=0.08)
    row = only_row(summary_of(events, {"f": LEARNED}))

    assert (row.method, row.bottleneck, row.learned, row.rate, row.samples) == (
        "f",
        "factorized",
        True,
        0.08,
        5,
    )
    assert row.outcomes.model_dump() == {"answered": 5, "local": 0, "failed": 0}
    assert row.accuracy == 0.8
    assert row.accuracy_interval == wilson_interval(4, 5)
    # p95 lies at position 0.95 * 4 = 3.8 between 40 and 300.
    assert row.payload_bytes is not None
    assert row.payload_bytes.model_dump() == pytest.approx({"mean": 80, "p50": 30, "p95": 248, "max": 300})
    assert row.frame_bytes is not None
    assert row.frame_bytes.model_dump() == pytest.approx({"mean": 91, "p50": 41, "p95": 259, "max": 311})
    assert row.wire_bytes is not None
    assert row.wire_bytes.model_dump() == pytest.approx({"mean": 180, "p50": 130, "p95": 348, "max": 400})
    assert row.ideal_bytes is not None
    assert row.ideal_bytes.mean == pytest.approx(80 - 9 / 8)
    assert row.reply_wire_bytes is not None
    assert row.reply_wire_bytes.mean == 170
    # Two streams carried 1720 bytes, of which the samples account for 5 * 180 = 900.
    assert row.stream_overhead_bytes == pytest.approx(410)
    assert row.stream_overhead_detail is None
    assert row.stream_wire_bytes_mean == pytest.approx(1_720 / 5)
    assert row.sc2_kilobytes == pytest.approx((10 + 20 + 30 + 40 + 4 * 103 + 300 + 106) / 5 / 1024)
    assert list(row.latency_ms) == ["head", "send", "total"]
    assert row.latency_ms["head"].model_dump() == pytest.approx({"p50": 3, "p95": 4.8})
    assert row.latency_ms["send"].model_dump() == pytest.approx({"p50": 6, "p95": 9.6})
    assert row.latency_ms["total"].model_dump() == pytest.approx({"p50": 12, "p95": 19.2})
    assert (row.head_macs, row.head_parameters, row.tail_macs, row.tail_parameters) == (90_000, 300, 999, 40)
    assert row.head_bytes == 1_500
    assert row.provenance.bytes.model_dump() == {
        "ideal": "modelled",
        "payload": "measured",
        "frame": "measured",
        "wire": "measured",
        "stream": "measured",
    }
    assert row.provenance.latency == "measured"


def test_a_network_on_the_device_sends_nothing() -> None:
    events = [e for n in range(3) for e in sample("local", n, outcome="local")]
    row = only_row(summary_of(events, {"local": LOCAL}))
    assert (row.bottleneck, row.rate, row.accuracy, row.outcomes.local) == (None, None, 1.0, 3)
    sizes = (row.ideal_bytes, row.payload_bytes, row.frame_bytes, row.wire_bytes, row.reply_wire_bytes)
    assert sizes == (None,) * 5
    streams = (row.stream_wire_bytes_mean, row.stream_overhead_bytes, row.stream_overhead_detail)
    assert streams == (None,) * 3
    assert row.sc2_kilobytes is None
    assert set(row.provenance.bytes.model_dump().values()) == {None}
    assert list(row.latency_ms) == ["head", "total"]


def test_failed_samples_are_wrong_and_fallbacks_count_by_their_answer() -> None:
    events = [
        *sample("png", 0, payload=100, wire=200, ms=1),
        *sample("png", 1, payload=100, wire=900, outcome="failed", prediction=None, ms=5_000),
        *sample("png", 2, payload=100, wire=900, outcome="local", ms=3),
        *sample("png", 3, outcome="failed", prediction=1, ms=5_000),  # right, but too late to count
        stream("png", 2_500),
    ]
    row = only_row(summary_of(events, {"png": CODEC}))
    assert row.outcomes.model_dump() == {"answered": 1, "local": 1, "failed": 2}
    assert row.accuracy == 0.5
    assert row.accuracy_interval == wilson_interval(2, 4)
    assert row.wire_bytes is not None
    assert row.wire_bytes.max == 200
    assert row.latency_ms["total"].p50 == pytest.approx(8)  # of 4 and 12 ms
    assert row.stream_overhead_bytes == 2_500 - 2_000
    assert row.stream_wire_bytes_mean == 2_500  # all of it, for the one sample that was answered
    assert row.sc2_kilobytes is None  # no learned bottleneck


def test_one_unmeasured_sample_makes_its_level_unavailable() -> None:
    events = [
        *sample("png", 0, payload=100, wire=200),
        *sample("png", 1, payload=100, wire=None),
        stream("png", 900),
    ]
    row = only_row(summary_of(events, {"png": CODEC}))
    assert row.wire_bytes is None
    assert row.stream_overhead_bytes is None
    assert row.stream_overhead_detail == "the bytes of the samples could not be measured one by one"
    assert row.stream_wire_bytes_mean == 450  # what the streams carried is known all the same
    assert row.provenance.bytes.stream == "measured"
    assert row.provenance.bytes.wire == "unavailable"
    assert row.provenance.bytes.frame == "measured"


def test_nothing_answered_leaves_bytes_and_latency_unavailable() -> None:
    events = sample("png", 0, outcome="failed", prediction=None)
    row = only_row(summary_of(events, {"png": CODEC}))
    assert row.accuracy == 0
    assert row.payload_bytes is None
    assert row.latency_ms == {}
    assert row.provenance.bytes.payload == "unavailable"


def test_stream_bytes_need_streams_that_were_measured_and_add_up() -> None:
    sent = sample("png", 0, payload=100, wire=200)
    for streams, why in (
        ([], "no stream"),
        ([stream("png", None)], "the bytes of the streams could not be measured"),
        ([stream("png", 150)], "the samples account for 200 B, more than the 150 B of their streams"),
    ):
        row = only_row(summary_of([*sent, *streams], {"png": CODEC}))
        assert (row.stream_overhead_bytes, row.stream_overhead_detail) == (None, why)
    for streams in ([], [stream("png", 900), stream("png", None)]):
        row = only_row(summary_of([*sent, *streams], {"png": CODEC}))
        assert (row.stream_wire_bytes_mean, row.provenance.bytes.stream) == (None, "unavailable")


def test_without_all_labels_there_is_no_accuracy() -> None:
    events = [*sample("png", 0, payload=9), *sample("png", 1, payload=9, label=None)]
    row = only_row(summary_of(events, {"png": CODEC}))
    assert (row.accuracy, row.accuracy_interval) == (None, None)


def test_one_modelled_event_makes_the_row_modelled() -> None:
    events = [*sample("png", 0, payload=9), *sample("png", 1, payload=9, provenance="modelled")]
    row = only_row(summary_of(events, {"png": CODEC}))
    assert (row.provenance.latency, row.provenance.bytes.payload) == ("modelled", "modelled")


def test_the_order_of_events_does_not_matter() -> None:
    events = [e for n in range(7) for e in sample("png", n, payload=n + 2, wire=99, ms=n + 1)]
    assert summary_of(events, {"png": CODEC}).rows == summary_of(events[::-1], {"png": CODEC}).rows


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.booleans(), st.floats(0.001, 1e4)), min_size=1, max_size=12)
)
def test_figures_stay_within_what_was_measured(samples: list[tuple[int, bool, float]]) -> None:
    events = []
    for number, (payload, right, ms) in enumerate(samples):
        events += sample("f", number, payload=payload + 2, wire=payload + 99, prediction=int(right), ms=ms)
    row = only_row(summary_of(events, {"f": LEARNED}))
    sizes = [payload + 2 for payload, *_ in samples]
    assert row.payload_bytes is not None
    assert row.payload_bytes.max == max(sizes)
    assert min(sizes) <= row.payload_bytes.p50 <= row.payload_bytes.p95 <= max(sizes)
    assert row.payload_bytes.mean == pytest.approx(sum(sizes) / len(sizes))
    assert row.sc2_kilobytes == pytest.approx(sum(map(sc2_kilobytes, sizes)) / len(sizes))
    assert row.accuracy == sum(right for _, right, _ in samples) / len(samples)
    assert (
        row.latency_ms["head"].p50 <= row.latency_ms["head"].p95 <= max(ms for *_, ms in samples) * (1 + 1e-9)
    )


def test_response_counts_from_when_samples_were_due() -> None:
    late = [
        replace(event, due_s=event.start_s - n / 100)
        for n in range(3)
        for event in sample("png", n, payload=9, ms=1)
    ]
    response = only_row(summary_of(late, {"png": CODEC})).response_ms
    assert response is not None
    assert (response.p50, response.p95) == pytest.approx((14, 23), abs=1e-3)  # of 4, 14 and 24 ms
    once = [*late, *sample("png", 3, payload=9)]
    assert only_row(summary_of(once, {"png": CODEC})).response_ms is None


def test_answers_a_second_from_the_first_beginning_to_the_last_end() -> None:
    events = [event for n in range(4) for event in sample("png", n, payload=9, ms=250)]
    events += sample("png", 4, payload=9, outcome="failed", ms=250)
    # The samples begin a second after one another, and the last one, which failed, takes a second.
    assert only_row(summary_of(events, {"png": CODEC})).answered_per_s == pytest.approx(4 / 5)
    at_once = sample("png", 0, payload=9, ms=0)
    assert only_row(summary_of(at_once, {"png": CODEC})).answered_per_s is None


def test_the_rounds_of_a_federation_are_no_rows(tmp_path: Path) -> None:
    events = sample("png", 0, payload=9)
    rounds = [Event("r", method, "a", "down", 1e9, 1.0, "measured", round=1) for method in ("fedavg", "png")]
    write_tables([to_table(events), to_table(rounds)], tmp_path / "ledger.parquet")
    found = summarise(open_parquet(tmp_path / "ledger.parquet"), {}, 7, {"png": CODEC}, ["png"], 1.0)
    assert found.rows == summary_of(events, {"png": CODEC}).rows


def test_methods_have_to_agree() -> None:
    table = to_table([*sample("png", 0, payload=9), *sample("webp", 0, payload=9)])
    costs = {"png": CODEC, "webp": CODEC}
    with pytest.raises(LedgerError, match=r"\['png', 'webp'\], but of the order of rows \['png'\]"):
        summarise(table, {}, 7, costs, ["png"], 1.0)
    with pytest.raises(LedgerError, match="but of the model costs"):
        summarise(table, {}, 7, {"png": CODEC}, ["png", "webp"], 1.0)
    with pytest.raises(LedgerError, match="named twice"):
        summarise(table, {}, 7, costs, ["png", "webp", "png"], 1.0)


def test_samples_that_come_again_do_not_narrow_the_interval() -> None:
    events = [
        sample("png", number, payload=9, label=1, prediction=int(number % 5 > 0)) for number in range(40)
    ]
    table = to_table([event for one in events for event in one])

    def interval(distinct: int | None) -> tuple[float, float] | None:
        return (
            summarise(table, {}, 7, {"png": CODEC}, ["png"], 1.0, distinct=distinct).rows[0].accuracy_interval
        )

    assert interval(None) == interval(40) == interval(100) == wilson_interval(32, 40)
    assert interval(10) == wilson_interval(8, 10)


def test_events_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(LedgerError, match="png: events with different rates"):
        summary_of([*sample("png", 0, payload=9, rate=1.0), *sample("png", 1, payload=9)], {"png": CODEC})
    with pytest.raises(LedgerError, match="png: 1 samples answered by the server, 0 sent"):
        summary_of(sample("png", 0), {"png": CODEC})
    with pytest.raises(LedgerError, match="png: no sample ended"):
        summary_of(sample("png", 0, payload=9)[:-1], {"png": CODEC})


def test_a_real_summary_fits_the_published_schema(tmp_path: Path) -> None:
    schema = json.loads((DOCS / "summary.schema.json").read_text(encoding="utf-8"))
    path = tmp_path / "run" / "summary.json"
    trade_off().write(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    assert list(document) == [
        "schema",
        "scenario",
        "inputs",
        "seed",
        "environment",
        "duration_s",
        "rows",
        "federation",
        "remarks",
    ]
    assert document["schema"] == 1
    for broken in (
        {**document, "schema": 2},
        {**document, "colour": 1},
        {key: value for key, value in document.items() if key != "seed"},
        {**document, "rows": [{**document["rows"][0], "accuracy": 1.5}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema, cls=jsonschema.Draft202012Validator)


def test_the_published_schema_is_the_generated_one() -> None:
    published = json.loads((DOCS / "summary.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema(), "run: python -m fedsim.measure.summary > docs/summary.schema.json"


@pytest.mark.parametrize(
    "model", ["Summary", "Row", "Environment", "Outcomes", "ByteProvenance", "Energy", "MeterReading"]
)
def test_every_key_is_documented(model: str) -> None:
    page = (DOCS / "summary.md").read_text(encoding="utf-8")
    schema = json_schema()
    properties = schema["properties"] if model == "Summary" else schema["$defs"][model]["properties"]
    missing = [key for key in properties if f"`{key}" not in page and f".{key}`" not in page]
    assert missing == []


def test_the_module_prints_the_schema() -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "fedsim.measure.summary"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(printed) == json_schema()


def test_reading_returns_what_was_written(tmp_path: Path) -> None:
    summary = trade_off()
    summary.write(tmp_path / "summary.json")
    assert Summary.read(tmp_path / "summary.json") == summary
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def broken(document: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**document, **changes})


def test_other_files_are_refused_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(SummaryError, match=r"summary\.json: cannot be read as JSON"):
        Summary.read(path)
    path.write_text("{")
    with pytest.raises(SummaryError, match=r"summary\.json: cannot be read as JSON"):
        Summary.read(path)
    path.write_text("[]")
    with pytest.raises(SummaryError, match="schema is None, expected 1"):
        Summary.read(path)
    document = json.loads(trade_off().to_json())
    path.write_text(broken(document, schema=2))
    with pytest.raises(SummaryError, match="schema is 2, expected 1"):
        Summary.read(path)
    path.write_text(broken(document, rows=[{**document["rows"][0], "accuracy": 1.5}]))
    with pytest.raises(SummaryError, match=r"rows\.0\.accuracy is 1\.5"):
        Summary.read(path)
