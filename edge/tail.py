"""The server's share of one model: payloads in, labels out, a batch at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edge.prototypes.limits import LARGEST
from edge.prototypes.nearest import Prototypes
from edge.prototypes.store import PrototypeStore

if TYPE_CHECKING:
    from edge.bundle import ServerHalf

__all__ = ["Prediction", "Refusal", "Request", "predict"]

INVALID_ARGUMENT = 3
FAILED_PRECONDITION = 9
INTERNAL = 13

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A payload and the number of labels that its reply is to carry."""

    payload: bytes
    top: int = 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """Labels and softmax scores, best first, and the time that their batch took.

    The nearest prototype is one label, without a score.
    """

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


#: What a sample's outputs say: labels and scores, best first.
Row = tuple[list[int], list[float]] | Refusal


def predict(
    half: ServerHalf, requests: Sequence[Request], store: PrototypeStore | None = None
) -> list[Prediction | Refusal]:
    """Decode a batch and run the tail on it.

    A payload that does not decode is refused; the others of its batch are answered all the same.

    Args:
        half: decoder and tail.
        requests: the batch.
        store: of prototypes; the nearest one tells the class, where otherwise the largest output does.
    """
    began = time.perf_counter()
    prototypes = None if store is None else store.prototypes
    if store is not None and prototypes is None:
        return [Refusal(FAILED_PRECONDITION, "there is no prototype yet")] * len(requests)
    payloads = [request.payload for request in requests]
    features, refusals = _decode(half, payloads)
    decoded = time.perf_counter()
    if features is None:
        return [refusals[i] for i in range(len(requests))]
    with torch.inference_mode():
        outputs = half.predict(features).float()
        top = max(request.top for request in requests)
        rows = iter(_likeliest(outputs, top) if prototypes is None else _nearest(outputs, prototypes))
    finished = time.perf_counter()
    answers: list[Prediction | Refusal] = []
    for position, request in enumerate(requests):
        if position in refusals:
            answers.append(refusals[position])
            continue
        row = next(rows)
        if isinstance(row, Refusal):
            answers.append(row)
            continue
        labels, scores = row
        answers.append(
            Prediction(
                labels=labels[: request.top],
                scores=scores[: request.top],
                decode_s=decoded - began,
                tail_s=finished - decoded,
                batch=len(requests),
            )
        )
    return answers


def _likeliest(logits: Tensor, top: int) -> list[Row]:
    probabilities = torch.softmax(logits, dim=1)
    scores, labels = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
    finite = torch.isfinite(scores).all(1).tolist()
    refusal = Refusal(INVALID_ARGUMENT, "payload leads to scores that are not finite")
    rows = zip(labels.tolist(), scores.tolist(), finite, strict=True)
    return [(labels, scores) if usable else refusal for labels, scores, usable in rows]


def _nearest(features: Tensor, prototypes: Prototypes) -> list[Row]:
    usable = (features.abs() <= LARGEST).all(1)
    refusal = Refusal(INVALID_ARGUMENT, f"payload leads to features beyond {LARGEST:g}, or not finite")
    classes = iter(prototypes.nearest(features[usable].numpy()).tolist())
    return [([next(classes)], []) if one else refusal for one in usable.tolist()]


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
