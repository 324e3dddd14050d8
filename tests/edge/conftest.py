"""Small models, samples, and real server and device processes for the tests of the data path."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edge.bundle import ModelSpec, build, save

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60  # the longest that anything here may take on a busy machine


def _saved(folder, name, bottleneck, cut, seed=0, **arguments):
    spec = ModelSpec(
        name=name,
        network="digits-cnn",
        network_arguments={},
        cut=cut,
        entry=None,
        input_shape=(1, 8, 8),
        bottleneck=bottleneck,
        bottleneck_arguments=arguments,
        rate=0.5 if bottleneck else None,
    )
    torch.manual_seed(seed)
    model = build(spec).eval()
    if model.bottleneck is not None:
        model.bottleneck.prepare_training()
        model.bottleneck.freeze()
    save(model, spec, folder / name)
    return folder / name


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of untrained models: ``plain`` and ``other`` (float32), ``coded`` (factorized), ``whole``."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "plain": _saved(folder, "plain", "float32", "stage2"),
        "other": _saved(folder, "other", "float32", "stage2", seed=1),
        "coded": _saved(folder, "coded", "factorized", "stage2"),
        "whole": _saved(folder, "whole", None, "output"),
    }


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """A file of 40 labelled images."""
    path = tmp_path_factory.mktemp("samples") / "samples.safetensors"
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (40,), generator=generator)
    save_file({"images": images, "labels": labels, "ids": torch.arange(100, 140)}, path)
    return path


def until(condition, what, patience_s=PATIENCE_S):
    """Wait until ``condition()`` holds; its value."""
    end = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} took more than {patience_s} s"
        time.sleep(0.01)
    return value


class Process:
    """A process of ours: its output, its memory, its end."""

    def __init__(self, module, *arguments, folder):
        self.errors_path = folder / f"{module}.{time.monotonic_ns()}.err"
        with self.errors_path.open("wb") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    @property
    def errors(self):
        return self.errors_path.read_text()

    @property
    def rss_mb(self):
        fields = Path(f"/proc/{self.popen.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self, signal_number=None):
        """Its exit code, after a signal if one is given."""
        if signal_number is not None:
            self.popen.send_signal(signal_number)
        self.output = self.popen.communicate(timeout=PATIENCE_S)[0].decode()
        return self.popen.returncode

    def clean_up(self):
        if self.popen.poll() is None:
            self.popen.kill()
        with contextlib.suppress(ValueError):
            self.popen.communicate(timeout=PATIENCE_S)


@pytest.fixture
def start(tmp_path):
    """Starts ``python -m edge.server`` and ``edge.device`` processes that end with the test."""
    processes = []

    def begin(module, *arguments):
        processes.append(Process(module, *arguments, folder=tmp_path))
        return processes[-1]

    yield begin
    for process in processes:
        process.clean_up()


@pytest.fixture
def start_server(start, tmp_path):
    """Starts a tail server and waits until it serves; the process, with its ``address``."""

    def begin(*folders, listen="127.0.0.1:0", arguments=()):
        announced = tmp_path / f"server.{time.monotonic_ns()}.json"
        chosen = [word for folder in folders for word in ("--model", folder)]
        server = start("edge.server", *chosen, "--listen", listen, "--announce", announced, *arguments)
        until(lambda: announced.exists() or server.popen.poll() is not None, "starting a server")
        assert server.popen.poll() is None, server.errors
        record = json.loads(announced.read_text())
        assert record["pid"] == server.popen.pid
        server.address = record["address"]
        return server

    return begin


@pytest.fixture
def events_of():
    """Reads a device's events: by sample, then by stage; streams apart, under None."""

    def read(path):
        found = {}
        for line in path.read_text().splitlines():
            event = json.loads(line)
            key = (event["method"], event["sample"]) if "sample" in event else None
            stages = found.setdefault(key, {})
            stages.setdefault(event["stage"], []).append(event)
        return found

    return read


@pytest.fixture
def serve():
    """Runs a coroutine function against a server in this process: ``serve(folders, check, **settings)``.

    What ``server`` holds goes to the ``TailServer`` itself.
    """

    def run(folders, check, server=None, **settings):
        from edge.bundle import load_server
        from edge.server import TailServer
        from edge.service import Settings

        halves = {half.model_id: half for half in map(load_server, folders)}

        async def main():
            serving = TailServer(halves, Settings(**settings), "127.0.0.1:0", **(server or {}))
            await serving.start()
            try:
                await asyncio.wait_for(check(serving), PATIENCE_S)
            finally:
                await serving.stop(5.0)

        asyncio.run(main())

    return run


@pytest.fixture
def wait_until():
    """``until``: wait for a condition, but not for ever."""
    return until


@pytest.fixture
def kill():
    """The signal that cannot be handled."""
    return signal.SIGKILL
