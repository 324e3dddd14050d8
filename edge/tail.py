"""The server's share of one model: payloads in, labels out, a batch at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from edge.bundle import ServerHalf

__all__ = ["Prediction", "Refusal", "Request", "predict"]

INVALID_ARGUMENT = 3
INTERNAL = 13

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A payload and the number of labels that its reply is to carry."""

    payload: bytes
    top: int = 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """Labels and softmax scores, best first, and the time that their batch took."""

    labels: list[int]
    scores: list[float]
    decode_s: float
    tail_s: float
    batch: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a payload got no prediction; ``code`` is a canonical gRPC status code."""

    code: int
    message: str


def predict(half: ServerHalf, requests: Sequence[Request]) -> list[Prediction | Refusal]:
    """Decode a batch and run the tail on it.

    A payload that does not decode is refused; the others of its batch are answered all the same.
    """
    began = time.perf_counter()
    payloads = [request.payload for request in requests]
    features, refusals = _decode(half, payloads)
    decoded = time.perf_counter()
    if features is None:
        return [refusals[i] for i in range(len(requests))]
    with torch.inference_mode():
        probabilities = torch.softmax(half.predict(features).float(), dim=1)
        count = min(max(request.top for request in requests), probabilities.shape[1])
        scores, labels = probabilities.topk(count, dim=1)
    finite = torch.isfinite(scores).all(1).tolist()
    finished = time.perf_counter()
    rows = iter(zip(labels.tolist(), scores.tolist(), finite, strict=True))
    answers: list[Prediction | Refusal] = []
    for position, request in enumerate(requests):
        if position in refusals:
            answers.append(refusals[position])
            continue
        row_labels, row_scores, usable = next(rows)
        if not usable:
            answers.append(Refusal(INVALID_ARGUMENT, "payload leads to scores that are not finite"))
            continue
        answers.append(
            Prediction(
                labels=row_labels[: request.top],
                scores=row_scores[: request.top],
                decode_s=decoded - began,
                tail_s=finished - decoded,
                batch=len(requests),
            )
        )
    return answers


def _decode(half: ServerHalf, payloads: Sequence[bytes]) -> tuple[Tensor | None, dict[int, Refusal]]:
    """Features of the payloads that decode (None if none does), and refusals by position of the rest."""
    try:
        return half.decode(payloads), {}
    except BaseException as error:
        if len(payloads) == 1:
            return None, {0: _refusal(error, half)}
    good: list[Tensor] = []
    refusals: dict[int, Refusal] = {}
    for position, payload in enumerate(payloads):
        try:
            good.append(half.decode([payload]))
        except BaseException as error:
            refusals[position] = _refusal(error, half)
    return (torch.cat(good) if good else None), refusals


def _refusal(error: BaseException, half: ServerHalf) -> Refusal:
    """What to say of an error; BaseException, since that is what a panic of native code derives from.

    A bottleneck promises PayloadError, a ValueError; anything else is its own defect.
    """
    if isinstance(error, ValueError):
        return Refusal(INVALID_ARGUMENT, f"payload does not decode: {error}")
    _log.error("model %s failed on a payload", half.model_id, exc_info=error)
    return Refusal(INTERNAL, f"{type(error).__name__} while decoding; the server's log has more")
