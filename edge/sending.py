"""What a device sends of a sample: at which level, within how many bytes, and what the way leaves of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from edge.bundle import DeviceHalf

__all__ = ["Choice", "Coded", "Erasure"]


@dataclass(frozen=True, slots=True)
class Coded:
    """A sample's payload, if there is one."""

    payload: bytes | None
    note: str | None = None  #: the level, where its size decided that; or why there is no payload


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen when a model is run, so that one bundle can be several rows of a table.

    Args:
        method: name in the events; the model's own where it is not given.
        level: the level at which samples are encoded (see :attr:`edge.bottlenecks.Bottleneck.levels`); the
            highest where it is not given.
        max_bytes: a cap on the payload: each sample is encoded at the highest level, up to ``level``, whose
            payload is no longer. It is tried from the top, so that what ``encode`` takes grows with the
            levels that do not fit.
    """

    method: str | None = None
    level: int | None = None
    max_bytes: int | None = None

    def name(self, half: DeviceHalf) -> str:
        """What the model is called in the events."""
        return half.spec.name if self.method is None else self.method

    def check(self, half: DeviceHalf) -> None:
        """See that ``half`` can be run so.

        Raises:
            ValueError: a level that its bottleneck does not have, or a model that sends nothing.
        """
        given = {"level": self.level, "max_bytes": self.max_bytes}
        chosen = [option for option, value in given.items() if value is not None]
        if half.bottleneck is None:
            if chosen:
                raise ValueError(
                    f"model {half.spec.name} runs whole on the device: it has no {' and no '.join(chosen)}"
                )
        elif self.level is not None:
            try:
                half.bottleneck.check_level(self.level)
            except ValueError as error:
                raise ValueError(f"model {half.spec.name}: {error}") from error

    def encoded(self, half: DeviceHalf, features: Tensor) -> Coded:
        """The payload of one sample's ``features`` [1, *feature_shape].

        Raises:
            ValueError: as the bottleneck's ``encode``.
        """
        if self.max_bytes is None:
            (payload,) = half.encode(features, self.level)
            return Coded(payload)
        top = half.levels - 1 if self.level is None else self.level
        for level in range(top, -1, -1):
            (payload,) = half.encode(features, level)
            if len(payload) <= self.max_bytes:
                return Coded(payload, f"level {level}")
        return Coded(None, f"no level fits {self.max_bytes} bytes (lowest takes {len(payload)})")


@dataclass(frozen=True, slots=True)
class Erasure:
    """Packets that the way to the server loses, each on its own with ``probability``.

    What is lost is decided by ``seed`` and the sample's number alone, so that a run can be repeated, with
    any number of samples in flight, and a payload that is sent again loses the same packets again.

    Args:
        probability: 0 loses nothing.
        seed: a whole number of at least 0.
    """

    probability: float = 0.0
    seed: int = 0

    def passed(self, half: DeviceHalf, payload: bytes | None, sample: int) -> bytes | None:
        """What arrives of ``payload``; None where nothing does."""
        if not self.probability or half.bottleneck is None or payload is None:
            return payload
        from edge.erasures import erased  # noqa: PLC0415  of use to few

        generator = np.random.default_rng((self.seed, sample))
        return erased(half.bottleneck, payload, self.probability, generator)
