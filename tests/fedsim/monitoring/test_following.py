"""Event files that grow while they are read."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.meter import Event
from fedsim.monitoring.following import Following


def event(sample: int) -> Event:
    return Event("run", "method", "device-0", "total", 1.0, 0.5, "measured", sample=sample)


def line(sample: int) -> bytes:
    return event(sample).to_json().encode() + b"\n"


@given(cuts=st.lists(st.integers(0, 600), max_size=6))
def test_each_event_comes_once_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("events")
    following, found = Following(folder), list[Event]()
    whole = b"".join(line(sample) for sample in range(5))
    for end in [*sorted(cuts), len(whole)]:
        (folder / "device-0.jsonl").open("ab").close()
        with (folder / "device-0.jsonl").open("r+b") as file:
            file.write(whole[:end])
        anew, events = following.read()
        assert not anew
        found += events
    assert found == [event(sample) for sample in range(5)]
    assert following.read() == (False, [])


def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    following = Following(tmp_path / "events")
    assert following.read() == (False, [])
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "device-0.jsonl").write_bytes(line(3))
    assert following.read() == (False, [event(3)])


@pytest.mark.parametrize("how", ["gone", "shorter", "another"])
def test_another_run_begins_anew(tmp_path: Path, how: str) -> None:
    file = tmp_path / "device-0.jsonl"
    file.write_bytes(line(0) + line(1))
    following = Following(tmp_path)
    assert following.read() == (False, [event(0), event(1)])
    if how == "gone":
        (tmp_path / "device-1.jsonl").write_bytes(line(2))
        file.unlink()
    elif how == "shorter":
        file.write_bytes(line(2))
    else:
        (tmp_path / "new").write_bytes(line(2) + line(1) + line(0))
        (tmp_path / "new").rename(file)
    anew, events = following.read()
    assert anew
    assert events[0] == event(2)


def test_a_line_that_is_no_event_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "device-0.jsonl"
    file.write_bytes(b'{"x": 1}\n' + line(1))
    with caplog.at_level(logging.WARNING):
        assert Following(tmp_path).read() == (False, [event(1)])
    assert f"{file}: a line that is no event is left out: event with unknown fields ['x']" in caplog.text
