import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.airtime import EU868_PAYLOAD_BYTES, LoRa, Phase

# Phases of a module around a frame, after Casals et al., Sensors 2017.
PHASES = (
    Phase("wake-up", 0.168, 22.1e-3),
    Phase("radio preparation", 0.084, 13.3e-3),
    Phase("radio off", 0.147, 13.2e-3),
    Phase("post-processing", 0.268, 21e-3),
    Phase("turn-off", 0.038, 13.3e-3),
)

spreading_factors = st.integers(7, 12)


def sx1276(spreading_factor: int, **other) -> LoRa:
    """SX1276 at 14 dBm and 3.3 V, under the duty cycle of most of EU868."""
    return LoRa(spreading_factor, duty_cycle=0.01, volts=3.3, transmit_a=44e-3, **other)


@pytest.mark.parametrize(
    ("spreading_factor", "size", "milliseconds", "goodput", "millijoules", "microjoules_a_bit"),
    [
        (7, 222, 368.9, 4814, 53.6, 30),
        (7, 51, 118.0, 3457, 17.1, 42),
        (9, 115, 676.9, 1359, 98, 107),
        (12, 51, 2793.5, 146, 406, 994),
    ],
)
def test_the_published_table(
    spreading_factor: int,
    size: int,
    milliseconds: float,
    goodput: float,
    millijoules: float,
    microjoules_a_bit: float,
) -> None:
    lora = sx1276(spreading_factor)
    assert lora.time_on_air(size) == pytest.approx(milliseconds / 1e3, abs=5e-5)
    assert lora.airtime(size) == float(lora.time_on_air(size))
    assert lora.goodput(size) == pytest.approx(goodput, abs=0.5)
    assert lora.duty_cycle_goodput(size) == pytest.approx(goodput / 100, abs=0.005)
    assert 1e3 * lora.transmit_energy(size) == pytest.approx(millijoules, rel=5e-3)
    assert 1e6 * lora.transmit_energy(size) / (8 * size) == pytest.approx(microjoules_a_bit, abs=0.5)


def test_the_formula_by_hand() -> None:
    # SF7: T = 1.024 ms. 8 * (51 + 13) - 28 + 28 + 16 = 528 bits, 19 blocks of 5 symbols.
    assert sx1276(7).time_on_air(51) == pytest.approx((12.25 + 8 + 95) * 1.024e-3, rel=1e-12)
    # SF12: T = 32.768 ms, so that a symbol carries two bits less. 8 * 64 - 48 + 44 = 508 bits of 40.
    assert sx1276(12).time_on_air(51) == pytest.approx((12.25 + 8 + 13 * 5) * 32.768e-3, rel=1e-12)
    # SF11: 16.384 ms is slow, too, and at 250 kHz no longer. 8 * 64 - 44 + 44 = 512 bits of 36 or 44.
    assert sx1276(11).time_on_air(51) == pytest.approx((20.25 + 15 * 5) * 16.384e-3, rel=1e-12)
    fast = sx1276(11, bandwidth_hz=250e3, max_payload_bytes=51)
    assert fast.time_on_air(51) == pytest.approx((20.25 + 12 * 5) * 8.192e-3, rel=1e-12)
    # Without the radio's header and its checksum, with a longer preamble and 4/8.
    bare = LoRa(
        6,
        1.0,
        3.3,
        44e-3,
        explicit_header=False,
        crc=False,
        header_bytes=0,
        coding_rate=4,
        preamble_symbols=12,
        bandwidth_hz=500e3,
        max_payload_bytes=255,
    )
    # 8 * 100 - 24 + 28 - 20 = 784 bits of 24: 33 blocks of 8 symbols of 0.128 ms.
    assert bare.time_on_air(100) == pytest.approx((16.25 + 8 + 33 * 8) * 0.128e-3, rel=1e-12)
    assert bare.time_on_air(0) == pytest.approx((16.25 + 8) * 0.128e-3, rel=1e-12)


def test_times_of_many_sizes_at_once() -> None:
    lora = sx1276(9)
    sizes = np.arange(116).reshape(4, 29)
    times = lora.time_on_air(sizes)
    assert times.shape == (4, 29)
    assert times.ravel().tolist() == [float(lora.time_on_air(size)) for size in range(116)]
    assert (np.diff(times.ravel()) >= 0).all()


def test_ten_kilobytes_take_46_frames_and_half_an_hour() -> None:
    lora = sx1276(7)
    assert len(lora.frames(10_000)) == 46
    assert lora.transmit_energy(10_000) == pytest.approx(2.4, abs=0.05)
    assert lora.seconds(10_000) / 60 == pytest.approx(28, abs=0.5)
    last = float(lora.time_on_air(10_000 - 45 * 222))
    assert lora.seconds(10_000) == pytest.approx(45 * 100 * float(lora.time_on_air(222)) + last, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(spreading_factors, st.integers(0, 20_000))
def test_frames_hold_the_payload_and_the_waits_the_duty_cycle(factor: int, size: int) -> None:
    lora = sx1276(factor)
    frames = lora.frames(size)
    assert frames.sum() == size
    assert frames.max() <= EU868_PAYLOAD_BYTES[factor]
    assert len(frames) == max(math.ceil(size / EU868_PAYLOAD_BYTES[factor]), 1) == lora.frame_count(size)
    airtime = lora.airtime(size)
    assert airtime + lora.duty_cycle_wait(airtime) == pytest.approx(lora.period(size))
    assert lora.seconds(size) + lora.duty_cycle_wait(float(lora.time_on_air(frames[-1]))) == pytest.approx(
        lora.period(size)
    )
    assert lora.fits(size, lora.period(size)).fits
    assert not lora.fits(size, lora.period(size) * 0.99).fits


def test_the_phases_around_a_frame_cost_each_time() -> None:
    lora = sx1276(7, phases=PHASES)
    around = 3.3 * (0.168 * 22.1e-3 + 0.084 * 13.3e-3 + 0.147 * 13.2e-3 + 0.268 * 21e-3 + 0.038 * 13.3e-3)
    assert lora.energy(222) == pytest.approx(lora.transmit_energy(222) + around, rel=1e-12)
    assert lora.energy(4096) == pytest.approx(lora.transmit_energy(4096) + 19 * around, rel=1e-12)


def test_payloads_by_the_array() -> None:
    lora = sx1276(9, phases=PHASES)
    sizes = np.array([[0, 1, 115], [116, 230, 4096]])
    for method in (lora.frame_count, lora.airtime, lora.seconds, lora.period, lora.energy, lora.awake_s):
        alone = [float(method(int(size))) for size in sizes.flat]
        assert method(sizes) == pytest.approx(np.reshape(alone, sizes.shape), rel=1e-12)
    on_air = [math.fsum(lora.time_on_air(lora.frames(int(size)))) for size in sizes.flat]
    assert lora.airtime(sizes).ravel() == pytest.approx(on_air, rel=1e-12)
    around = sum(phase.seconds for phase in PHASES)
    assert lora.awake_s(230) == pytest.approx(2 * (float(lora.time_on_air(115)) + around), rel=1e-12)


def test_it_says_plainly_that_a_payload_does_not_fit() -> None:
    answer = sx1276(7).fits(4096, 10)
    assert not answer.fits
    assert answer.period_s == pytest.approx(100 * sx1276(7).airtime(4096), rel=1e-12)
    assert answer.reason == (
        "4,096 bytes need 19 frames of SF7 (222 bytes at most in each): 6.83 s on air, "
        "which a duty cycle of 1 % allows at most once every 683 s; asked: every 10 s"
    )
    small = sx1276(12).fits(1, 3600)
    assert small.fits
    assert small.reason == (
        "1 byte needs 1 frame of SF12 (51 bytes at most in each): 1.16 s on air, "
        "which a duty cycle of 1 % allows at most once every 116 s; asked: every 3,600 s"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"spreading_factor": 6},
            r"spreading_factor is 6, allowed are 7 to 12 \(6 takes an implicit header\)",
        ),
        ({"spreading_factor": 13, "explicit_header": False}, "spreading_factor is 13, allowed are 6 to 12$"),
        ({"coding_rate": 5}, "coding_rate is 5, allowed are 1 to 4"),
        ({"duty_cycle": 0}, "duty_cycle is 0, and has to be above 0"),
        ({"volts": 0}, "volts is 0"),
        ({"transmit_a": -1}, "transmit_a is -1"),
        ({"max_payload_bytes": 0}, "max_payload_bytes is 0"),
        ({"bandwidth_hz": 250e3}, "max_payload_bytes is needed: EU868 has none for SF7 at 250 kHz"),
    ],
)
def test_impossible_settings_are_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoRa(**{"spreading_factor": 7, "duty_cycle": 0.01, "volts": 3.3, "transmit_a": 0.044} | changed)


def test_impossible_payloads_are_refused() -> None:
    with pytest.raises(ValueError, match="a frame of SF9 carries 0 to 115 bytes, got 116"):
        sx1276(9).time_on_air(116)
    with pytest.raises(ValueError, match="payload_bytes is -1"):
        sx1276(9).frames(-1)
    with pytest.raises(ValueError, match="period_s is 0"):
        sx1276(9).fits(1, 0)
    with pytest.raises(ValueError, match="airtime_s is -1"):
        sx1276(9).duty_cycle_wait(-1)
    with pytest.raises(ValueError, match="amperes of phase 'wake-up' is -1"):
        Phase("wake-up", 1, -1)
