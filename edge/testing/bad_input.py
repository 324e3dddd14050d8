"""Clauses of bad input: it is refused by the error that the contract names, and never crashes a peer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from edge.bottlenecks.base import PayloadError
from edge.testing.clauses import BrokenError, Clause, Subject, clause, expect, said
from edge.testing.coding import decodes, encodes

__all__ = ["CLAUSES"]

_DAMAGED_SAMPLES = 8


@clause("features of a wrong shape are refused", encodes)
def shaped(subject: Subject) -> None:
    """With a ValueError."""
    short = subject.features[..., :-1]
    _expect_refused(subject, short, f"features of shape {tuple(short.shape)}")


@clause("features that are not finite are refused", encodes)
def finite(subject: Subject) -> None:
    """With a ValueError."""
    for value in (float("nan"), float("inf")):
        odd = subject.features.clone()
        odd[(0,) * odd.ndim] = value
        _expect_refused(subject, odd, f"features with one value {value}")


def _expect_refused(subject: Subject, features: Tensor, what: str) -> None:
    hint = "check_features(features) at the start of encode does it"
    try:
        subject.bottleneck.encode(features)
    except ValueError:
        return
    except Exception as error:
        raise BrokenError(f"{what}: {said(error)}; expected ValueError: {hint}") from error
    raise BrokenError(f"{what}: no ValueError: {hint}")


@clause("a damaged payload raises PayloadError or decodes to the right shape", decodes)
def damaged(subject: Subject) -> None:
    """Nothing else may come of bytes from a network."""
    generator = np.random.default_rng(0)
    for payload in subject.payloads[:_DAMAGED_SAMPLES]:
        for how, odd in _damaged(payload, generator):
            try:
                shape = tuple(subject.bottleneck.decode([odd]).shape[1:])
            except PayloadError:
                continue
            except Exception as error:
                raise BrokenError(f"{how}: {said(error)}; expected PayloadError") from error
            expected = subject.bottleneck.output_shape
            expect(shape == expected, f"{how}: decoded to shape {shape}, expected {expected}")


def _damaged(payload: bytes, generator: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Payloads that a link or a stranger may make of one, each with what was done to it."""
    size = len(payload)
    yield "no bytes", b""
    yield f"the first {size // 2} of {size} bytes", payload[: size // 2]
    yield f"5 bytes more than {size}", payload + bytes(generator.integers(0, 256, 5, dtype=np.uint8))
    yield f"{size} random bytes", bytes(generator.integers(0, 256, size, dtype=np.uint8))
    for _ in range(4):
        flipped = bytearray(payload)
        byte, bit = int(generator.integers(size)), int(generator.integers(8))
        flipped[byte] ^= 1 << bit
        yield f"bit {bit} of byte {byte} of {size} flipped", bytes(flipped)


CLAUSES: tuple[Clause, ...] = (shaped, finite, damaged)
