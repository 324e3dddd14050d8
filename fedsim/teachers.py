"""The uncut networks of a scenario: each trained once, kept, and shared between processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from edge import backbones
from fedsim import __version__
from fedsim.errors import OutputError
from fedsim.pretrained import find_weights, load_weights
from fedsim.progress import Display
from fedsim.scenario import Scenario
from fedsim.training.checkpoint import Checkpoint, code_of, identity_of
from fedsim.training.classifier import train_classifier
from fedsim.training.compute import Compute
from fedsim.training.loop import Epoch, Images

__all__ = ["Teacher", "Teachers", "digest_of"]


@dataclass(frozen=True)
class Teacher:
    """An uncut network with trained weights, in eval mode; not to be changed."""

    network: nn.Module
    history: tuple[Epoch, ...]  #: of its training; empty where its weights come from a file
    digest: str  #: of its weights


class Teachers:
    """Makes and keeps the teachers of one data set and seed.

    Args:
        images: the training set.
        digest: of the data set.
        seed: of the training.
        display: shows the progress.
        compute: where they are trained.
        folder: trained teachers are kept here for other processes; None keeps them in this one alone. Two
            processes that need the same do not both train it: the second waits for the first.
        checkpoint: makes the checkpoint of a training by its name and identity, or None.
    """

    def __init__(
        self,
        images: Images,
        digest: str,
        seed: int,
        display: Display,
        compute: Compute,
        folder: Path | None,
        checkpoint: Callable[[str, str], Checkpoint | None],
    ) -> None:
        self._images = images
        self._digest = digest
        self._seed = seed
        self._display = display
        self._compute = compute
        self._folder = folder
        self._checkpoint = checkpoint
        self._made: dict[str, Teacher] = {}

    def get(self, scenario: Scenario) -> Teacher:
        """The teacher that the scenario asks for: made before, kept by another process, or trained now.

        Raises:
            FedsimError: it cannot be trained, its weights not be loaded, or the folder not be used.
            LookupError, TypeError, ValueError: no such network.
        """
        section, training = scenario.model, scenario.training
        weights = None if section.weights is None else _file_digest(find_weights(section.weights))
        identity = identity_of(
            version=__version__,
            backbone=[section.backbone, section.backbone_arguments],
            code=_code(section.backbone, section.backbone_arguments),
            training=[training.teacher_epochs, training.teacher_learning_rate, training.batch_size],
            weights=weights,
            data=self._digest,
            seed=self._seed,
            compute=[self._compute.device.type, self._compute.precision],
        )
        if identity not in self._made:
            self._made[identity] = self._kept_or_made(scenario, identity)
        return self._made[identity]

    def _kept_or_made(self, scenario: Scenario, identity: str) -> Teacher:
        section = scenario.model
        if section.weights is not None:
            network = self._network(scenario)
            load_weights(network, section.weights)
            return _finished(network, ())
        if self._folder is None:
            return self._trained(scenario, self._begun(scenario, identity))
        path = self._folder / f"{_word(section.backbone)}-{identity[:16]}.safetensors"
        with self._locked(path.with_suffix(".lock"), section.backbone):
            kept = _read(path, identity, self._network(scenario)) if path.is_file() else None
            if kept is None:
                checkpoint = self._begun(scenario, identity)
                kept = self._trained(scenario, checkpoint)
                _write(path, identity, kept)
                if checkpoint is not None:
                    checkpoint.remove()
        return kept

    def _network(self, scenario: Scenario) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            return backbones.create(scenario.model.backbone, **scenario.model.backbone_arguments)

    def _begun(self, scenario: Scenario, identity: str) -> Checkpoint | None:
        return self._checkpoint(f"{_word(scenario.model.backbone)}-{identity[:8]}", identity)

    def _trained(self, scenario: Scenario, checkpoint: Checkpoint | None) -> Teacher:
        section, training = scenario.model, scenario.training
        with (
            torch.random.fork_rng(),
            self._display.task(f"training {section.backbone}", training.teacher_epochs) as task,
        ):
            torch.manual_seed(self._seed)
            network = backbones.create(section.backbone, **section.backbone_arguments)
            history = train_classifier(
                network,
                self._images,
                epochs=training.teacher_epochs,
                batch_size=training.batch_size,
                learning_rate=training.teacher_learning_rate,
                generator=torch.Generator().manual_seed(self._seed),
                task=task,
                compute=self._compute,
                checkpoint=checkpoint,
            )
        return _finished(network, tuple(history))

    @contextmanager
    def _locked(self, path: Path, backbone: str) -> Iterator[None]:
        """Hold the lock of one teacher. The system lets go of it when its holder dies."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(
                f"trained networks cannot be kept in {path.parent}: {error.strerror}"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with self._display.task(f"waiting for {backbone}, which another process trains", 1):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def digest_of(*arrays: NDArray[Any]) -> str:
    """A name for the content of NumPy arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(json.dumps([str(array.dtype), array.shape]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _code(backbone: str, arguments: Mapping[str, Any]) -> list[str]:
    """What stands for the code of a network: its own, and that of the module which makes it."""
    network = backbones.skeleton(backbone, **arguments)
    return code_of(network, sys.modules.get(backbone.partition(":")[0]))


def _finished(network: nn.Module, history: tuple[Epoch, ...]) -> Teacher:
    network.eval().requires_grad_(False)
    return Teacher(network, history, _weights_digest(network))


def _weights_digest(network: nn.Module) -> str:
    return digest_of(*(value.cpu().numpy() for _, value in sorted(network.state_dict().items())))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _word(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.")


def _write(path: Path, identity: str, teacher: Teacher) -> None:
    """Write a teacher, whole or not at all."""
    history = json.dumps([asdict(epoch) for epoch in teacher.history])
    metadata = {"identity": identity, "digest": teacher.digest, "history": history}
    tensors = {key: value.contiguous().clone() for key, value in teacher.network.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, metadata)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"the trained network cannot be kept as {path}: {error}") from error


def _read(path: Path, identity: str, network: nn.Module) -> Teacher | None:
    """The teacher in a file; None where the file is damaged or holds another."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        if metadata.get("identity") != identity:
            return None
        history = tuple(Epoch(**epoch) for epoch in json.loads(metadata["history"]))
        digest = metadata["digest"]
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        return None
    teacher = _finished(network, history)
    return teacher if teacher.digest == digest else None
