"""Clauses of running: features to bytes and back, at every level."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from edge.bottlenecks.base import NotFrozenError
from edge.testing.clauses import (
    BrokenError,
    Clause,
    Subject,
    clause,
    differing,
    expect,
    expect_close,
    said,
    telling,
)
from edge.testing.training import freezes

__all__ = [
    "CLAUSES",
    "SLACK_BYTES",
    "SLACK_SHARE",
    "decodes",
    "decodes_again",
    "deterministic",
    "encodes",
    "highest",
]

#: A payload may exceed the information in it by this many bytes, and this share of it.
SLACK_BYTES = 8.0
SLACK_SHARE = 0.005
#: What typical features are multiplied with to see what the coder does of what it never saw.
_EXTREMES = (1e3, 1e6, 1e12)


@clause("encode gives one non-empty bytes object a sample", freezes)
def encodes(subject: Subject) -> None:
    """And nothing else."""
    payloads = subject.bottleneck.encode(subject.features)
    expect(isinstance(payloads, list), f"encode returned a {type(payloads).__name__}, expected a list")
    count = len(subject.features)
    expect(len(payloads) == count, f"{len(payloads)} payloads for {count} samples")
    kinds = sorted({type(payload).__name__ for payload in payloads})
    expect(kinds == ["bytes"], f"payloads are {', '.join(kinds)}; expected bytes")
    empty = [sample for sample, payload in enumerate(payloads) if not payload]
    expect(not empty, f"{len(empty)} of {count} payloads are empty; the first is sample {empty[:1]}")
    subject.payloads = payloads


@clause("encode is deterministic", encodes)
def deterministic(subject: Subject) -> None:
    """In eval mode."""
    odd = differing(subject.bottleneck.encode(subject.features), subject.payloads)
    expect(not odd, f"the second time, {odd}")


@clause("payloads do not depend on the batch", deterministic)
def independent(subject: Subject) -> None:
    """Coded alone, and in the opposite order."""
    encode, features = subject.bottleneck.encode, subject.features
    cause = (
        "usual causes are batch normalisation in training mode, padding to the longest of the batch, "
        "and a convolution over the whole batch, which may round otherwise: encode one sample at a time"
    )
    with telling("coded alone"):
        odd = differing(
            [payload for sample in features for payload in encode(sample[None])], subject.payloads
        )
        expect(not odd, f"{odd}; {cause}")
    with telling("coded in the opposite order"):
        odd = differing(encode(features.flip(0))[::-1], subject.payloads)
        expect(not odd, f"{odd}; {cause}")


@clause("encode before freeze raises NotFrozenError", deterministic)
def early(subject: Subject) -> None:
    """Or, where nothing depends on freeze, gives the payloads that it gives afterwards."""
    if isinstance(subject.early, NotFrozenError):
        return
    if isinstance(subject.early, Exception):
        raise BrokenError(f"{said(subject.early)}; expected NotFrozenError")
    odd = differing(subject.early or [], subject.payloads)
    expect(not odd, f"it gave payloads, but not those that it gives after freeze: {odd}")


@clause("decode gives features of the output shape", encodes)
def decodes(subject: Subject) -> None:
    """Finite ones, in single precision."""
    decoded = subject.bottleneck.decode(subject.payloads)
    expect(
        isinstance(decoded, torch.Tensor), f"decode returned a {type(decoded).__name__}, expected a tensor"
    )
    expect(
        tuple(decoded.shape) == subject.expected,
        f"decoded shape {tuple(decoded.shape)}, expected {subject.expected}",
    )
    expect(decoded.dtype == torch.float32, f"decoded values are {decoded.dtype}, expected torch.float32")
    finite = torch.isfinite(decoded)
    expect(bool(finite.all()), f"{int((~finite).sum())} of {finite.numel()} decoded values are not finite")


@clause("decode is deterministic", decodes)
def decodes_again(subject: Subject) -> None:
    """To the last bit."""
    first, second = (subject.bottleneck.decode(subject.payloads) for _ in range(2))
    apart = first != second
    expect(
        not bool(apart.any()),
        f"two decodes differ in {int(apart.sum())} of {apart.numel()} values, by up to "
        f"{float((first - second).abs().max()):g}; a usual cause is dropout or noise that eval() leaves on",
    )


@clause("a sample decodes alone as it does in a batch", decodes_again)
def decodes_alone(subject: Subject) -> None:
    """Up to the rounding of the layers."""
    alone = torch.cat([subject.bottleneck.decode([payload]) for payload in subject.payloads])
    expect_close(alone, subject.bottleneck.decode(subject.payloads), subject.tolerance)


@clause("the coder is lossless: decode(encode(x)) equals transmit(x)", decodes_again, deterministic)
def lossless(subject: Subject) -> None:
    """Up to the rounding of the layers."""
    decoded = subject.bottleneck.decode(subject.payloads)
    expect_close(decoded, subject.bottleneck.transmit(subject.features), subject.tolerance)


@clause("extreme features neither crash nor lose a symbol", lossless)
def extreme(subject: Subject) -> None:
    """What lies far outside of every table is escaped, or saturates; it is never lost unseen."""
    for factor in _EXTREMES:
        features = subject.features * factor
        with telling(f"features times {factor:g}"), torch.no_grad():
            decoded = subject.bottleneck.decode(subject.bottleneck.encode(features))
            expect_close(decoded, subject.bottleneck.transmit(features), subject.tolerance)


@clause("the highest level is what encode and transmit take", lossless)
def highest(subject: Subject) -> None:
    """levels is a whole number of 1 or more."""
    bottleneck, features = subject.bottleneck, subject.features
    levels = bottleneck.levels
    expect(
        isinstance(levels, int) and not isinstance(levels, bool) and levels >= 1,
        f"levels is {levels!r}, expected a whole number of 1 or more",
    )
    subject.level_payloads = [bottleneck.encode_at(features, level) for level in range(levels)]
    odd = differing(subject.level_payloads[-1], subject.payloads)
    expect(not odd, f"encode_at(features, {levels - 1}) and encode(features): {odd}")
    with telling(f"transmit_at(features, {levels - 1}) and transmit(features)"), torch.no_grad():
        found = bottleneck.transmit_at(features, levels - 1)
        expect_close(found, bottleneck.transmit(features), subject.tolerance)


@clause("each level has payloads of its own, the lowest the smallest", highest)
def graded(subject: Subject) -> None:
    """A level that changes nothing is none."""
    levels = range(len(subject.level_payloads) - 1)
    for level in levels:
        lower, higher = subject.level_payloads[level : level + 2]
        expect(lower != higher, f"levels {level} and {level + 1} of {len(levels) + 1} give the same payloads")
    lowest, highest = (sum(map(len, subject.level_payloads[i])) / len(subject.features) for i in (0, -1))
    expect(
        lowest <= highest + SLACK_BYTES,
        f"payloads of the lowest level have {lowest:.1f} bytes in the mean, of the highest {highest:.1f}",
    )


@clause("payloads of all levels decode, one beside the other", highest, decodes_alone)
def mixed(subject: Subject) -> None:
    """And to what transmit_at says."""
    bottleneck, levels = subject.bottleneck, range(len(subject.level_payloads))
    for level in levels:
        with telling(f"level {level}"), torch.no_grad():
            decoded = bottleneck.decode(subject.level_payloads[level])
            expect_close(decoded, bottleneck.transmit_at(subject.features, level), subject.tolerance)
    # Sample i at level i, i + 1, ...: the batch holds all levels, as a server's may.
    chosen = [subject.level_payloads[i % len(levels)][i] for i in range(len(subject.features))]
    with telling("levels mixed in a batch"):
        alone = torch.cat([bottleneck.decode([payload]) for payload in chosen])
        expect_close(bottleneck.decode(chosen), alone, subject.tolerance)


@clause("a level that there is not is refused", highest)
def bounded(subject: Subject) -> None:
    """With a ValueError, by all that take one."""
    methods: tuple[Callable[..., object], ...] = (
        subject.bottleneck.encode_at,
        subject.bottleneck.transmit_at,
    )
    for method in methods:
        for level in (-1, len(subject.level_payloads)):
            name = f"{method.__name__}(features, {level})"
            try:
                method(subject.features, level)
            except ValueError:
                continue
            except Exception as error:
                raise BrokenError(f"{name} {said(error)}; expected ValueError") from error
            raise BrokenError(f"{name} raised nothing, expected ValueError")


@clause("payload size agrees with its information", independent)
def honest(subject: Subject) -> None:
    """Of every sample at every level: no padding, and no information claimed that is not there."""
    for which, payload in subject.coded:
        ideal = subject.bottleneck.ideal_bits(payload) / 8
        slack = SLACK_BYTES + SLACK_SHARE * ideal
        cause = (
            "ideal_bits claims what is not in the payload"
            if len(payload) < ideal
            else "padding, a header, or a second stream in the payload"
        )
        expect(
            math.isfinite(ideal) and abs(len(payload) - ideal) <= slack,
            f"{which}: {len(payload)} bytes for {ideal:.1f} bytes of information, allowed are "
            f"{max(ideal - slack, 0):.1f} to {ideal + slack:.1f}; a usual cause is {cause}",
        )


@clause("constant_bytes are part of every payload", encodes)
def constant(subject: Subject) -> None:
    """No more of them than the smallest payload has."""
    found = subject.bottleneck.constant_bytes
    smallest = min(len(payload) for _, payload in subject.coded)
    expect(
        isinstance(found, int) and 0 <= found <= smallest,
        f"constant_bytes is {found!r}, but the smallest payload has {smallest} bytes",
    )


CLAUSES: tuple[Clause, ...] = (
    *(encodes, deterministic, independent, early),
    *(decodes, decodes_again, decodes_alone, lossless, extreme),
    *(highest, graded, mixed, bounded),
    *(honest, constant),
)
