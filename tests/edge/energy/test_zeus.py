"""The adapter with Zeus itself, where it is installed and finds something."""

import importlib
import importlib.util
import time

import pytest
import torch

from edge.energy.zeus import ZeusMeter, find

installed = importlib.util.find_spec("zeus") is not None


@pytest.mark.skipif(installed, reason="Zeus is installed")
def test_without_zeus_the_extra_is_named():
    found = find()
    assert (found.state, found.meters) == ("no", ())
    assert found.detail == "Zeus is not installed: pip install 'fedsim[energy]'"


@pytest.mark.skipif(not installed, reason="Zeus is not installed")
def test_zeus_finds_meters_or_says_that_it_does_not():
    found = find()
    assert (found.state == "yes") == bool(found.meters)
    assert found.detail


@pytest.mark.skipif(not installed, reason="Zeus is not installed")
def test_work_on_a_gpu_takes_energy():
    meters = [meter for meter in find().meters if meter.what == "gpu"]
    if not meters or not torch.cuda.is_available():
        pytest.skip("there is no GPU that Zeus and torch both see")
    meter = meters[0]
    with pytest.raises(RuntimeError, match="start"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="already"):
        meter.start()
    end = time.monotonic() + 1.0
    matrix = torch.rand(1024, 1024, device="cuda:0")
    while time.monotonic() < end:
        matrix = (matrix @ matrix).clamp(0, 1)
    reading = meter.stop()
    assert reading.provenance == "measured"
    assert 1.0 < reading.joules < 2000.0
    meter.start()
    short = meter.stop()
    assert short.provenance == "unavailable"
    assert "repeat the work" in short.detail


@pytest.mark.skipif(not installed, reason="Zeus is not installed")
@pytest.mark.parametrize("gpu", [99, None])
def test_what_zeus_does_not_measure_is_unavailable(gpu):
    meter = ZeusMeter(
        importlib.import_module("zeus.monitor").ZeusMonitor(gpu_indices=[], cpu_indices=[]), gpu
    )
    if gpu is None and any(meter.what == "soc" for meter in find().meters):
        pytest.skip("Zeus measures this board")
    meter.start()
    reading = meter.stop()
    assert (reading.joules, reading.provenance) == (None, "unavailable")
    assert reading.detail == f"Zeus has no energy of {meter.name}"
