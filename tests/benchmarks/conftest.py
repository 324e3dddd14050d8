"""One line of JSON for each figure: what was measured, what was asked, under which conditions."""

import json
import os
from pathlib import Path

import pytest
import torch

from fedsim.measure import environment


def conditions():
    described = environment.describe()
    return {
        "cpu": described.cpu,
        "cpus": described.cpus,
        "threads": torch.get_num_threads(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": described.python,
        "torch": described.torch,
        "git_commit": described.git_commit,
        "git_dirty": described.git_dirty,
    }


@pytest.fixture
def report(capfd):
    """Prints name, figures, what is asked and the conditions in a line; adds it to $FEDSIM_BENCHMARK_OUT."""

    def write(name, figures, asked):
        record = {"name": name, "figures": figures, "asked": asked, "conditions": conditions()}
        line = json.dumps(record, ensure_ascii=False)
        with capfd.disabled():
            print(f"\n{line}", flush=True)
        if out := os.environ.get("FEDSIM_BENCHMARK_OUT"):
            with Path(out).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    return write
