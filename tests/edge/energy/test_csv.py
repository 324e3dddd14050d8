import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.energy import CsvMeter, MeterError, read_power_log


def log(folder, text, **options):
    path = folder / "log.csv"
    path.write_text(text)
    return read_power_log(path, **options)


@pytest.mark.parametrize("header", ["", "t,watts\n", " T , Watts \r\n\n", "\ufefft,watts\n"])
def test_with_a_header_and_without(tmp_path, header):
    read = log(tmp_path, header + "0,1\n\n1.5, 2\n2,2.5e0\n")
    assert list(read.times) == [0, 1.5, 2]
    assert list(read.watts) == [1, 2, 2.5]


def test_unix_time_and_time_of_an_origin(tmp_path):
    read = log(tmp_path, "0,4\n1,4\n2,4\n", origin_s=1.7e9)
    reading = read.reading(1.7e9 + 0.5, 1.7e9 + 2)
    assert (reading.joules, reading.seconds, reading.provenance) == (6.0, 1.5, "measured")
    assert "log.csv" in reading.detail
    assert read.reading(0.5, 2).provenance == "unavailable"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3)), min_size=1, max_size=30))
def test_what_is_written_is_read(tmp_path_factory, samples):
    samples.sort(key=lambda sample: sample[0])
    folder = tmp_path_factory.getbasetemp()
    read = log(folder, "".join(f"{when!r},{watts!r}\n" for when, watts in samples))
    assert list(zip(read.times, read.watts, strict=True)) == samples


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Timestamp(ms),Current(uA)\n1,2\n",
            r"log.csv, line 1: 'Timestamp\(ms\),Current\(uA\)'; expected is t,watts",
        ),
        ("t,watts\n1,2\n2,two\n", "line 3: '2,two'"),
        ("1;2\n", "line 1: '1;2'"),
        ("1,2,3\n", "line 1: '1,2,3'"),
        ("1,2\n2,nan\n", "line 2: '2,nan'"),
        ("1,inf\n", "two finite numbers"),
        ("1,2\n0.5,2\n", "line 2: t = 0.5 goes back in time"),
        ("t,watts\n", "has no sample"),
        ("", "has no sample"),
    ],
)
def test_what_is_no_log_is_one_message(tmp_path, text, message):
    with pytest.raises(MeterError, match=message):
        log(tmp_path, text)


def test_a_log_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe1,2\n")
    with pytest.raises(MeterError, match=r"log\.csv cannot be read"):
        read_power_log(tmp_path / "log.csv")
    with pytest.raises(MeterError, match=r"absent\.csv cannot be read"):
        read_power_log(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        (-0.5, 1, "first sample is 0.5 s later"),
        (0.5, 9, "last sample is 1 s earlier"),
        (0.5, 7.5, "no sample for 5 s, from 1.5 s of the window on"),
    ],
)
def test_what_the_log_does_not_hold_is_unavailable(tmp_path, begin, end, message):
    reading = log(tmp_path, "0,1\n1,1\n2,1\n7,1\n8,1\n").reading(begin, end)
    assert (reading.joules, reading.provenance, reading.seconds) == (None, "unavailable", end - begin)
    assert message in reading.detail


def test_a_longer_gap_may_be_allowed(tmp_path):
    assert log(tmp_path, "0,1\n5,1\n").reading(0, 5, longest_gap_s=5).joules == 5


def test_noise_about_nothing_may_be_negative_and_energy_may_not(tmp_path):
    read = log(tmp_path, "0,-0.001\n1,0.003\n2,0.001\n3,-5\n")
    assert read.reading(0, 2).joules == pytest.approx(0.003)
    assert read.reading(1, 3).provenance == "unavailable"
    assert "backwards" in read.reading(1, 3).detail
    with pytest.raises(ValueError, match="ends before it begins"):
        read.reading(2, 1)


def test_a_log_that_goes_on_while_the_work_does(tmp_path):
    path = tmp_path / "usb.csv"
    meter = CsvMeter(path, origin_s=1000.0, longest_gap_s=1e6)
    assert (meter.name, meter.what) == ("usb.csv", "external")
    meter.start()
    missing = meter.stop()
    assert missing.provenance == "unavailable"
    assert "usb.csv cannot be read" in missing.detail
    now = time.time() - 1000.0
    path.write_text(f"t,watts\n{now - 100},2\n")
    meter.start()
    early = meter.stop()
    assert "earlier than the window ends" in early.detail
    meter.start()
    with path.open("a") as file:
        file.write(f"{now + 100},2\n")
    time.sleep(0.01)
    reading = meter.stop()
    assert reading.joules == pytest.approx(2 * reading.seconds, rel=1e-3)


def test_a_meter_measures_one_window_at_a_time(tmp_path):
    meter = CsvMeter(tmp_path / "usb.csv")
    with pytest.raises(RuntimeError, match="start"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="already"):
        meter.start()
