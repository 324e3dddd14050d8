"""What a relay has carried in a run with real processes, against what the simulator says that it carries."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edge import bundle
from edge.bundle import ModelSpec
from edge.link import Direction, LinkSpec
from edge.service import Settings
from fedsim import data
from fedsim.engines import processes
from fedsim.engines.plan import DevicePlan, Method, RunPlan
from fedsim.measure import ledger
from fedsim.simulator.links import transfers
from fedsim.simulator.overhead import CLOSING, opening, reply_frame_bytes, stream_bytes

SAMPLES, DEVICES = 31, 3
PING = 17  # of a device that waits 10 s for the others
LOOPBACK = "127.0.0.1:40000"  # as long as any address of a relay


def made(folder: Path, bottleneck: str, cut: str) -> Method:
    spec = ModelSpec(bottleneck, "digits-cnn", {"widths": [64, 6, 8]}, cut, None, (1, 8, 8), bottleneck)
    torch.manual_seed(0)
    bundle.save(bundle.build(spec).eval(), spec, folder / bottleneck)
    return Method(bottleneck, folder / bottleneck, local=False)


@pytest.mark.slow
def test_a_relay_carries_what_is_predicted(tmp_path: Path) -> None:
    dataset = data.load("digits")
    samples = tmp_path / "samples.safetensors"
    save_file({"images": dataset.x_test[:SAMPLES], "labels": dataset.y_test[:SAMPLES]}, samples)
    spec = LinkSpec(up=Direction(20e6, 0.005), down=Direction(20e6, 0.005))
    methods = made(tmp_path, "float32", "stage1"), made(tmp_path, "png", "input")
    devices = tuple(DevicePlan(f"device-{n}", 1, 60.0, None, cell="lte") for n in range(DEVICES))
    plan = RunPlan("test", tmp_path, methods, samples, SAMPLES, devices, 1, 4, 0.0, cells={"lte": spec})
    assert processes.run(plan, lambda _: None) == []
    events = ledger.read_events(plan.events)
    sends = [event for event in events if event.stage == "send"]
    assert len(sends) == 2 * SAMPLES
    assert {event.detail for event in events if event.sample is not None} == {None}
    framed = stream_bytes([event.frame_bytes or 0 for event in sends])
    assert framed.max() > 16_384

    around = np.zeros(2, np.int64)
    for method in methods:
        half, tail = bundle.load_device(method.bundle), bundle.load_server(method.bundle)
        for device in devices:
            handshake = half.handshake(device.client)
            around += opening(LOOPBACK, handshake, Settings().max_in_flight, tail.max_payload)
            around += CLOSING
    carried = json.loads((plan.links / "lte.json").read_text())
    assert len(carried["connections"]) == 2 * DEVICES
    beyond = carried["up"]["stream_bytes"] - int(framed.sum()) - int(around[0])
    pings, left = divmod(beyond, PING)
    assert left == 0
    assert 0 <= pings <= 2 * DEVICES
    # On the link: a packet's header for each of the packets that the simulator counts, and a few of openings.
    wire = transfers(spec, spec.up, framed, np.random.default_rng(0)).wire_bytes.sum()
    rest = carried["up"]["wire_bytes"] - int(wire) - int(around[0]) - PING * pings
    packets, left = divmod(rest, spec.header)
    assert left == 0
    assert 3 * 2 * DEVICES <= packets <= 6 * 2 * DEVICES + pings

    # Back: the replies' sizes follow from their times, as the ledger has them.
    stages = {
        (event.method, event.sample, event.stage): event for event in events if event.sample is not None
    }
    keys = [(event.method, event.sample) for event in sends]
    seconds = {
        f"{stage}_s": np.array([stages[method, sample, stage].duration_s for method, sample in keys])
        for stage in ("queue", "decode", "tail")
    }
    answered = [stages[method, sample, "total"].prediction or 0 for method, sample in keys]
    replies = reply_frame_bytes([sample or 0 for _, sample in keys], answered, **seconds)
    returned = int(stream_bytes(replies).sum()) + int(around[1]) + PING * pings
    assert carried["down"]["stream_bytes"] == returned
