"""How a call of the tail service is refused: with a status, and a message of a length that it can carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

__all__ = ["LONGEST_ERROR", "RejectedError", "parsed"]

#: Characters of a message; what a peer sent is quoted, and a status travels in a header.
LONGEST_ERROR = 500

M = TypeVar("M", bound=Message)


class RejectedError(Exception):
    """A fault that ends the call with a status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:LONGEST_ERROR]


def parsed(kind: Callable[[], M], raw: bytes) -> M:
    """The message that ``raw`` is.

    Raises:
        RejectedError: it is none of this kind.
    """
    message = kind()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        name = message.DESCRIPTOR.full_name
        text = f"{len(raw)} bytes that are no {name} message"
        raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, text) from None
    return message
