"""Small runs of the digits for engines with real processes."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from edge import bundle
from edge.bundle import ModelSpec
from fedsim import data
from fedsim.engines.plan import DevicePlan, Method, RunPlan

SAMPLES = 21


def made(folder: Path, name: str, bottleneck: str | None, cut: str, rate: float | None = None) -> Method:
    spec = ModelSpec(name, "digits-cnn", {"widths": [4, 6, 8]}, cut, None, (1, 8, 8), bottleneck, rate=rate)
    torch.manual_seed(0)
    model = bundle.build(spec).eval()
    bundle.save(model, spec, folder / "models" / name)
    return Method(name, folder / "models" / name, bottleneck is None)


def small(folder: Path, *methods: Method) -> RunPlan:
    """Two devices, which share the samples."""
    dataset = data.load("digits")
    samples = folder / "samples.safetensors"
    save_file({"images": dataset.x_test[:SAMPLES], "labels": dataset.y_test[:SAMPLES]}, samples)
    return RunPlan(
        run="test",
        folder=folder,
        methods=methods,
        samples=samples,
        sample_count=SAMPLES,
        devices=tuple(DevicePlan(f"device-{n}", 1, 10.0, None) for n in range(2)),
        workers=1,
        batch_size=4,
        batch_wait_ms=0.0,
    )


def repeated(plan: RunPlan, times: int) -> RunPlan:
    """The same with each sample so often."""
    dataset = data.load("digits")
    path = plan.folder / "more.safetensors"
    images, labels = dataset.x_test[:SAMPLES], dataset.y_test[:SAMPLES]
    save_file({"images": np.tile(images, (times, 1, 1, 1)), "labels": np.tile(labels, times)}, path)
    return dataclasses.replace(plan, samples=path, sample_count=SAMPLES * times)
