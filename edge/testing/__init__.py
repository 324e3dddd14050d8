"""The conformance kit that the author of a bottleneck runs.

>>> import torch
>>> from edge.bottlenecks import create
>>> from edge.testing import check_bottleneck
>>> check_bottleneck(lambda: create("integer", (3, 4, 4), bits=4), torch.rand(6, 3, 4, 4)).samples
6

It is a command, too: ``python -m edge.testing package.module:Class --input-shape 3,8,8``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edge.bottlenecks.base import Bottleneck
from edge.testing import bad_input, coding, shipping, training
from edge.testing.clauses import ConformanceError, Report, Subject, Verdict
from edge.testing.coding import SLACK_BYTES, SLACK_SHARE

__all__ = ["SLACK_BYTES", "SLACK_SHARE", "ConformanceError", "Report", "check_bottleneck"]

#: As a bottleneck lives: made, trained and frozen, run, shipped, tuned behind its frozen code, attacked.
_CLAUSES = (
    *shipping.MAKING,
    *training.CLAUSES,
    *coding.CLAUSES,
    *shipping.CLAUSES,
    *training.REHEARSAL,
    *bad_input.CLAUSES,
)


def check_bottleneck(make: Callable[[], Bottleneck], features: Tensor, *, tolerance: float = 1e-4) -> Report:
    """Check a bottleneck against the contract of :class:`edge.bottlenecks.base.Bottleneck`.

    Args:
        make: makes a fresh bottleneck, always with the same options.
        features: at least two different samples of what stands ahead of it, [N, *input_shape].
        tolerance: largest difference allowed between two ways of computing the same
            reconstruction, relative to its largest value.

    Returns:
        what was measured, and which clauses could not be checked.

    Raises:
        ConformanceError: lists each broken clause with the numbers.
        ValueError: fewer than two samples, or all alike.
    """
    if len(features) < 2 or bool((features == features[:1]).all()):
        raise ValueError("check_bottleneck needs at least two samples that differ")
    verdict = Verdict()
    subject = Subject(make, features, tolerance)
    for clause in _CLAUSES:
        verdict.look_at(clause, subject)
    if verdict.broken:
        raise ConformanceError(subject.name, verdict)
    bottleneck = subject.bottleneck
    return Report(
        samples=len(features),
        payload_bytes=[len(payload) for payload in subject.payloads],
        ideal_bytes=[bottleneck.ideal_bits(payload) / 8 for payload in subject.payloads],
        level_bytes=[sum(map(len, payloads)) / len(payloads) for payloads in subject.level_payloads],
        constant_bytes=bottleneck.constant_bytes,
        clauses=verdict.checked,
        not_checked=verdict.not_checked,
    )
