"""Bundles of small models without training."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edge.bundle import ModelSpec, build, save


def saved(folder: Path, name: str, bottleneck: str | None, seed: int = 0, width: int = 8) -> Path:
    spec = ModelSpec(
        name=name,
        network="digits-cnn",
        network_arguments={"widths": [width] * 3},
        cut="output" if bottleneck is None else "stage1",
        entry=None,
        input_shape=(1, 8, 8),
        bottleneck=bottleneck,
    )
    torch.manual_seed(seed)
    model = build(spec).eval()
    if model.bottleneck is not None:
        model.bottleneck.freeze()
    save(model, spec, folder / name)
    return folder / name


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three models, as a run leaves it: ``plain``, ``split at 0.5`` and ``whole``."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    for name, bottleneck in (("plain", "float32"), ("split at 0.5", "float16"), ("whole", None)):
        saved(folder / "models", name, bottleneck)
    return folder


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that fit the models."""
    path = tmp_path_factory.mktemp("samples") / "digits.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file({"images": torch.randint(256, (5, 1, 8, 8), generator=generator, dtype=torch.uint8)}, path)
    return path
