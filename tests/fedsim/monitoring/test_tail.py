"""What a tail server, a real one, says of itself."""

import json
import subprocess
import sys
import time
from pathlib import Path

from prometheus_client.core import Metric

from fedsim.monitoring.tail import TailMetrics

from ..engines.plans import made, small


def told(metrics: TailMetrics) -> dict[str, float]:
    def value(metric: Metric) -> float:
        (sample,) = metric.samples
        return sample.value

    return {metric.name: value(metric) for metric in metrics.collect()}


def test_a_server_that_comes_and_goes(tmp_path: Path) -> None:
    plan = small(tmp_path, made(tmp_path, "float32", "float32", "stage2"))
    bundle = str(plan.methods[0].bundle)
    announced = tmp_path / "server.json"
    command = [sys.executable, "-m", "edge.server", "--model", bundle, "--announce", str(announced)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while not announced.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        address = json.loads(announced.read_text())["address"]
        metrics = TailMetrics(address)
        assert told(metrics) == {
            "fedsim_tail_up": 1,
            "fedsim_tail_streams": 0,
            "fedsim_tail_waiting": 0,
            "fedsim_tail_answered": 0,
            "fedsim_tail_rejected": 0,
        }
        device = [sys.executable, "-m", "edge.device", "--server", address, "--model", bundle]
        device += ["--samples", str(plan.samples), "--out", str(tmp_path / "events.jsonl")]
        subprocess.run(device, check=True, capture_output=True)
        assert told(metrics)["fedsim_tail_answered"] == plan.sample_count
        server.terminate()
        server.wait(30)
    assert told(metrics) == {"fedsim_tail_up": 0}
