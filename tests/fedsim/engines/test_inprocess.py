"""The engine in one process, held against the one with real server and device processes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import save_file

from edge import bundle
from edge.bundle import ModelSpec
from fedsim import data
from fedsim.engines import inprocess, processes
from fedsim.engines.plan import DevicePlan, Method, RunPlan
from fedsim.errors import EngineError
from fedsim.measure import ledger

SAMPLES = 12


def made(folder: Path, name: str, bottleneck: str | None, cut: str, **options: Any) -> Method:
    spec = ModelSpec(name, "digits-cnn", {"widths": [4, 6, 8]}, cut, None, (1, 8, 8), bottleneck, options)
    torch.manual_seed(0)
    model = bundle.build(spec)
    if model.bottleneck is not None:
        model.bottleneck.prepare_training()
        features = torch.rand(16, *model.bottleneck.input_shape)
        model.bottleneck.calibrate(features)
        model.eval()
        model.bottleneck.observe(features)
        model.bottleneck.freeze()
    bundle.save(model.eval(), spec, folder / name)
    return Method(name, folder / name, bottleneck is None)


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> tuple[Method, ...]:
    folder = tmp_path_factory.mktemp("models")
    several = made(folder, "several", "variable-rate", "stage2", channels=2, levels=3)
    return (
        made(folder, "local", None, "output"),
        made(folder, "png", "png", "input"),
        made(folder, "learned", "factorized", "stage2", channels=3),
        dataclasses.replace(several, name="several-level0", level=0),
        dataclasses.replace(several, name="several-level2", level=2),
    )


def plan(folder: Path, methods: tuple[Method, ...], **device: Any) -> RunPlan:
    folder.mkdir()
    dataset = data.load("digits")
    samples = folder / "samples.safetensors"
    save_file({"images": dataset.x_test[:SAMPLES], "labels": dataset.y_test[:SAMPLES]}, samples)
    defaults: dict[str, Any] = {"in_flight": 1, "deadline_s": 10.0, "fallback": None, **device}
    return RunPlan(
        run="test",
        folder=folder,
        methods=methods,
        samples=samples,
        sample_count=SAMPLES,
        devices=tuple(DevicePlan(f"device-{n}", **defaults) for n in range(2)),
        workers=1,
        batch_size=4,
        batch_wait_ms=0.0,
    )


def outcomes(plan: RunPlan) -> dict[tuple[str, int | None], tuple[Any, ...]]:
    """What each sample of each method came to, but for its times."""
    events = ledger.read_events(plan.events)
    ledger.check(events, {method.name: set(range(SAMPLES)) for method in plan.methods})
    sends = {(e.method, e.sample): e for e in events if e.stage == "send"}
    found = {}
    for total in (event for event in events if event.stage == "total"):
        send = sends.get((total.method, total.sample))
        sizes = send and (send.ideal_bits, send.payload_bytes, send.frame_bytes)
        found[total.method, total.sample] = (
            total.client,
            total.outcome,
            total.label,
            total.prediction,
            sizes,
        )
    return found


def test_bytes_and_outcomes_are_those_of_real_processes(tmp_path: Path, methods: tuple[Method, ...]) -> None:
    found = []
    for engine in (inprocess, processes):
        mine = plan(tmp_path / engine.__name__, methods, fallback=methods[0].bundle)
        whole, lossy = mine.devices
        lossy = dataclasses.replace(lossy, erasure=0.4, erasure_seed=5)
        mine = dataclasses.replace(mine, devices=(whole, lossy))
        reports: list[int] = []
        assert engine.run(mine, reports.append) == []
        assert reports[-1] == mine.total_samples
        found.append(outcomes(mine))
    assert found[0] == found[1]
    remote = [ends for (method, _), ends in found[0].items() if method != "local"]
    assert {(client, outcome) for client, outcome, *_ in remote} == {
        ("device-0", "answered"),
        ("device-1", "answered"),
        ("device-1", "local"),
    }


def test_levels_of_one_bundle_are_rows_of_their_own(tmp_path: Path, methods: tuple[Method, ...]) -> None:
    mine = plan(tmp_path / "run", methods[3:])
    inprocess.run(mine, lambda _: None)
    half = bundle.load_device(methods[3].bundle)
    images = torch.from_numpy(data.load("digits").x_test[:1]).float() / 255
    expected = [len(half.encode(half.features(images), level)[0]) for level in (0, 2)]
    found = outcomes(mine)
    assert [found[f"several-level{level}", 0][4][1] for level in (0, 2)] == expected


def test_stages_stand_one_behind_the_other_and_nothing_is_said_of_a_link(
    tmp_path: Path, methods: tuple[Method, ...]
) -> None:
    mine = plan(tmp_path / "run", methods[2:3])
    inprocess.run(mine, lambda _: None)
    events = [event for event in ledger.read_events(mine.events) if event.sample == 0]
    assert [event.stage for event in events] == ["head", "encode", "send", "decode", "tail", "total"]
    assert {event.provenance for event in events} == {"measured"}
    assert {event.wire_bytes for event in events} == {None}
    parts, total = sum(event.duration_s for event in events[:-1]), events[-1].duration_s
    assert parts == pytest.approx(total, rel=0.5, abs=0.05)
    assert parts <= total + 1e-6


def test_every_sample_that_is_lost_has_failed_and_says_why(
    tmp_path: Path, methods: tuple[Method, ...]
) -> None:
    mine = plan(tmp_path / "run", methods[1:2], erasure=1.0)
    inprocess.run(mine, lambda _: None)
    totals = [event for event in ledger.read_events(mine.events) if event.stage == "total"]
    assert {(event.outcome, event.detail) for event in totals} == {("failed", "every packet was lost")}


def test_level_that_there_is_not_is_an_error_and_threads_are_put_back(
    tmp_path: Path, methods: tuple[Method, ...]
) -> None:
    before = torch.get_num_threads()
    wrong = dataclasses.replace(methods[2], level=7)
    with pytest.raises(EngineError, match=r"method learned: .*level is 7"):
        inprocess.run(plan(tmp_path / "run", (wrong,)), lambda _: None)
    assert torch.get_num_threads() == before
