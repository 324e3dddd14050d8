"""Runs that every engine is tried with, and what has to be equal between two engines."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil

from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.engines.programs import alive
from fedsim.federated.runspec import RunSpec

GONE_S = 10.0
NETWORK = {"backbone": "digits-cnn", "arguments": {"widths": [2, 4, 8]}}
MISSIONS = {"base": [0, 1, 2, 3, 4], "field": [5, 6, 7, 8, 9], "classes": 2, "shots": 10}


def growing(rounds: int = 2, clients: int = 2, **values: Any) -> RunSpec:
    """Federated Reconnaissance: clients meet the digits 5 to 9."""
    given = {
        "data": "digits",
        "method": "reconnaissance",
        "missions": MISSIONS,
        "options": {"pretraining": {"kind": "classifier", "epochs": 1}},
    }
    return RunSpec(clients=clients, rounds=rounds, networks=(NETWORK,), **(given | values))


def personal(rounds: int = 2, clients: int = 2, **values: Any) -> RunSpec:
    """FedProto: clients train models of their own, which they keep."""
    given = {
        "data": "digits",
        "method": "fedproto",
        "partition": {"kind": "dirichlet", "alpha": 0.5},
        "options": {"training": {"batch_size": 32, "learning_rate": 0.05}},
    }
    return RunSpec(clients=clients, rounds=rounds, networks=(NETWORK,), **(given | values))


def assert_same(one: Outcome, other: Outcome) -> None:
    """Counts and cohorts are equal, sums within 1e-6 of the largest."""
    assert one.state.statistics.keys() == other.state.statistics.keys()
    for name, mine in one.state.statistics.items():
        theirs = other.state.statistics[name]
        assert len(mine)
        assert np.array_equal(mine.classes, theirs.classes)
        assert np.array_equal(mine.counts, theirs.counts)
        assert np.abs(mine.sums - theirs.sums).max() <= 1e-6 * np.abs(mine.sums).max()
    for mine, theirs in zip(one.records, other.records, strict=True):
        assert (mine.number, mine.cohort, mine.merged) == (theirs.number, theirs.cohort, theirs.merged)
        assert mine.rejected == theirs.rejected == ()
        assert mine.results.keys() == theirs.results.keys()
        for client, results in mine.results.items():
            for a, b in zip(results, theirs.results[client], strict=True):
                assert (a.predictor, a.classes, a.test, a.total) == (b.predictor, b.classes, b.test, b.total)
                assert abs(a.right - b.right) <= 2  # a sample on the border between two classes


@contextmanager
def nothing_left() -> Iterator[set[int]]:
    """Sees to it that no process that came of this one inside is there behind; gives those seen so far."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            seen.update(child.pid for child in psutil.Process().children(recursive=True))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    assert len(seen) >= 2
    # What was killed at the very end may take a moment to be gone.
    deadline = time.monotonic() + GONE_S
    while left := [pid for pid in seen - before if alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
