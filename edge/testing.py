"""The conformance kit that the author of a bottleneck runs.

>>> import torch
>>> from edge.bottlenecks import create
>>> from edge.testing import check_bottleneck
>>> check_bottleneck(lambda: create("integer", (3, 4, 4), bits=4), torch.rand(6, 3, 4, 4)).samples
6
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from edge.blueprint import HALVES, Half, without_peer
from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError

__all__ = ["ConformanceError", "Report", "check_bottleneck"]

#: A payload may exceed the information in it by this many bytes, and this share of it.
SLACK_BYTES = 8.0
SLACK_SHARE = 0.001


class ConformanceError(AssertionError):
    """Names every clause of the contract that a bottleneck breaks, with the numbers."""


@dataclass
class Report:
    """What the kit saw of a bottleneck that keeps the contract."""

    samples: int
    payload_bytes: list[int] = field(default_factory=list)
    ideal_bytes: list[float] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)  #: in the order in which they were checked


class _Checker:
    def __init__(self) -> None:
        self.broken: list[str] = []
        self.checked: list[str] = []

    @contextmanager
    def clause(self, name: str) -> Iterator[None]:
        """Collect what goes wrong inside under the clause's name; go on with the next."""
        self.checked.append(name)
        try:
            yield
        except AssertionError as error:
            self.broken.append(f"{name}: {error}")
        except Exception as error:
            self.broken.append(f"{name}: raised {type(error).__name__}: {error}")

    def finish(self, bottleneck: Bottleneck) -> None:
        if self.broken:
            listed = "\n".join(f"  - {line}" for line in self.broken)
            counts = f"{len(self.broken)} of {len(self.checked)} clauses"
            raise ConformanceError(f"{type(bottleneck).__name__} breaks {counts}:\n{listed}")


def check_bottleneck(make: Callable[[], Bottleneck], features: Tensor, *, tolerance: float = 1e-4) -> Report:
    """Check a bottleneck against the contract of :class:`edge.bottlenecks.base.Bottleneck`.

    Args:
        make: makes a fresh bottleneck, always with the same options.
        features: at least two different samples of what stands ahead of it, [N, *input_shape].
        tolerance: largest difference allowed between two ways of computing the same
            reconstruction, relative to its largest value.

    Returns:
        what was measured.

    Raises:
        ConformanceError: lists each broken clause with the numbers.
        ValueError: fewer than two samples.
    """
    if len(features) < 2:
        raise ValueError("check_bottleneck needs at least two samples")
    check = _Checker()
    bottleneck = make()
    bottleneck.prepare_training()
    _check_training(check, bottleneck, features)
    bottleneck.eval()
    if bottleneck.learned and bottleneck.tables is None:
        with check.clause("encode before freeze raises NotFrozenError"):
            _expect_raises(lambda: bottleneck.encode(features), NotFrozenError)
    with check.clause("freeze"):
        bottleneck.freeze()
    payloads: list[bytes] = []
    with check.clause("encode gives one non-empty bytes object a sample"):
        payloads = bottleneck.encode(features)
        assert isinstance(payloads, list), f"encode returned {type(payloads).__name__}, expected list"
        assert len(payloads) == len(features), f"{len(payloads)} payloads for {len(features)} samples"
        kinds = {type(p).__name__ for p in payloads}
        assert kinds == {"bytes"}, f"payloads are {sorted(kinds)}, expected bytes"
        assert all(payloads), "an empty payload"
    if check.broken and not payloads:
        check.finish(bottleneck)
    _check_coding(check, bottleneck, features, payloads, tolerance)
    _check_shipping(check, bottleneck, make, features, payloads, tolerance)
    _check_bad_input(check, bottleneck, features, payloads)
    check.finish(bottleneck)
    return Report(
        samples=len(features),
        payload_bytes=[len(p) for p in payloads],
        ideal_bytes=[bottleneck.ideal_bits(p) / 8 for p in payloads],
        clauses=check.checked,
    )


def _check_training(check: _Checker, bottleneck: Bottleneck, features: Tensor) -> None:
    bottleneck.train()
    expected = (len(features), *bottleneck.output_shape)
    with check.clause("forward returns (reconstruction, bits)"):
        reconstruction, bits = bottleneck(features)
        assert tuple(reconstruction.shape) == expected, (
            f"reconstruction has shape {tuple(reconstruction.shape)}, expected {expected}"
        )
        assert tuple(bits.shape) == (len(features),), f"bits has shape {tuple(bits.shape)}, expected [N]"
        low, high = (float(value) for value in bits.detach().aminmax())
        assert 0 <= low <= high < float("inf"), (
            f"bits lie in {low:g}..{high:g}, expected finite and not negative"
        )
    if not bottleneck.learned:
        return
    with check.clause("gradients reach every parameter"):
        bottleneck.zero_grad()
        reconstruction, bits = bottleneck(features)
        (reconstruction.square().mean() + bits.mean() / bits.numel()).backward()
        trained = {n: p for n, p in bottleneck.named_parameters() if p.requires_grad and "quantiles" not in n}
        without = [n for n, p in trained.items() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
        assert not without, f"no finite gradient for {', '.join(without)} ({len(without)} of {len(trained)})"
        encoder = [p for n, p in trained.items() if n.startswith("encoder.")]
        assert not encoder or any(bool(p.grad.abs().sum() > 0) for p in encoder if p.grad is not None), (
            "all gradients of the encoder are zero"
        )


def _check_coding(
    check: _Checker, bottleneck: Bottleneck, features: Tensor, payloads: list[bytes], tolerance: float
) -> None:
    with check.clause("payloads do not depend on the batch"):
        alone = [bottleneck.encode(sample[None])[0] for sample in features]
        differ = [i for i, (a, b) in enumerate(zip(alone, payloads, strict=True)) if a != b]
        assert not differ, (
            f"{len(differ)} of {len(payloads)} payloads differ when coded alone, first sample {differ[:1]}"
        )
    with check.clause("encode is deterministic"):
        again = bottleneck.encode(features)
        differ = [i for i, (a, b) in enumerate(zip(again, payloads, strict=True)) if a != b]
        assert not differ, f"{len(differ)} of {len(payloads)} payloads differ the second time"
    expected = (len(features), *bottleneck.output_shape)
    with check.clause("decode gives back features of the output shape"):
        decoded = bottleneck.decode(payloads)
        assert tuple(decoded.shape) == expected, f"decoded shape {tuple(decoded.shape)}, expected {expected}"
        assert bool(torch.isfinite(decoded).all()), "decoded values are not finite"
    with check.clause("decode is deterministic"):
        assert torch.equal(bottleneck.decode(payloads), bottleneck.decode(payloads)), "two decodes differ"
    with check.clause("a sample decodes alone as it does in a batch"):
        alone_decoded = torch.cat([bottleneck.decode([payload]) for payload in payloads])
        _expect_close(alone_decoded, bottleneck.decode(payloads), tolerance)
    with check.clause("the coder is lossless: decode(encode(x)) equals transmit(x)"), torch.no_grad():
        _expect_close(bottleneck.decode(payloads), bottleneck.transmit(features), tolerance)
    with check.clause("payload size agrees with its information"):
        for sample, payload in enumerate(payloads):
            ideal = bottleneck.ideal_bits(payload) / 8
            excess = len(payload) - ideal
            assert -SLACK_BYTES <= excess <= SLACK_BYTES + SLACK_SHARE * ideal, (
                f"sample {sample}: {len(payload)} bytes for {ideal:.1f} bytes of information"
            )
    with check.clause("extreme features neither crash nor lose a symbol"):
        for factor in (1e3, 1e6, 1e12):
            extreme = features * factor
            with torch.no_grad():
                _expect_close(
                    bottleneck.decode(bottleneck.encode(extreme)), bottleneck.transmit(extreme), tolerance
                )


def _check_shipping(
    check: _Checker,
    bottleneck: Bottleneck,
    make: Callable[[], Bottleneck],
    features: Tensor,
    payloads: list[bytes],
    tolerance: float,
) -> None:
    with check.clause("every buffer is persistent, so that it ships"):
        kept = set(make().state_dict())
        lost = [name for name, _ in make().named_buffers() if name not in kept]
        assert not lost, f"{', '.join(lost)} would not ship"
    for half in HALVES:
        with check.clause(f"a copy shipped to the {half} works there"):
            copy = _shipped(bottleneck, make, half)
            if half == "device":
                assert copy.encode(features) == payloads, "its payloads differ"
            else:
                _expect_close(copy.decode(payloads), bottleneck.decode(payloads), tolerance)
            assert copy.fingerprint == bottleneck.fingerprint, (
                f"fingerprint {copy.fingerprint.hex()}, of the original {bottleneck.fingerprint.hex()}"
            )


def _shipped(bottleneck: Bottleneck, make: Callable[[], Bottleneck], half: Half) -> Bottleneck:
    """One half as a bundle would load it: made without memory, then given the weights that ship."""
    with torch.device("meta"):
        copy = without_peer(make(), half).eval()
    state = bottleneck.state_dict()
    copy.load_state_dict({name: state[name] for name in copy.state_dict()}, assign=True)
    if bottleneck.tables is not None:
        copy.load_tables(type(bottleneck.tables).from_arrays(bottleneck.tables.to_arrays()))
    return copy


def _check_bad_input(
    check: _Checker, bottleneck: Bottleneck, features: Tensor, payloads: list[bytes]
) -> None:
    with check.clause("features of a wrong shape are refused"):
        _expect_raises(lambda: bottleneck.encode(features[..., :-1]), ValueError)
    with check.clause("features that are not finite are refused"):
        for value in (float("nan"), float("inf")):
            broken = features.clone()
            broken[(0,) * broken.ndim] = value
            _expect_raises(lambda broken=broken: bottleneck.encode(broken), ValueError)  # type: ignore[misc]
    with check.clause("a damaged payload raises PayloadError or decodes to the right shape"):
        generator = np.random.default_rng(0)
        for payload in payloads[:8]:
            for damaged in _damaged(payload, generator):
                try:
                    shape = tuple(bottleneck.decode([damaged]).shape[1:])
                except PayloadError:
                    continue
                assert shape == bottleneck.output_shape, f"decoded to shape {shape}"


def _damaged(payload: bytes, generator: np.random.Generator) -> Iterator[bytes]:
    yield b""
    yield payload[: len(payload) // 2]
    yield payload + bytes(generator.integers(0, 256, 5, dtype=np.uint8))
    yield bytes(generator.integers(0, 256, len(payload), dtype=np.uint8))
    for _ in range(4):
        flipped = bytearray(payload)
        flipped[int(generator.integers(len(payload)))] ^= 1 << int(generator.integers(8))
        yield bytes(flipped)


def _expect_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    scale = max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max()) / scale
    assert difference <= tolerance, f"largest relative difference {difference:g}, allowed {tolerance:g}"


def _expect_raises(action: Callable[[], object], kind: type[Exception]) -> None:
    try:
        action()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")
