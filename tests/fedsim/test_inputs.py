from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim import data
from fedsim.inputs import inputs_of
from fedsim.scenario import Scenario

NETWORK = "from torch import nn\ndef make(): return nn.Flatten()\n"
BOTTLENECK = "from edge.bottlenecks.raw_features import Float16\nclass Mine(Float16): pass\n"


def scenario(**model: Any) -> Scenario:
    document = {"backbone": "digits-cnn", "cut": "stage2", "bottleneck": {"name": "float16"}, **model}
    fleet = [{"count": 1}]
    return Scenario(
        name="s", data={"name": "digits"}, model=document, baselines=["local", "png"], fleet=fleet
    )  # type: ignore[arg-type]


def test_our_own_parts_are_known_by_their_version() -> None:
    assert list(inputs_of(data.load("digits"), [scenario()], [scenario()])) == ["the data set 'digits'"]


def test_each_file_of_a_user_has_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    weights, network = tmp_path / "w.npz", tmp_path / "net_of_a_user.py"
    bottleneck = tmp_path / "bottleneck_of_a_user.py"
    np.savez(weights, a=np.zeros(1))
    network.write_text(NETWORK)
    bottleneck.write_text(BOTTLENECK)
    name = "bottleneck_of_a_user:Mine"
    one = scenario(backbone="net_of_a_user:make", bottleneck={"name": name}, weights=str(weights))
    dataset = data.load("digits")
    before = inputs_of(dataset, [one], [one])
    assert len(before) == 4
    assert f"the code of {name!r}" not in inputs_of(dataset, [one], [])
    for path, what in (
        (network, "net_of_a_user"),
        (bottleneck, "bottleneck_of_a_user"),
        (weights, "weights"),
    ):
        with path.open("ab") as file:
            file.write(b"\n")
        after = inputs_of(dataset, [one], [one])
        (changed,) = [key for key in before if before[key] != after[key]]
        assert what in changed
        before = after
