"""Pairwise masking: the server learns the sum of the clients' statistics, and nothing of any single one.

After Bonawitz et al.: "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017,
without its secret sharing. Every two clients of a cohort agree on a secret, by keys that they exchange
through the server; one adds a stream of random numbers made of it to what it sends, the other subtracts it.
In the sum they cancel, exactly, because all of it is integers modulo 2^64. Each adds a stream of a secret
of its own as well::

    client i sends   x_i + stream(b_i) + sum_{j > i} stream(s_ij) - sum_{j < i} stream(s_ij)    mod 2^64

Those whose replies have come then tell the server their own secrets b_i, and of every client that dropped
out the secrets s_ij that they shared with it; it takes all these streams out of the sum. What a client sent
that is taken to have dropped out, and was only late, stays masked by its own b_i, which nobody else knows
and it does not tell.

What this holds against is a server that keeps to the protocol and looks at all that it sees (semi-honest).
Clients in league with it take their own part out of the sum, so two have to be left that are not. It does
not hold against a server that lies: that makes up clients, or exchanges their keys, or tells a client's
peers that it is gone and the client itself that it is there, and so has both kinds of its secrets. Nothing
is signed. Nor can the others go on without a client that goes missing before it has told its secrets: that
round is void.

Statistics are sent for all classes, whether a client has samples of them or not: which it has is a secret,
too. That is true of what clients send to learn. The replies of an evaluation are what a simulation
measures; they are not masked, and tell of how many samples of its own classes a client was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from edge.prototypes import ClassStatistics, StatisticsError
from fedsim.errors import FederationError

__all__ = ["FixedPoint", "Keys", "masked", "stream", "unmasked"]

Words = NDArray[np.uint64]
Rows = NDArray[np.float64]

_NONCE = bytes(16)  # a secret makes one stream and is never used again
_SECRET_BYTES = 32


class Keys:
    """A client's key pair for one round.

    Args:
        private: 32 bytes; drawn anew by default.
    """

    def __init__(self, private: bytes | None = None) -> None:
        self._private = (
            X25519PrivateKey.generate() if private is None else X25519PrivateKey.from_private_bytes(private)
        )

    @property
    def private(self) -> bytes:
        """For the client to keep until the round is over."""
        return self._private.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """For the others."""
        return self._private.public_key().public_bytes_raw()

    def secret(self, public: bytes, round_number: int) -> bytes:
        """What this client and the one with that public key alone know, 32 bytes.

        Raises:
            FederationError: no public key.
        """
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise FederationError(f"a public key that is none: {error}") from error
        return _derived(shared, f"fedsim masking, round {round_number}")

    def own_secret(self, round_number: int) -> bytes:
        """What this client alone knows, 32 bytes; they tell nothing of its keys."""
        return _derived(self.private, f"fedsim masking, own, round {round_number}")


def stream(secret: bytes, count: int) -> Words:
    """Random words that follow from a secret: the key stream of ChaCha20."""
    encryptor = Cipher(algorithms.ChaCha20(secret, _NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * count)), "<u8").astype(np.uint64)


def masked(values: Words, partition: int, own: bytes, secrets: Mapping[int, bytes]) -> Words:
    """What a client sends.

    Args:
        values: of the client, uint64 of any shape.
        partition: of the client.
        own: its own secret.
        secrets: that it shares, by the other's partition.
    """
    total = values + _mask(own, values)
    for other, secret in secrets.items():
        words = _mask(secret, values)
        total = total + words if other > partition else total - words
    return total


def unmasked(total: Words, own: Mapping[int, bytes], revealed: Mapping[tuple[int, int], bytes]) -> Words:
    """The sum of the values of those who are present.

    Args:
        total: sum of what they sent, uint64.
        own: their own secrets, by partition.
        revealed: secrets that they shared with those who are not present, by (present, absent).

    Raises:
        FederationError: a secret of somebody who is not present, or with somebody who is.
    """
    for one, other in revealed:
        if one not in own or other in own:
            raise FederationError(f"a secret of client {one} with client {other} is none that was asked for")
    for secret in own.values():
        total = total - _mask(secret, total)
    for (one, other), secret in revealed.items():
        words = _mask(secret, total)
        total = total - words if other > one else total + words
    return total


def _mask(secret: bytes, values: Words) -> Words:
    """The stream of a secret, in the shape of what it is to mask."""
    return stream(secret, values.size).reshape(values.shape)


def _derived(secret: bytes, info: str) -> bytes:
    return HKDF(SHA256(), _SECRET_BYTES, salt=None, info=info.encode()).derive(secret)


@dataclass(frozen=True)
class FixedPoint:
    """Statistics as integers modulo 2^64, a row for each class: its count, then its sums.

    Args:
        classes: rows.
        dimension: of the features.
        fraction_bits: a value x stands there as ``round(x * 2**fraction_bits)``.
        most: absolute value of a count or sum that a client may send; all clients together have to stay
            below ``2 ** (63 - fraction_bits)``.
    """

    classes: int
    dimension: int
    fraction_bits: int = 24
    most: float = 2.0**24

    def encode(self, statistics: ClassStatistics) -> Words:
        """Statistics without slots and squares as words [classes, 1 + dimension].

        Raises:
            StatisticsError: slots or squares, another dimension, unknown classes, or values out of range.
        """
        if statistics.slots.any() or statistics.squares is not None:
            raise StatisticsError("masked statistics have one prototype a class and no squares")
        if statistics.dimension != self.dimension:
            raise StatisticsError(f"features have {statistics.dimension} values, expected {self.dimension}")
        if len(statistics) and statistics.classes[-1] >= self.classes:
            raise StatisticsError(f"class {statistics.classes[-1]} is unknown")
        rows = np.zeros((self.classes, 1 + self.dimension))
        rows[statistics.classes, 0] = statistics.counts
        rows[statistics.classes, 1:] = statistics.sums
        return self.encode_rows(rows)

    def encode_rows(self, rows: Rows) -> Words:
        """Counts and sums of all classes, which may be any numbers, as words [classes, 1 + dimension].

        Raises:
            StatisticsError: another shape, or values out of range.
        """
        if rows.shape != (self.classes, 1 + self.dimension):
            expected = [self.classes, 1 + self.dimension]
            raise StatisticsError(f"counts and sums of shape {list(rows.shape)}, expected {expected}")
        for name, values in (("count", rows[:, :1]), ("sum", rows[:, 1:])):
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= self.most:
                raise StatisticsError(f"a {name} of {largest:g}, masked {name}s are at most {self.most:g}")
        words: Words = np.rint(rows * 2.0**self.fraction_bits).astype(np.int64).view(np.uint64)
        return words

    def decode(self, words: Words) -> ClassStatistics:
        """The statistics of a sum of words.

        Raises:
            StatisticsError: another shape, or counts that cannot be: masks that did not cancel.
        """
        rows = self.decode_rows(words)
        counts = rows[:, 0]
        if counts.min() < 0 or (counts != np.rint(counts)).any():
            raise StatisticsError("counts that cannot be: the masks did not cancel")
        known = np.flatnonzero(counts)
        return ClassStatistics(known, np.zeros_like(known), counts[known].astype(np.int64), rows[known, 1:])

    def decode_rows(self, words: Words) -> Rows:
        """Counts and sums of all classes, float64 [classes, 1 + dimension], of a sum of words.

        Raises:
            StatisticsError: another shape.
        """
        if words.shape != (self.classes, 1 + self.dimension):
            raise StatisticsError(f"masked statistics of shape {list(words.shape)}")
        rows: Rows = words.view(np.int64) / 2.0**self.fraction_bits
        return rows
