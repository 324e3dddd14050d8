"""Methods of a federation against each other: what they come to on the same clients, samples and seeds.

The comparison on Fashion-MNIST needs ``$FEDSIM_DATA`` and the better part of an hour; with
``$FEDSIM_BENCHMARK_RUNS``, a folder for its runs, those that are finished are not made again.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsim import data, scenario
from fedsim.data.files import VARIABLE
from fedsim.errors import DataError
from fedsim.federated.method import Client
from fedsim.federated.runner import federate, specs_of
from fedsim.measure.federation.summary import summarise_federation
from fedsim.progress import Display

from .processes import ROOT

GROWTH = ROOT / "scenarios" / "class-growth-digits.yaml"
SHARED_BADLY = ROOT / "scenarios" / "fedsa-fashion-mnist.yaml"
SEEDS = (1, 2, 3)

pytestmark = pytest.mark.benchmark


def told(federated, spec, state):
    """Share of the test samples that are told among all classes, and among the base classes alone."""
    site, method = federated.site, spec.federated_method()
    client = Client(0, 1, np.zeros(0, np.int64), dict(method.setup(site, state).parts))
    (predict,) = method.predictors(site, client, method.shared(site, state)).values()
    labels, known = site.dataset.y_test, np.unique(site.dataset.y_train[site.base])
    scores = predict(torch.from_numpy(site.dataset.x_test)).numpy()
    right, base = scores.argmax(1) == labels, np.isin(labels, known)
    among_base = known[scores[base][:, known].argmax(1)] == labels[base]
    return {
        "base": float(right[base].mean()),
        "field": float(right[~base].mean()),
        "base_among_base": float(among_base.mean()),
    }


def test_new_classes(report, tmp_path):
    """Missions on digits: both begin with the same training on the base classes, then meet the others."""
    found = {"reconnaissance": [], "reconnaissance-5-bit": [], "fedavg": []}
    for seed in SEEDS:
        plan = scenario.load(GROWTH, seed=seed)
        specs = specs_of(plan)
        federated = federate(plan, "growth", tmp_path / str(seed), Display(quiet=True))
        part = summarise_federation(federated.site, federated.runs, federated.events, federated.rounds)
        rows = {row.method: row for row in part.rows}
        for row, figures in found.items():
            traffic = rows[row].bytes
            begun = specs[row].federated_method().start(federated.site)
            figures.append(
                {
                    "before": told(federated, specs[row], begun),
                    "behind": told(federated, specs[row], federated.states[row]),
                    "stream_bytes": traffic.down.payload_bytes + traffic.up.payload_bytes,
                    "up_bytes": traffic.up.payload_bytes,
                    "prototypes_or_weights_down_bytes": traffic.evaluation_down.payload_bytes,
                    "setup_bytes": traffic.setup.payload_bytes,
                }
            )
    means = {row: _means(figures) for row, figures in found.items()}
    sent = {row: one["stream_bytes"] for row, one in means.items()}
    fewer = {row: round(sent["fedavg"] / sent[row], 1) for row in means if row != "fedavg"}
    forgotten = {
        row: round(one["before"]["base_among_base"] - one["behind"]["base_among_base"], 4)
        for row, one in means.items()
    }
    report(
        "federation: new classes on digits",
        {"seeds": SEEDS, "times_fewer_bytes": fewer, "base_classes_forgotten": forgotten, **means},
        {"times_fewer_bytes": ">= 100", "base_classes_forgotten": "0 by reconnaissance"},
    )


def _means(figures):
    first = figures[0]
    if isinstance(first, dict):
        return {key: _means([one[key] for one in figures]) for key in first}
    return round(statistics.mean(figures), 4)


def test_prototype_methods(report, tmp_path_factory):
    """FedProto, FedTGP and FedSA as published: the nearest prototype among all classes, on personal tests."""
    try:
        data.load("fashion-mnist")
    except DataError as error:
        pytest.skip(f"{error} (${VARIABLE})")
    kept = os.environ.get("FEDSIM_BENCHMARK_RUNS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("runs")
    tables = [_accuracies(_run(seed, folder)) for seed in SEEDS]
    published = "prototypes, all classes, personal test"
    figures = {
        row: {kind: _over_seeds([table[row][kind] for table in tables]) for kind in kinds}
        for row, kinds in tables[0].items()
    }
    ahead = {
        row: [round(table[row][published] - table["fedproto"][published], 4) for table in tables]
        for row in ("fedtgp", "fedsa")
    }
    report(
        "federation: fashion-mnist, Dirichlet 0.1",
        {"seeds": SEEDS, "compared": published, "ahead_of_fedproto": ahead, **figures},
        {"ahead_of_fedproto": "> 0"},
    )


def _run(seed, folder):
    out = folder / f"{SHARED_BADLY.stem}-{seed}"
    if not (out / "summary.json").exists():
        command = [sys.executable, "-m", "fedsim.cli", "run", str(SHARED_BADLY), "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--out", str(out), "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return json.loads((out / "summary.json").read_text())


def _accuracies(summary):
    return {
        row["method"]: {
            f"{one['predictor']}, {one['classes']} classes, {one['test']} test": one["accuracy"]
            for one in row["accuracy"]
        }
        for row in summary["federation"]["rows"]
    }


def _over_seeds(values):
    return {"mean": round(statistics.mean(values), 4), "deviation": round(statistics.stdev(values), 4)}
