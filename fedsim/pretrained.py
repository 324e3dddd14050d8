"""Weights of a network that somebody else has trained, out of a file."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedsim.data.files import VARIABLE
from fedsim.errors import ModelError

__all__ = ["find_weights", "load_weights"]

_KINDS = (".npz", ".safetensors")
_SHOWN = 5  # names that a message lists


def find_weights(name: str) -> Path:
    """The file ``name``: a path, or a file in the folder that FEDSIM_DATA names.

    Raises:
        ModelError: there is no such file, or it is of another kind.
    """
    if not name.endswith(_KINDS):
        raise ModelError(f"weights {name!r}: allowed are files {' or '.join('*' + kind for kind in _KINDS)}")
    folder = os.environ.get(VARIABLE)
    places = [Path(name), *([Path(folder) / name] if folder else [])]
    for path in places:
        if path.is_file():
            return path
    looked = " and ".join(map(str, places)) + ("" if folder else f" ({VARIABLE} is not set)")
    raise ModelError(f"weights {name!r}: no such file; looked for {looked}")


def load_weights(network: nn.Module, name: str) -> None:
    """Load a file of arrays, named as in the network's state dict, into the network.

    Every value has to be there, with the network's shape, and no other: but for the network's own
    layer ``normalise`` and the counters of batch normalisation, which may be missing.

    Args:
        network: is left as it was where this fails.
        name: a ``.npz`` or ``.safetensors`` file: a path, or its name in the folder FEDSIM_DATA.

    Raises:
        ModelError: no such file, one that cannot be read, or names and shapes that do not fit.
    """
    path = find_weights(name)
    values = _read(path)
    own = network.state_dict()
    missing = [key for key in own if key not in values and not _may_be_missing(key)]
    unknown = [key for key in values if key not in own]
    if missing or unknown:
        problems = [f"lacks {_some(missing)}"] * bool(missing) + [f"has {_some(unknown)}"] * bool(unknown)
        raise ModelError(
            f"weights {path} do not fit the {type(network).__name__}: the file {', and '.join(problems)}"
            f"{' that the network has not' if unknown else ''}"
        )
    for key, value in values.items():
        if value.shape != own[key].shape:
            found, expected = tuple(value.shape), tuple(own[key].shape)
            raise ModelError(f"weights {path} do not fit: {key} has shape {found}, expected {expected}")
        if value.is_floating_point() != own[key].is_floating_point():
            raise ModelError(f"weights {path}: {key} is {value.dtype}, expected {own[key].dtype}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"weights {path}: {key} has values that are not finite")
    with torch.no_grad():
        for key, value in values.items():
            own[key].copy_(value)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {key: torch.from_numpy(archive[key]) for key in archive.files}
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        SafetensorError,
        AttributeError,
    ) as error:
        raise ModelError(f"weights {path} cannot be read: {error}") from error


def _may_be_missing(key: str) -> bool:
    return key.startswith("normalise.") or key.endswith("num_batches_tracked")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
