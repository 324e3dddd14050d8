import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.compute import Coding, Layer, Roofline, Scaled, Serving, Table

LAYERS = [Layer(2_000_000, 1_000), Layer(1_000, 500_000), Layer(0, 80_000)]

layers = st.lists(st.builds(Layer, st.integers(0, 10**10), st.integers(0, 10**9)))
rates = st.floats(1e3, 1e13)


def test_a_layer_is_bound_by_arithmetic_or_by_memory() -> None:
    # 2 ms of arithmetic, 0.5 ms and 0.08 ms of memory, and the overhead.
    device = Roofline(overhead_s=0.003, macs_per_s=1e9, bytes_per_s=1e9)
    assert device.seconds(LAYERS) == pytest.approx(0.003 + 0.002 + 0.0005 + 0.00008, rel=1e-12)
    assert device.seconds([]) == 0.003


def test_each_layer_may_have_an_overhead_of_its_own() -> None:
    device = Roofline(overhead_s=0.003, macs_per_s=1e9, bytes_per_s=1e9, layer_s=0.0001)
    assert device.seconds(LAYERS) == pytest.approx(0.003 + 0.002 + 0.0005 + 0.00008 + 3 * 0.0001, rel=1e-12)
    assert device.seconds([]) == 0.003
    with pytest.raises(ValueError, match="layer_s is -1, and has to be 0 or more"):
        Roofline(0.0, 1e9, layer_s=-1)


def test_a_batch_costs_what_is_fixed_and_each_of_its_samples() -> None:
    serving = Serving(fixed_s=0.001, each_s=0.0002)
    assert serving.seconds(1) == pytest.approx(0.0012)
    assert serving.seconds(32) == pytest.approx(0.0074)
    for wrong in ((-1.0, 0.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="has to be 0 or more"):
            Serving(*wrong)


def test_without_a_memory_rate_the_sum_of_the_macs_counts() -> None:
    assert Roofline(0.0, 1e9).seconds(LAYERS) == pytest.approx(2.001e-3, rel=1e-12)
    assert Roofline(0.0, 1e9).seconds(iter(LAYERS)) == pytest.approx(2.001e-3, rel=1e-12)


def test_a_range_of_rates_is_a_range_of_times() -> None:
    # ResNet-18 on a Raspberry Pi 4: 1.6 to 18 GMAC/s.
    network = [Layer(1_814_000_000, 0)]
    device = Roofline(0.002, 10e9, macs_per_s_range=(1.6e9, 18e9))
    assert device.seconds_range(iter(network)) == pytest.approx((0.002 + 1.814 / 18, 0.002 + 1.814 / 1.6))
    assert Roofline(0.002, 10e9).seconds_range(network) == pytest.approx((0.1834, 0.1834))


@settings(max_examples=30, deadline=None)
@given(layers, rates, rates, st.floats(0, 1))
def test_more_work_never_takes_less_and_the_time_lies_in_its_range(
    work: list[Layer], macs_per_s: float, bytes_per_s: float, overhead_s: float
) -> None:
    device = Roofline(overhead_s, macs_per_s, bytes_per_s, (macs_per_s / 3, macs_per_s * 2))
    time = device.seconds(work)
    low, high = device.seconds_range(work)
    assert overhead_s <= low <= time <= high
    assert device.seconds([*work, Layer(1000, 1000)]) > time
    assert time >= overhead_s + max(
        math.fsum(one.macs for one in work) / macs_per_s, math.fsum(one.bytes for one in work) / bytes_per_s
    ) * (1 - 1e-12)


def test_scaled_from_the_host() -> None:
    assert Scaled(4.8).seconds(0.010) == pytest.approx(0.048)


def test_a_table_has_what_was_measured_and_says_what() -> None:
    table = Table({"resnet18": 0.1003, "resnet50": 0.2252})
    assert table.seconds("resnet50") == 0.2252
    with pytest.raises(
        ValueError,
        match=r"no time measured for 'resnet81' \(did you mean 'resnet18'\?\); there are resnet18, resnet50",
    ):
        table.seconds("resnet81")


def test_coding_is_linear_in_the_symbols() -> None:
    coder = Coding(fixed_s=20e-6, per_symbol_s=30e-9)
    assert coder.seconds(0) == 20e-6
    assert coder.seconds(1536) == pytest.approx(66.08e-6, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layer(-1, 0), "macs of a layer is -1"),
        (lambda: Roofline(-1, 1), "overhead_s is -1, and has to be 0 or more"),
        (lambda: Roofline(0, 0), "macs_per_s is 0, and has to be more than 0"),
        (lambda: Roofline(0, 1, math.nan), "bytes_per_s is nan"),
        (lambda: Roofline(0, 5, None, (6, 7)), "macs_per_s 5 lies outside its range 6 to 7"),
        (lambda: Roofline(0, 5, None, (0, 7)), "the lower end of macs_per_s_range is 0"),
        (lambda: Scaled(0), "factor is 0"),
        (lambda: Scaled(1).seconds(-1), "host_seconds is -1"),
        (lambda: Table({}), "at least one entry"),
        (lambda: Table({"net": -1.0}), "the time of 'net' is -1.0"),
        (lambda: Coding(0, -1), "per_symbol_s is -1"),
        (lambda: Coding(0, 1).seconds(-1), "symbols is -1"),
    ],
)
def test_impossible_numbers_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
