"""Untrained models, random samples, and a real tail server, for what is measured end to end."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from edge.bundle import ModelSpec, build, save

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120

# Sizes, memory and start-up do not depend on what the weights are, so nothing is trained.


def saved_model(
    folder, network, input_shape, cut, bottleneck, *, entry=None, network_arguments=None, **options
):
    """Folder of a model with random weights."""
    spec = ModelSpec(
        name=bottleneck,
        network=network,
        network_arguments=network_arguments or {},
        cut=cut,
        entry=entry,
        input_shape=input_shape,
        bottleneck=bottleneck,
        bottleneck_arguments=options,
        rate=None,
    )
    torch.manual_seed(0)
    model = build(spec).eval()
    model.bottleneck.prepare_training()
    model.bottleneck.freeze()
    save(model, spec, folder / "model")
    return folder / "model"


def saved_samples(path, shape, numbers):
    """File of random images with these numbers."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(numbers), *shape), dtype=torch.uint8, generator=generator)
    save_file({"images": images, "ids": torch.tensor(numbers)}, path)
    return path


@contextlib.contextmanager
def serving(folder, model):
    """Address of a ``python -m edge.server`` process that serves the model."""
    announced = folder / "server.json"
    command = [sys.executable, "-m", "edge.server", "--model", model, "--announce", announced]
    with subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + PATIENCE_S
            while not announced.exists():
                assert server.poll() is None, f"the server ended with code {server.returncode}"
                assert time.monotonic() < end, f"the server does not serve after {PATIENCE_S} s"
                time.sleep(0.02)
            yield json.loads(announced.read_text())["address"]
        finally:
            server.terminate()
            try:
                server.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                server.kill()


def device_command(address, model, samples, out):
    """Arguments of ``edge.device``, as words."""
    return [*map(str, ["--server", address, "--model", model, "--samples", samples, "--out", out])]


def events_at(path, stage):
    """The events of one stage in a device's file, in their order."""
    events = map(json.loads, path.read_text().splitlines())
    return [event for event in events if event["stage"] == stage]
