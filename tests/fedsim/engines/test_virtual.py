"""The engine in virtual time, on real payloads."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from edge import bundle
from edge.bundle import ModelSpec
from fedsim import data
from fedsim.engines import inprocess, virtual
from fedsim.engines.plan import DevicePlan, GroupPlan, Method, RunPlan
from fedsim.hardware import find_device, find_link
from fedsim.hardware.models import link_of
from fedsim.measure import ledger
from fedsim.simulator.arrivals import ClosedLoop

SAMPLES = 12


def made(folder, name, bottleneck, cut):
    spec = ModelSpec(name, "digits-cnn", {"widths": [4, 6, 8]}, cut, None, (1, 8, 8), bottleneck, {})
    torch.manual_seed(0)
    bundle.save(bundle.build(spec).eval(), spec, folder / name)
    return Method(name, folder / name, bottleneck is None)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    models = [("local", None, "output"), ("png", "png", "input"), ("float32", "float32", "stage2")]
    methods = tuple(made(folder, *one) for one in models)
    dataset = data.load("digits")
    samples = folder / "samples.safetensors"
    save_file({"images": dataset.x_test[:SAMPLES], "labels": dataset.y_test[:SAMPLES]}, samples)
    pi = find_device("raspberry-pi-4")
    return RunPlan(
        run="test",
        folder=folder,
        methods=methods,
        samples=samples,
        sample_count=SAMPLES,
        devices=(),
        workers=1,
        batch_size=4,
        batch_wait_ms=0.0,
        cells={"link-0": link_of(find_link("lte-2012"))},
        groups=(
            GroupPlan(2, 1, 10.0, ClosedLoop(), pi, "link-0"),
            GroupPlan(1, 1, 10.0, ClosedLoop(0.5)),
        ),
    )


@pytest.fixture(scope="module")
def rows(plan):
    notes = virtual.run(plan, lambda count: None)
    assert any("raspberry-pi-4: head" in note for note in notes)
    assert any(note.startswith("gRPC on raspberry-pi-4, this host: ") for note in notes)
    found = [row for path in plan.events.iterdir() for row in pq.read_table(path).to_pylist()]
    assert sorted(path.name for path in plan.folder.glob("pass*")) == []
    return found


def test_payloads_and_answers_are_those_of_a_run(plan, rows, tmp_path):
    alone = dataclasses.replace(plan, folder=tmp_path, groups=(), devices=(DevicePlan("one", 1, 10.0, None),))
    inprocess.run(alone, lambda count: None)
    real = {}
    for event in ledger.read_events(alone.events):
        if event.stage in ("send", "total"):
            real[event.method, event.sample, event.stage] = event
    mine = [row for row in rows if row["stage"] in ("send", "total")]
    assert len(mine) == len(real) == 5 * SAMPLES
    for row in mine:
        event = real[row["method"], row["sample"], row["stage"]]
        for key in ("payload_bytes", "frame_bytes", "ideal_bits", "outcome", "label", "prediction", "rate"):
            assert row[key] == getattr(event, key)
        assert row["provenance"] == "modelled"


def test_a_slower_device_takes_longer_and_costs_energy(rows):
    heads = {"device-0": [], "device-2": []}
    for row in rows:
        if row["stage"] == "head" and row["client"] in heads and row["method"] == "float32":
            heads[row["client"]].append(row["duration_s"])
            assert (row["joules"] is None) == (row["client"] == "device-2")
    assert np.mean(heads["device-0"]) > 0.004  # of torch on it alone
    assert len(set(heads["device-0"])) == 1


def test_the_link_is_on_the_way(rows):
    sends = [row for row in rows if row["stage"] == "send" and row["method"] == "float32"]
    for row in sends:
        if row["client"] == "device-2":
            assert 0 < row["duration_s"] < 0.05  # of gRPC alone
        else:
            assert 0.07 < row["duration_s"] < 0.2
