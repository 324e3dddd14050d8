"""Every family keeps the contract."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from edge.bottlenecks import available, create
from edge.bottlenecks.base import PayloadError
from edge.testing import check_bottleneck

FAMILIES: list[tuple[str, tuple[int, ...], tuple[int, ...] | None, dict[str, Any]]] = [
    ("factorized", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("factorized", (3, 15, 13), (8, 8, 7), {"channels": 4}),
    ("factorized", (16, 5, 5), None, {"channels": 4, "encoder_channels": (8, 6), "decoder_channels": (7, 9)}),
    ("bottlefit", (3, 16, 16), (8, 2, 2), {"channels": 3, "widths": (8, 8)}),
    ("bottlefit", (3, 15, 13), (6, 4, 4), {"channels": 2, "bits": 3, "percentile": 99, "widths": (8, 8)}),
    ("bottlefit", (3, 9, 7), (6, 2, 1), {"channels": 2, "bits": 1, "widths": (8, 8)}),
    ("bottlefit", (4, 8, 8), (6, 4, 4), {"channels": 4, "entropy_coding": True, "widths": (8, 8)}),
    ("bottlefit", (4, 5, 5), None, {"channels": 3, "bits": 2, "entropy_coding": True, "widths": (8, 8)}),
    ("channel", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("channel", (3, 15, 13), (8, 8, 7), {"channels": 4, "packets": 2, "noise": 0.5}),
    ("channel", (4, 6, 6), None, {"channels": 5, "packets": 3, "erasure": 0.0}),
    ("vq", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("vq", (3, 15, 13), (8, 8, 7), {"channels": 4, "codes": 5, "stages": 1}),
    ("vq", (16, 5, 5), None, {"channels": 4, "codes": 70, "stages": 8}),
    ("key-value", (7,), (10,), {}),
    ("key-value", (6, 4, 4), None, {"codebooks": 3, "codes": 5, "pooling": "flatten"}),
    ("key-value", (6, 4, 4), (5, 2), {"codebooks": 2, "codes": 2, "key_dim": 1}),
    ("variable-rate", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("variable-rate", (4, 7, 7), None, {"channels": 3, "levels": 3, "span": 4.0}),
    ("information", (3, 16, 16), (8, 4, 4), {"channels": 6, "step": 1.0}),
    ("information", (12,), None, {"channels": 4}),
    ("information", (12,), (3, 2, 2), {"channels": 4, "divergence": "cauchy-schwarz"}),
    ("hyperprior", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("hyperprior", (16, 5, 5), None, {"channels": 4, "hyper_channels": 3}),
    ("mean-scale-hyperprior", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("mean-scale-hyperprior", (3, 15, 13), (8, 8, 7), {"channels": 4, "hyper_channels": 3}),
    ("float32", (5, 3, 2), None, {}),
    ("float16", (5, 3, 2), None, {}),
    ("integer", (5, 3, 2), None, {}),
    ("integer", (7, 3, 3), None, {"bits": 1}),
    ("integer", (7, 3, 3), None, {"bits": 11}),
    ("raw-image", (1, 9, 7), None, {}),
    ("png", (3, 9, 7), None, {}),
    ("png", (1, 9, 7), None, {}),
    ("jpeg", (3, 16, 16), None, {"quality": 30}),
    ("jpeg", (1, 8, 8), None, {}),
    ("webp", (3, 16, 16), None, {"quality": 10}),
    ("webp", (1, 8, 8), None, {}),
]


@pytest.mark.parametrize(("name", "shape", "target", "options"), FAMILIES)
def test_every_family_conforms(
    name: str, shape: tuple[int, ...], target: tuple[int, ...] | None, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    report = check_bottleneck(lambda: create(name, shape, target, **options), torch.rand(6, *shape))
    assert len(report.payload_bytes) == 6


def test_every_registered_family_of_ours_is_in_the_list() -> None:
    ours = {name for name, origin in available().items() if origin.startswith("edge.")}
    assert ours == {name for name, *_ in FAMILIES}


MADE_ON_META = """
import json, sys, torch
from edge.bottlenecks import create
computing = []
for name, shape, target, options in json.loads(sys.argv[1]):
    with torch.device("meta"):
        create(name, shape, target, **options)
    if "torch._dynamo" in sys.modules:
        computing.append(name)
        break
print(json.dumps(computing))
"""


def test_no_constructor_computes() -> None:
    """In a process of its own: once loaded, ``torch._dynamo`` says nothing of who asked for it."""
    command = [sys.executable, "-c", MADE_ON_META, json.dumps(FAMILIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("name", ["float32", "float16", "integer", "raw-image", "png", "jpeg", "webp"])
def test_payloads_of_another_size_are_refused(name: str) -> None:
    small, large = create(name, (1, 8, 8)), create(name, (1, 8, 16))
    with pytest.raises(PayloadError, match="expected"):
        small.decode(large.encode(torch.rand(1, 1, 8, 16)))
