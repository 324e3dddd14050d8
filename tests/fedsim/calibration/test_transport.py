"""Messages to a real server process, over loopback and over a link: what is in their times."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.link import Direction, LinkSpec
from edge.rpc import sample_message
from fedsim.calibration import describe
from fedsim.calibration.file import to_toml
from fedsim.calibration.lines import fit
from fedsim.calibration.timing import Timing
from fedsim.calibration.transport import PAYLOADS, link_s, sends
from fedsim.cli import app
from fedsim.hardware import Device, find_device
from fedsim.hardware.models import transport_of
from fedsim.hardware.transport import Transport
from fedsim.simulator.overhead import stream_bytes

DELAY_S = 0.04
MESSAGES = 5


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[int, Timing]]:
    far = LinkSpec(Direction(50e6, DELAY_S), Direction(50e6, DELAY_S))
    return sends({"loopback": None, "far": far}, MESSAGES)


def test_each_way_has_its_messages(measured: Mapping[str, Mapping[int, Timing]]) -> None:
    assert list(measured) == ["loopback", "far"]
    sizes = [len(sample_message(0, bytes(payload))) for payload in PAYLOADS]
    for timings in measured.values():
        assert list(timings) == sizes
        for timing in timings.values():
            assert timing.minima.shape == (MESSAGES,)
            assert np.isfinite(timing.minima).all()


def test_what_a_link_takes_is_not_the_softwares(measured: Mapping[str, Mapping[int, Timing]]) -> None:
    # A relay is never early, nor is there a message that takes no time at all.
    for timings in measured.values():
        assert min(timing.minima.min() for timing in timings.values()) > 0
    # A delay that was not taken off would be in each of them.
    assert min(timing.minima.min() for timing in measured["far"].values()) < DELAY_S


def test_a_link_alone_takes_its_rate_and_its_delays() -> None:
    spec = LinkSpec(Direction(1e6, 0.02), Direction(4e6, 0.01))
    there, back = (spec.wire_bytes(int(stream_bytes(size))) for size in (5000, 60))
    assert there == 5000 + 5 + 9 + 26 + 4 * 66
    assert link_s(spec, 5000, 60) == pytest.approx(8 * there / 1e6 + 0.02 + 8 * back / 4e6 + 0.01)
    assert link_s(LinkSpec(), 5000, 60) == 0


def test_a_device_file_has_it(measured: Mapping[str, Mapping[int, Timing]], tmp_path: Path) -> None:
    part = describe.transport(measured["loopback"])
    device = Device(title="host", sources={"fedsim calibrate": "this test"}, transport=part)
    file = tmp_path / "host.toml"
    file.write_text(to_toml(device), encoding="utf-8")
    found = transport_of(find_device(str(file)))
    line = fit(measured["loopback"])
    assert found is not None
    assert found.fixed_s == pytest.approx(line.fixed, rel=1e-3)
    assert found.per_byte_s == pytest.approx(line.each, rel=1e-3)
    assert f"medians of {MESSAGES} each" in (part.fixed.where or "")
    assert transport_of(Device(title="another")) is None


def test_time_is_linear_in_the_message() -> None:
    transport = Transport(1e-3, 2e-9)
    assert transport.seconds(0) == 1e-3
    assert transport.seconds(np.array([0, 10**6])).tolist() == pytest.approx([1e-3, 3e-3])
    assert Transport().seconds(100) == 0


@pytest.mark.parametrize(
    ("fixed", "each", "named"), [(-1e-3, 0, "fixed_s is -0.001"), (0, np.inf, "per_byte_s")]
)
def test_a_time_below_0_is_none(fixed: float, each: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Transport(fixed, each)


@pytest.mark.slow
def test_it_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "board.toml"
    command = ["calibrate", "--out", str(out), "--seconds", "0.5", "--transport", "--quiet"]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    found = transport_of(find_device(str(out)))
    assert found is not None
    assert found.fixed_s > 0
