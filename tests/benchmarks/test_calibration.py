"""The calibrated roofline: times of heads that it predicts, over those that they take in the same run.

Times of the processor stand beside those of the clock: where they differ, something else computed as well.
"""

import statistics
import time

import pytest
import torch

from edge import backbones
from edge.split import cut
from fedsim.calibration import calibrate
from fedsim.calibration.timing import measure, timed
from fedsim.hardware.compute import Roofline
from fedsim.hardware.macs import layers_of
from fedsim.hardware.models import roofline_of

SECONDS = 20.0
HEADS = {
    ("digits-cnn", (1, 8, 8)): ("stage1", "stage2", "stage3"),
    ("fedavg-cnn", (1, 28, 28)): ("block1", "block2", "hidden"),
    ("protonet-conv4", (1, 28, 28)): ("block1", "block2", "block4"),
    ("resnet18-32", (3, 32, 32)): ("layer1", "layer2", "layer4"),
}

pytestmark = pytest.mark.benchmark


def heads():
    """(network, cut): head, shape of its input."""
    torch.manual_seed(0)
    for (name, shape), cuts in HEADS.items():
        network = backbones.create(name).eval()
        for at in cuts:
            yield (name, at), cut(network, at)[0].eval(), shape


def runs_of(head, shape):
    """By the clock, and by the time of the processor."""
    image = torch.rand(1, *shape)

    @torch.inference_mode()
    def work(_):
        head(image)

    def worked(number):
        began = time.thread_time()
        work(number)
        return time.thread_time() - began

    return {"clock": timed(work), "cpu": worked}


def measured(known):
    """Seconds of each head, {"clock": s, "cpu": s}."""
    subjects = {
        (key, by): run for key, (head, _, shape) in known.items() for by, run in runs_of(head, shape).items()
    }
    found = measure(subjects, SECONDS / 2)
    return {key: {by: found[key, by].seconds for by in ("clock", "cpu")} for key in known}


def slowest_and_fastest(device):
    """The roofline at either end of the ranges of all its numbers."""
    compute = device.compute
    low, high = zip(*(one.si_range for one in (compute.rate, compute.memory_rate)), strict=True)
    overhead, layer = compute.overhead.si_range, compute.layer_overhead.si_range
    return Roofline(overhead[1], *low, layer_s=layer[1]), Roofline(overhead[0], *high, layer_s=layer[0])


def test_heads(report, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        known = {key: (head, layers_of(head, shape), shape) for key, head, shape in heads()}
        # Ahead of it and behind, so that what changes meanwhile shows.
        times = [measured(known)]
        device = calibrate(tmp_path / "here.toml", seconds=SECONDS, meters=[])
        times.append(measured(known))
    finally:
        torch.set_num_threads(before)
    roofline, (slow, fast) = roofline_of(device), slowest_and_fastest(device)
    ratios, within, rows = {"clock": [], "cpu": []}, [], {}
    for key, (_, layers, _) in known.items():
        predicted = roofline.seconds(layers)
        means = {by: statistics.mean(one[key][by] for one in times) for by in ratios}
        within.append(all(fast.seconds(layers) <= one <= slow.seconds(layers) for one in means.values()))
        for by, mean in means.items():
            ratios[by].append(round(predicted / mean, 2))
        rows["/".join(key)] = {
            "mmac": round(sum(layer.macs for layer in layers) / 1e6, 2),
            "layers": len(layers),
            "clock_us": [round(1e6 * one[key]["clock"]) for one in times],
            "cpu_us": [round(1e6 * one[key]["cpu"]) for one in times],
            "predicted_us": round(1e6 * predicted),
            "within": within[-1],
        }
    numbers = {
        key: str(getattr(device.compute, key))
        for key in ("overhead", "layer_overhead", "rate", "memory_rate")
    }
    report(
        "calibration: heads by the roofline",
        {
            **numbers,
            "heads": rows,
            "predicted_over_clock": ratios["clock"],
            "predicted_over_cpu": ratios["cpu"],
            "within": all(within),
        },
        {"within": "each measured time in the range of its prediction"},
    )
