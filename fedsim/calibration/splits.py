"""The stages of a saved model on this machine: head, encoder, decoder, tail.

They are called as a device and a tail server call them, labels and scores included. Each round takes other
images, since the time of a coder goes with what it codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from edge.bundle import BundleError, DeviceHalf, ServerHalf, load_device, load_server
from edge.samples import Samples, SamplesError
from edge.tail import Prediction, Refusal, Request, predict
from fedsim.calibration.timing import LEAST_ROUNDS, Run, timed
from fedsim.errors import HardwareError

__all__ = ["BATCHES", "Stage", "Stages", "load"]

Stage = Literal["head", "encode", "decode", "tail"]
#: Sizes of the batches that a server's stages are measured with.
BATCHES: Final = (1, 2, 4, 8, 16, 32)
_IMAGES = 32  # different ones
_LEAST_BATCHES = 2  # sizes that a line is fitted to
_PASSES = 2 + LEAST_ROUNDS  # that are made of each batch at least


@dataclass(frozen=True, eq=False)
class Stages:
    """A loaded model.

    Args:
        name: its label.
        device: its half on a device.
        server: its half on a server; None where it has none, or none lies beside the other.
        images: [N, C, H, W] that it works on.
        of: what the images are, for people.
    """

    name: str
    device: DeviceHalf
    server: ServerHalf | None
    images: Tensor
    of: str

    def subjects(self, seconds: float) -> dict[tuple[Stage, int], Run]:
        """What to measure, by stage and size of its batch.

        Args:
            seconds: that there are for it. Batches that take too long for so much time are left out, but
                for those of one and of two.
        """
        images = torch.split(self.images, 1)
        features = [self.device.features(image) for image in images]
        found: dict[tuple[Stage, int], Run] = {
            ("head", 1): timed(lambda number: self.device.features(images[number % len(images)]))
        }
        if self.device.local:
            return found
        found["encode", 1] = timed(lambda number: self.device.encode(features[number % len(features)]))
        if self.server is None:
            return found
        server = self.server
        payloads = [payload for one in features for payload in self.device.encode(one)]
        single = min(_serve(server, payloads[:1], "tail")[1] for _ in range(2))
        for size in BATCHES:
            # Either stage is measured by going through both; smaller batches take as long as this one.
            if size > BATCHES[_LEAST_BATCHES - 1] and 4 * _PASSES * size * single > seconds:
                break
            found["decode", size] = _serving(server, payloads, size, "decode")
            found["tail", size] = _serving(server, payloads, size, "tail")
        return found


def load(folders: Sequence[Path], samples: Path | None = None) -> list[Stages]:
    """The models in these folders, and images for them.

    Args:
        folders: bundles, or run folders, which have several in their folder ``models``.
        samples: a file of images (:class:`edge.samples.Samples`); None for random ones.

    Raises:
        HardwareError: a folder without a model, a model or file that cannot be loaded, images of another
            shape, or two models of one name.
    """
    found: dict[str, Stages] = {}
    for folder in folders:
        for bundle in _bundles(folder):
            try:
                stages = _load(bundle, samples)
            except (BundleError, SamplesError) as error:
                raise HardwareError(f"cannot calibrate: {error}") from None
            if stages.name in found:
                raise HardwareError(
                    f"cannot calibrate: {bundle} holds a model {stages.name!r}, as one ahead of it does; a "
                    "device file has one of each name, so measure them into two"
                )
            found[stages.name] = stages
    return list(found.values())


def _bundles(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise HardwareError(f"cannot calibrate: there is no folder {folder}")
    if not (folder / "models").is_dir():
        return [folder]
    if found := sorted(path for path in (folder / "models").iterdir() if path.is_dir()):
        return found
    raise HardwareError(f"cannot calibrate: {folder} has no model in its folder models")


def _load(folder: Path, samples: Path | None) -> Stages:
    device = load_device(folder)
    name, shape = device.spec.name, device.spec.input_shape
    server = None
    if not device.local and (folder / "server").is_dir():
        server = load_server(folder)
        if server.model_id != device.model_id:
            raise BundleError(f"{folder} holds halves of two models, {device.model_id} and {server.model_id}")
    if samples is None:
        images = torch.rand(_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
        return Stages(name, device, server, images, "random images")
    file = Samples(samples, limit=_IMAGES)
    if file.shape != shape:
        raise SamplesError(f"{samples}: images of shape {file.shape}, model {name!r} takes {shape}")
    images = torch.cat([file.image(position) for position in range(len(file))])
    return Stages(name, device, server, images, f"{len(file)} images of {samples.name}")


def _serving(server: ServerHalf, payloads: Sequence[bytes], size: int, stage: Stage) -> Run:
    def run(number: int) -> float:
        batch = [payloads[(number + position) % len(payloads)] for position in range(size)]
        return _serve(server, batch, stage)[0]

    return run


def _serve(server: ServerHalf, payloads: Sequence[bytes], stage: Stage) -> tuple[float, float]:
    """Seconds of one stage of a batch, and of both."""
    answer = predict(server, [Request(payload) for payload in payloads])[0]
    if isinstance(answer, Refusal):
        raise HardwareError(
            f"cannot calibrate: model {server.spec.name!r} cannot be run on these images: {answer.message}"
        )
    return _seconds(answer)[stage], answer.decode_s + answer.tail_s


def _seconds(answer: Prediction) -> Mapping[str, float]:
    return {"decode": answer.decode_s, "tail": answer.tail_s}
