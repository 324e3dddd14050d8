"""What is installed: Python, libraries, data sets."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedsim.data import available
from fedsim.data.files import VARIABLE
from fedsim.doctor.finding import Finding

__all__ = ["data_sets", "packages", "python", "ray"]

_PYTHON = (3, 11)
#: Those whose versions decide what works, as they are called in a package index.
_PACKAGES = (
    "torch",
    "numpy",
    "grpcio",
    "protobuf",
    "constriction",
    "compressai",
    "flwr",
    "pydantic",
    "pyarrow",
)


def python() -> list[Finding]:
    """The interpreter."""
    wanted = ".".join(map(str, _PYTHON))
    return [
        Finding(
            "python",
            "yes" if sys.version_info >= _PYTHON else "no",
            f"{platform.python_version()} on {platform.system()} {platform.release()}",
            "everything",
            f"Python {wanted} or newer",
        )
    ]


def packages() -> list[Finding]:
    """The libraries that fedsim stands on."""
    versions = {name: _version(name) for name in _PACKAGES}
    missing = [name for name, found in versions.items() if found is None]
    return [
        Finding(
            "packages",
            "no" if missing else "yes",
            ", ".join(f"{name} {found or 'is missing'}" for name, found in versions.items()),
            "everything",
            f"pip install {' '.join(missing)}" if missing else "pip install fedsim",
        )
    ]


def ray() -> list[Finding]:
    """The engine that plays the clients of a federation on Ray."""
    found = _version("ray")
    return [
        Finding(
            "ray",
            "no" if found is None else "yes",
            "not installed" if found is None else f"ray {found}",
            "federations, engine: ray",
            "pip install 'fedsim[ray]'",
        )
    ]


def data_sets() -> list[Finding]:
    """Which files of data sets are in the folder that FEDSIM_DATA names."""
    folder = os.environ.get(VARIABLE)
    wanted = {
        name: match[0] for name, origin in available().items() if (match := re.search(r"\S+\.npz", origin))
    }
    present = [name for name, file in wanted.items() if folder and (Path(folder) / file).is_file()]
    missing = [f"{name} ({file})" for name, file in wanted.items() if name not in present]
    told = f"{VARIABLE} is not set"
    if folder:
        told = f"{', '.join(present) or 'none'} in {folder}"
        told += f"; missing {', '.join(missing)}" if missing else ""
    return [
        Finding(
            "data sets",
            "yes" if present else "no",
            told,
            "data sets other than digits",
            f"set {VARIABLE} to the folder that holds {', '.join(wanted.values())}",
        )
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
