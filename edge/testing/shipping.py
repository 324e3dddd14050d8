"""Clauses of shipping: made without weights on another machine, then given what a bundle holds."""

from __future__ import annotations

import json
import sys

import torch

from edge.blueprint import Half, without_peer
from edge.bottlenecks.base import Bottleneck
from edge.testing.clauses import (
    BrokenError,
    Clause,
    NotCheckedError,
    Subject,
    clause,
    differing,
    expect,
    expect_close,
    said,
    telling,
)
from edge.testing.coding import decodes_again, deterministic, highest

__all__ = ["CLAUSES", "MAKING"]

#: What PyTorch loads, with 70 MB, to compute on the meta device.
_DYNAMO = "torch._dynamo"


@clause("the constructor also runs on the meta device")
def constructed(subject: Subject) -> None:
    """Where there are shapes and no values. Notes whether it had PyTorch load what computes there."""
    before = _DYNAMO in sys.modules
    with torch.device("meta"):
        try:
            subject.make()
        except Exception as error:
            raise BrokenError(
                f"{said(error)}; on the meta device tensors have no values: "
                "compute with numbers or NumPy, or make in freeze what depends on data"
            ) from error
    subject.computed = None if before else _DYNAMO in sys.modules


@clause("the constructor computes nothing", constructed)
def idle(subject: Subject) -> None:
    """It says what there will be; values come with the weights."""
    if subject.computed is None:
        raise NotCheckedError(
            f"{_DYNAMO} was loaded before, by an optimiser or so; in a fresh process, "
            "python -m edge.testing package.module:Class says whether the constructor loads it"
        )
    expect(
        not subject.computed,
        f"it computed on tensors, for which PyTorch loaded {_DYNAMO}: 70 MB and a second on every device; "
        "fill tensors from numbers (torch.full, register_buffer) and compute with math or NumPy",
    )


@clause("every buffer is persistent, so that it ships", constructed)
def persistent(subject: Subject) -> None:
    """Whatever stays on the meta device is not there when it is needed."""
    with torch.device("meta"):
        fresh = subject.make()
    kept = set(fresh.state_dict())
    lost = [name for name, _ in fresh.named_buffers() if name not in kept]
    expect(not lost, f"{', '.join(lost)} would not ship ({len(lost)} buffers): leave out persistent=False")


@clause("the fingerprint is the same wherever it is computed", deterministic)
def fingerprinted(subject: Subject) -> None:
    """Eight bytes; the options of which it is made are JSON values."""
    bottleneck = subject.bottleneck
    try:
        json.dumps(bottleneck.wire_options(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenError(f"wire_options() are no JSON values: {error}") from error
    first, second = bottleneck.fingerprint, bottleneck.fingerprint
    expect(first == second, f"it was {first.hex()}, then {second.hex()}")
    expect(len(first) == 8, f"it has {len(first)} bytes, expected 8")


@clause("a copy shipped to the device works there", persistent, fingerprinted)
def on_device(subject: Subject) -> None:
    """Without the decoder, it gives the same payloads."""
    copy = _shipped(subject, "device")
    odd = differing(copy.encode(subject.features), subject.payloads)
    expect(not odd, f"its encode gives others: {odd}")
    _same_fingerprint(copy, subject.bottleneck)


@clause("a copy shipped to the device has its levels there", on_device, highest)
def levels_on_device(subject: Subject) -> None:
    """Where the level of a sample is chosen."""
    copy = _shipped(subject, "device")
    levels = len(subject.level_payloads)
    expect(copy.levels == levels, f"it has {copy.levels} levels, the original {levels}")
    for level, payloads in enumerate(subject.level_payloads):
        with telling(f"level {level}"):
            odd = differing(copy.encode_at(subject.features, level), payloads)
            expect(not odd, f"its encode_at gives others: {odd}")


@clause("a copy shipped to the server works there", persistent, fingerprinted, decodes_again)
def on_server(subject: Subject) -> None:
    """Without the encoder, it decodes to the same values."""
    copy = _shipped(subject, "server")
    original = subject.bottleneck.decode(subject.payloads)
    expect_close(copy.decode(subject.payloads), original, subject.tolerance)
    _same_fingerprint(copy, subject.bottleneck)


def _shipped(subject: Subject, half: Half) -> Bottleneck:
    """One half as a bundle would load it: made without memory, then given the weights that ship."""
    original = subject.bottleneck
    with torch.device("meta"):
        copy = without_peer(subject.make(), half).eval()
    state = original.state_dict()
    wanted = set(copy.state_dict())
    if gone := sorted(wanted - set(state)):
        raise BrokenError(f"{', '.join(gone)} of a fresh one is not in the state of the frozen one")
    with telling("loading what ships"):
        copy.load_state_dict({name: state[name] for name in wanted}, assign=True)
    if original.tables is not None:
        with telling("load_tables"):
            copy.load_tables(type(original.tables).from_arrays(original.tables.to_arrays()))
            expect(copy.tables is not None, "afterwards, tables is None")
    return copy


def _same_fingerprint(copy: Bottleneck, original: Bottleneck) -> None:
    expect(
        copy.fingerprint == original.fingerprint,
        f"its fingerprint is {copy.fingerprint.hex()}, the original's {original.fingerprint.hex()}; a usual "
        "cause is something that freeze() sets and that is neither a buffer nor in the tables",
    )


#: Before anything else: what they look for is hidden by what comes after.
MAKING: tuple[Clause, ...] = (constructed, idle, persistent)
CLAUSES: tuple[Clause, ...] = (fingerprinted, on_device, levels_on_device, on_server)
