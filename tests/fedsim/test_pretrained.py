from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edge import backbones
from fedsim.errors import ModelError
from fedsim.pretrained import load_weights


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return backbones.create("digits-cnn", widths=[2, 3, 4])


def write(path: Path, state: dict[str, Tensor]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        save_file(state, path)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("by_folder", [True, False])
def test_weights_come_out_of_a_file(
    kind: str, by_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = network(1), network(2)
    # As others publish it: without our normalisation, and without the counters that older torch had not.
    state = {k: v for k, v in theirs.state_dict().items() if "normalise" not in k and "num_batches" not in k}
    path = tmp_path / f"weights.{kind}"
    write(path, state)
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    load_weights(mine, path.name if by_folder else str(path))
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in mine.state_dict().items())


def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path: Path) -> None:
    mine = network()
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    state = network(1).state_dict()
    path = tmp_path / "w.npz"
    name = "stage1.conv1.weight"
    for wrong, message in [
        ({k: v for k, v in state.items() if k != name}, f"the file lacks {name}"),
        ({**state, "fc.bias": torch.ones(3)}, "the file has fc.bias that the network has not"),
        (
            {f"module.{k}": v for k, v in state.items()},
            r"lacks stage1\.conv1\.weight.* and \d+ more, and has m",
        ),
        (
            {**state, name: torch.ones(2, 1, 3, 5)},
            rf"{name} has shape \(2, 1, 3, 5\), expected \(2, 1, 3, 3\)",
        ),
        (
            {**state, name: torch.ones(2, 1, 3, 3, dtype=torch.int8)},
            f"{name} is torch.int8, expected torch.float32",
        ),
        ({**state, name: torch.full((2, 1, 3, 3), float("nan"))}, f"{name} has values that are not finite"),
    ]:
        write(path, wrong)
        with pytest.raises(ModelError, match=message):
            load_weights(mine, str(path))
    assert all(torch.equal(value, before[key]) for key, value in mine.state_dict().items())


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no", b"\xff" * 64])
def test_a_damaged_file_is_named(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"w.{kind}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"weights {path} cannot be read"):
        load_weights(network(), str(path))


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(network(), str(path))


def test_a_file_that_is_not_there_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(ModelError, match=rf"looked for w\.npz and {tmp_path}/w\.npz"):
        load_weights(network(), "w.npz")
    monkeypatch.delenv("FEDSIM_DATA")
    with pytest.raises(ModelError, match=r"looked for w\.npz \(FEDSIM_DATA is not set\)"):
        load_weights(network(), "w.npz")
    with pytest.raises(ModelError, match=r"allowed are files \*\.npz or \*\.safetensors"):
        load_weights(network(), "w.pth")
