"""Models whose outputs are a prototype space, and real digits for them."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn import functional as F

from edge import backbones
from edge.bundle import ModelSpec, build, save


def _spec(name, width=16, bottleneck=None):
    return ModelSpec(
        name=name,
        network="digits-cnn",
        network_arguments={"classes": width, "widths": [8, 16, 32]},
        cut="stage2" if bottleneck else "output",
        entry=None,
        input_shape=(1, 8, 8),
        bottleneck=bottleneck,
    )


def _digits():
    data = load_digits()
    images = torch.from_numpy(np.round(data.images * 255 / 16).astype(np.uint8))[:, None]
    return images, torch.from_numpy(data.target.astype(np.int64))


def _trained(network):
    """A network that has gone twice through 900 digits, none of which is in ``digits``."""
    images, labels = (part[800:1700] for part in _digits())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    network.train()
    for _ in range(2):
        for rows in torch.randperm(len(labels)).split(64):
            loss = F.cross_entropy(network(images[rows].float() / 255), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def spaces(tmp_path_factory):
    """Models: ``whole`` and ``split`` are one network; ``other`` is untrained, ``narrow`` has 8 outputs."""
    folder = tmp_path_factory.mktemp("spaces")
    specs = [_spec("whole"), _spec("split", bottleneck="float32")]
    specs += [_spec("other"), _spec("narrow", width=8, bottleneck="float32")]
    torch.manual_seed(1)
    trained = _trained(backbones.create(specs[0].network, **specs[0].network_arguments))
    for spec in specs:
        shared = trained if spec.name in {"whole", "split"} else None
        save(build(spec, shared).eval(), spec, folder / spec.name)
    return {spec.name: folder / spec.name for spec in specs}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Labelled digits: of 0 to 4 (``low``) and 5 to 9 (``high``) some to learn, others of all to ``test``."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = _digits()
    learnt, tested = torch.arange(600), torch.arange(600, 800)
    rows = {"low": learnt[labels[:600] < 5], "high": learnt[labels[:600] >= 5], "test": tested}
    for name, chosen in rows.items():
        tensors = {"images": images[chosen], "labels": labels[chosen], "ids": chosen}
        save_file(tensors, folder / name)
    save_file({"images": images[:4].clone()}, folder / "unlabelled")
    save_file({"images": images[:4].clone(), "labels": torch.tensor([3, -1, 0, 0])}, folder / "odd")
    save_file({"images": images[:4].clone(), "labels": torch.tensor([1, 2, 11, 3])}, folder / "eleven")
    large = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    save_file({"images": large, "labels": torch.zeros(2, dtype=torch.int64)}, folder / "large")
    return {name: folder / name for name in (*rows, "unlabelled", "odd", "eleven", "large")}
