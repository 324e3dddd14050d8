"""Where a training computes, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from fedsim.errors import TrainingError

__all__ = ["Compute", "Precision", "resolve"]

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Compute:
    """A device, and the precision in which networks run there.

    With ``bf16`` the layers of teacher and tail run under autocast; weights, losses, and all that the
    device will run or the decoder will see stay float32. So likelihoods are exact, any family works as
    it is, and codes round in training as they will when they are sent.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "float32"

    def autocast(self) -> torch.autocast:
        """Inside, layers run in :attr:`precision`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def exactly(self) -> torch.autocast:
        """Inside, layers run in float32, also within :meth:`autocast`."""
        return torch.autocast(self.device.type, enabled=False)

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Inside, cuDNN takes algorithms that give the same result every time, and float32 is float32.

        By default cuDNN rounds float32 to the ten bits of TF32, and codes would round otherwise than on
        the device.
        """
        cudnn = torch.backends.cudnn
        before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = before


def resolve(device: str = "auto", precision: str = "auto") -> Compute:
    """What two words of a scenario mean on this machine.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: the GPU where there is one.
        precision: ``float32``, ``bf16``, or ``auto``: bf16 on a GPU that has it.

    Raises:
        TrainingError: another word, or a GPU that is not there.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise TrainingError(f"training.device is {device!r}, allowed are auto, cpu, cuda")
    if precision not in {"auto", *get_args(Precision)}:
        raise TrainingError(f"training.precision is {precision!r}, allowed are auto, float32, bf16")
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise TrainingError("training.device is 'cuda', but torch finds no GPU here; use auto or cpu")
    place = "cuda" if found and device != "cpu" else "cpu"
    short = precision == "bf16" or (
        precision == "auto" and place == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return Compute(torch.device(place), "bf16" if short else "float32")
