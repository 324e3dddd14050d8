"""What decides a result and does not stand in the scenario: data, files of weights, the code of others."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from edge import bottlenecks
from fedsim.data import Dataset
from fedsim.errors import ModelError
from fedsim.pretrained import find_weights
from fedsim.scenario import LOCAL, Scenario
from fedsim.teachers import digest_of

__all__ = ["inputs_of"]

#: Packages whose versions say what they do.
_VERSIONED = {"edge", "fedsim", "timm", "torch", "torchvision", *sys.stdlib_module_names}


def inputs_of(dataset: Dataset, scenarios: Iterable[Scenario], points: Iterable[Scenario]) -> dict[str, str]:
    """Digests (SHA-256, hexadecimal) of what scenarios name and do not hold, each with what it is of.

    Args:
        dataset: of all of them.
        scenarios: their networks and baselines are used.
        points: their networks and bottlenecks are.

    What cannot be read is left out. Of the code of others it is the files of the named classes and of
    what they inherit from, not what those import.
    """
    arrays = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    found = {f"the data set {dataset.name!r}": digest_of(*arrays)}
    scenarios, points = list(scenarios), list(points)
    names = {point.model.bottleneck.name for point in points}
    names |= {baseline.name for scenario in scenarios for baseline in scenario.baselines} - {LOCAL}
    code = {name: list(_files_of_bottleneck(name)) for name in sorted(names)}
    models = [scenario.model for scenario in (*scenarios, *points)]
    code |= {name: list(_files_of_backbone(name)) for name in {model.backbone for model in models}}
    for weights in {model.weights for model in models} - {None}:
        with suppress(ModelError):
            found[f"the weights {weights!r}"] = _digest([find_weights(str(weights))])
    found |= {f"the code of {name!r}": _digest(files) for name, files in code.items() if files}
    return found


def _files_of_bottleneck(name: str) -> Iterator[Path]:
    with suppress(LookupError, TypeError):
        for cls in bottlenecks.find(name).__mro__:
            if cls.__module__.partition(".")[0] not in _VERSIONED:
                with suppress(TypeError, OSError):
                    yield Path(inspect.getsourcefile(cls) or "")


def _files_of_backbone(name: str) -> Iterator[Path]:
    module, colon, _ = name.partition(":")
    if colon and module.partition(".")[0] not in _VERSIONED:
        with suppress(ImportError, TypeError):
            yield Path(inspect.getsourcefile(importlib.import_module(module)) or "")


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with suppress(OSError):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
