import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.meter import Event
from fedsim.errors import FedsimError
from fedsim.measure.ledger import (
    SCHEMA,
    LedgerError,
    as_dataset,
    check,
    open_parquet,
    read_events,
    read_parquet,
    read_tables,
    to_table,
    write_parquet,
    write_tables,
)

TOTAL = Event(
    run="r",
    method="raw",
    client="a",
    stage="total",
    start_s=1_700_000_000.25,
    duration_s=0.004,
    provenance="measured",
    sample=0,
    outcome="answered",
    label=3,
    prediction=3,
)
SEND = replace(
    TOTAL, stage="send", outcome=None, label=None, prediction=None, payload_bytes=30, frame_bytes=41
)


def write_lines(folder: Path, name: str, *lines: str, end: str = "\n") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(lines) + end)
    return path


def total(method: str, sample: int, **changes: object) -> Event:
    return replace(TOTAL, method=method, sample=sample, **changes)


def test_events_of_all_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    first, second, third = (replace(TOTAL, sample=n) for n in range(3))
    write_lines(tmp_path, "b.jsonl", third.to_json())
    write_lines(tmp_path, "a.jsonl", first.to_json(), second.to_json())
    write_lines(tmp_path, "notes.txt", "not a ledger")
    assert read_events(tmp_path) == [first, second, third]


def test_every_torn_end_of_a_last_line_is_skipped(tmp_path: Path) -> None:
    whole = replace(SEND, detail="a } in { text, \u00e9").to_json()
    for length in range(len(whole)):
        write_lines(tmp_path, "a.jsonl", TOTAL.to_json(), whole[:length], end="")
        assert read_events(tmp_path) == [TOTAL], whole[:length]


def test_a_whole_last_line_without_its_line_end_counts(tmp_path: Path) -> None:
    write_lines(tmp_path, "a.jsonl", TOTAL.to_json(), SEND.to_json(), end="")
    assert read_events(tmp_path) == [TOTAL, SEND]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (TOTAL.to_json()[:-9], "not an event"),
        ("", "not an event"),
        ("7", "not an event"),
        ('{"run": "r"}', "not an event"),
        (TOTAL.to_json()[:-1] + ', "colour": 3}', "colour"),
        (
            json.dumps({**asdict(TOTAL), "duration_s": -0.5}),
            "duration_s is -0.5, expected a finite number, 0 or more",
        ),
        (json.dumps({**asdict(TOTAL), "duration_s": float("nan")}), "duration_s is nan"),
        (json.dumps({**asdict(TOTAL), "start_s": 10**400}), "start_s is 1000"),
        (json.dumps({**asdict(TOTAL), "sample": 1.5}), "sample is 1.5, expected a whole number"),
        (
            json.dumps({**asdict(TOTAL), "payload_bytes": True}),
            "payload_bytes is True, expected a whole number",
        ),
        (json.dumps({**asdict(TOTAL), "method": 3}), "method is 3, expected text"),
        (json.dumps({**asdict(TOTAL), "method": None}), "method is missing"),
        (
            json.dumps({**asdict(TOTAL), "outcome": "lost"}),
            "outcome is 'lost', expected one of answered, local, failed",
        ),
        (
            json.dumps({**asdict(TOTAL), "provenance": "guessed"}),
            "expected one of measured, modelled, unavailable",
        ),
    ],
)
def test_a_bad_line_in_the_middle_is_named_with_its_file(tmp_path: Path, line: str, said: str) -> None:
    write_lines(tmp_path, "camera-7.jsonl", TOTAL.to_json(), line, SEND.to_json())
    with pytest.raises(LedgerError) as caught:
        read_events(tmp_path)
    assert "camera-7.jsonl, line 2: " in str(caught.value)
    assert said in str(caught.value)


def test_a_bad_last_line_with_its_line_end_is_no_torn_line(tmp_path: Path) -> None:
    write_lines(tmp_path, "a.jsonl", TOTAL.to_json(), TOTAL.to_json()[:40])
    with pytest.raises(LedgerError, match=r"a\.jsonl, line 2"):
        read_events(tmp_path)


def test_a_last_line_that_is_json_but_no_event_is_an_error(tmp_path: Path) -> None:
    write_lines(tmp_path, "a.jsonl", TOTAL.to_json(), '{"run": "r"}', end="")
    with pytest.raises(LedgerError, match=r"a\.jsonl, line 2"):
        read_events(tmp_path)


def test_an_absent_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such folder"):
        read_events(tmp_path / "events")
    with pytest.raises(LedgerError, match=r"no \*\.jsonl file"):
        read_events(tmp_path)
    with pytest.raises(LedgerError, match=r"no such folder; .* as \*\.jsonl or \*\.parquet"):
        list(read_tables(tmp_path / "events"))
    with pytest.raises(LedgerError, match=r"no \*\.jsonl and no \*\.parquet file"):
        list(read_tables(tmp_path))


names = st.text(min_size=1, max_size=12)
counts = st.none() | st.integers(0, 2**63 - 1)
amounts = st.none() | st.floats(0, allow_infinity=False, allow_nan=False)
events = st.builds(
    Event,
    run=names,
    method=names,
    client=names,
    stage=st.sampled_from(["head", "send", "total", "stream"]),
    start_s=st.floats(allow_infinity=False, allow_nan=False),
    duration_s=st.floats(0, allow_infinity=False, allow_nan=False),
    provenance=st.sampled_from(["measured", "modelled", "unavailable"]),
    rate=st.none() | st.floats(allow_infinity=False, allow_nan=False),
    sample=counts,
    ideal_bits=amounts,
    payload_bytes=counts,
    wire_bytes=counts,
    outcome=st.none() | st.sampled_from(["answered", "local", "failed"]),
    label=counts,
    detail=st.none() | st.text(max_size=20),
)


@settings(deadline=None)  # the first table of a process imports much
@given(st.lists(events, max_size=5))
def test_json_and_table_keep_every_event_exactly(written: list[Event]) -> None:
    assert [Event.from_json(event.to_json()) for event in written] == written
    assert [Event(**row) for row in to_table(written).to_pylist()] == written


@settings(deadline=None)
@given(st.lists(st.lists(events, max_size=4), min_size=1, max_size=4))
def test_a_folder_of_both_kinds_of_files_is_read_and_written_in_order(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[Event]]
) -> None:
    folder = tmp_path_factory.mktemp("events")
    for number, part in enumerate(parts):
        if number % 2:
            pq.write_table(to_table(part), folder / f"{number}.parquet", row_group_size=2)
        else:
            write_lines(
                folder, f"{number}.jsonl", *(event.to_json() for event in part), end="\n" * bool(part)
            )
    (folder / "notes.txt").write_text("no events")
    path = folder / "out" / "ledger.parquet"
    write_tables(read_tables(folder), path)
    expected = to_table([event for part in parts for event in part])
    assert read_parquet(path).equals(expected, check_metadata=True)


def test_a_long_ledger_is_read_and_written_in_pieces(tmp_path: Path) -> None:
    count = 300_000
    long = pa.concat_tables([to_table([TOTAL])] * 3).take(np.arange(count) % 3)
    long = long.set_column(SCHEMA.get_field_index("sample"), SCHEMA.field("sample"), pa.array(range(count)))
    (tmp_path / "events").mkdir()
    pq.write_table(long, tmp_path / "events" / "all.parquet")
    pieces = list(read_tables(tmp_path / "events"))
    assert max(piece.num_rows for piece in pieces) < count / 2
    write_tables(pieces, tmp_path / "ledger.parquet")
    file = pq.ParquetFile(tmp_path / "ledger.parquet")
    assert max(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)) < count / 2
    assert read_parquet(tmp_path / "ledger.parquet").equals(long)
    check(open_parquet(tmp_path / "ledger.parquet"), {"raw": range(count)})


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("method", None, "method is missing"),
        ("start_s", None, "start_s is missing"),
        ("start_s", float("inf"), "start_s is inf, expected a finite number"),
        ("duration_s", -0.5, "duration_s is -0.5, expected a finite number, 0 or more"),
        ("joules", float("nan"), "joules is nan, expected a finite number, 0 or more"),
        ("rate", float("nan"), "rate is nan, expected a finite number"),
        ("sample", -1, "sample is -1, expected a whole number, 0 or more"),
        ("outcome", "lost", "outcome is 'lost', expected one of answered, local, failed"),
        ("provenance", "guessed", "provenance is 'guessed', expected one of measured, modelled, unavailable"),
    ],
)
def test_a_bad_row_is_named_with_its_file(tmp_path: Path, column: str, value: object, said: str) -> None:
    rows = [asdict(TOTAL), asdict(replace(TOTAL, rate=-1.0, start_s=-1.0)), {**asdict(TOTAL), column: value}]
    schema = pa.schema([field.with_nullable(True) for field in SCHEMA])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "fleet.parquet", row_group_size=1)
    with pytest.raises(LedgerError) as caught:
        list(read_tables(tmp_path))
    assert str(caught.value) == f"{tmp_path / 'fleet.parquet'}, row 2: {said}"


def test_other_files_are_refused_as_events(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(LedgerError, match=r"x\.parquet: cannot be read as events"):
        list(read_tables(tmp_path))
    pq.write_table(to_table([TOTAL]).drop_columns(["joules"]), path)
    with pytest.raises(LedgerError, match=r"x\.parquet: columns .* expected"):
        list(read_tables(tmp_path))


def test_a_ledger_whose_source_fails_is_not_written(tmp_path: Path) -> None:
    write_lines(tmp_path / "events", "a.jsonl", TOTAL.to_json())
    write_lines(tmp_path / "events", "b.jsonl", "7")
    with pytest.raises(LedgerError, match=r"b\.jsonl, line 1"):
        write_tables(read_tables(tmp_path / "events"), tmp_path / "run" / "ledger.parquet")
    assert list((tmp_path / "run").iterdir()) == []


def test_parquet_returns_what_was_written_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "ledger.parquet"
    table = write_parquet([TOTAL, SEND], path)
    assert read_parquet(path).equals(table, check_metadata=True)
    assert read_parquet(path).schema.equals(SCHEMA)
    assert [p.name for p in path.parent.iterdir()] == ["ledger.parquet"]


def test_a_ledger_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    write_parquet([TOTAL], path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="event 1: duration_s is -1"):
        write_parquet([TOTAL, replace(TOTAL, duration_s=-1.0)], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["ledger.parquet"]


def test_a_ledger_of_before_there_were_schedules_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    pq.write_table(to_table([TOTAL, SEND]).drop_columns(["due_s"]), path)
    assert read_parquet(path).equals(to_table([TOTAL, SEND]), check_metadata=True)
    assert open_parquet(path).to_table(["due_s"])["due_s"].null_count == 2


def test_columns_are_those_that_the_documentation_describes() -> None:
    page = Path(__file__).parents[3] / "docs" / "summary.md"
    section = page.read_text(encoding="utf-8").split("## ledger.parquet")[1]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    documented = [(row[1].strip(" `"), row[2].strip()) for row in rows]
    assert documented == [(field.name, str(field.type)) for field in SCHEMA]


def test_other_files_are_refused_as_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(LedgerError, match=r"x\.parquet: cannot be read"):
        read_parquet(path)
    path.write_bytes(b"not parquet")
    with pytest.raises(LedgerError, match=r"x\.parquet: cannot be read"):
        read_parquet(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(LedgerError, match="ledger version none, expected 1"):
        read_parquet(path)
    pq.write_table(to_table([TOTAL]).replace_schema_metadata({"fedsim.ledger": "2"}), path)
    with pytest.raises(LedgerError, match="ledger version 2, expected 1"):
        read_parquet(path)
    pq.write_table(to_table([TOTAL]).drop_columns(["joules"]), path)
    with pytest.raises(LedgerError, match="columns"):
        read_parquet(path)


def test_ledger_errors_are_reported_by_the_command_line() -> None:
    assert issubclass(LedgerError, FedsimError)


def test_a_complete_run_passes_the_check() -> None:
    run = [total("raw", 0), total("raw", 1, outcome="failed"), total("png", 0, outcome="local"), SEND]
    stream = replace(SEND, stage="stream", sample=None)
    check([*run, stream], {"raw": {0, 1}, "png": {0}})


def test_everything_that_is_not_exactly_once_is_named() -> None:
    run = [total("raw", 0), total("raw", 2), total("raw", 2), total("raw", 9), total("png", 5, outcome=None)]
    with pytest.raises(LedgerError) as caught:
        check(run, {"raw": {0, 1, 2}, "png": {5}, "webp": {4}})
    message = str(caught.value)
    assert "raw: missing: sample 1;" in message
    assert "raw: ended more than once: sample 2;" in message
    assert "raw: not asked for: sample 9;" in message or message.endswith("raw: not asked for: sample 9")
    assert "png: without an outcome: sample 5;" in message
    assert "webp: missing: sample 4" in message


def test_a_method_that_nobody_asked_for_is_named() -> None:
    with pytest.raises(LedgerError, match="jpeg: not asked for: sample 0"):
        check([total("raw", 0), total("jpeg", 0)], {"raw": {0}})


def test_long_lists_of_samples_are_cut() -> None:
    with pytest.raises(LedgerError, match="missing: sample 0, 1, 2, 3, 4, 5, 6, 7 and 92 more"):
        check([], {"raw": set(range(100))})


@given(st.lists(st.integers(0, 5), max_size=8), st.sets(st.integers(0, 5)))
def test_the_check_passes_exactly_when_each_sample_ended_once(ended: list[int], wanted: set[int]) -> None:
    run = [total("raw", sample) for sample in ended]
    for events in (run, to_table(run), as_dataset(run)):
        for expected in (wanted, np.array([*wanted], np.int64)):
            if sorted(ended) == sorted(wanted):
                check(events, {"raw": expected})
            else:
                with pytest.raises(LedgerError):
                    check(events, {"raw": expected})


def test_samples_may_be_said_as_a_range() -> None:
    run = [total("raw", sample) for sample in (7, 3, 5)]
    check(run, {"raw": range(3, 8, 2)})
    with pytest.raises(LedgerError, match=r"missing: sample 4, 6$"):
        check([*run], {"raw": range(3, 8)})
