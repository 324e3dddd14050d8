"""Codebooks: the nearest code vector, their learning by moving averages, and how often each is used."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.coding import PRECISION, FrequencyTables

__all__ = ["DEAD", "DECAY", "Codebooks", "coded_information", "frequency_tables", "nearest", "spread"]

#: Decay of the moving averages (van den Oord et al. 2017, appendix A.1; SoundStream).
DECAY = 0.99
#: A code is dead when its average use has fallen below this share of an even use of all codes. It takes
#: 230 steps without any use to get there.
DEAD = 0.1
#: Vectors of which codebooks start, at most; of more, so many are drawn.
_START_VECTORS = 1 << 15
#: How far codes for which there is no vector stand apart, in the size of the largest value.
_BEYOND = 100.0


class Codebooks(nn.Module):
    """``books`` codebooks, each of ``codes`` vectors and for vectors of its own.

    While training, code vectors follow the vectors that are nearest to them: with ``n_k`` the share of a
    batch that is nearest to code ``k`` and ``s_k`` the sum of these vectors over the size of the batch,

    ``N_k <- DECAY N_k + (1 - DECAY) n_k``, ``m_k <- DECAY m_k + (1 - DECAY) s_k``, ``e_k <- m_k / N_k``

    (van den Oord, Vinyals, Kavukcuoglu: "Neural Discrete Representation Learning", NeurIPS 2017,
    equations 6 to 8; shares in place of counts, so that every batch weighs the same). They start by
    k-means++. A code whose ``N_k`` falls below ``DEAD / codes`` is set to a random vector of the batch,
    with the ``N_k`` of an even use (after SoundStream, Zeghidour et al. 2021, which has a fixed count
    as threshold; a share does not depend on the size of the batch).

    Only ``codes`` ships; the averages are attached by :meth:`prepare_training`.

    Args:
        books: number of codebooks.
        codes: code vectors of each.
        dimensions: of a vector.
    """

    codes: Tensor

    def __init__(self, books: int, codes: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(books, codes, dimensions))
        self.average: _MovingAverage | None = None
        self._counts = np.zeros((books, codes), dtype=np.int64)

    # --- running ----------------------------------------------------------------------------

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices int64 [books, n] of the code vectors nearest to ``vectors`` [books, n, dimensions]."""
        return nearest(vectors, self.codes)

    def look_up(self, indices: Tensor) -> Tensor:
        """Code vectors [books, n, dimensions] of ``indices`` [books, n]."""
        return _picked(self.codes, indices)

    # --- training ---------------------------------------------------------------------------

    def prepare_training(self) -> None:
        """Attach the moving averages; idempotent."""
        if self.average is None:
            self.average = _MovingAverage(*self.codes.shape).to(self.codes.device)

    @property
    def started(self) -> bool:
        """Whether the code vectors have been set from data."""
        return bool(self._trained().started)

    @property
    def settled(self) -> bool:
        """Whether :meth:`settle` has been called."""
        return bool(self._trained().settled)

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Set the code vectors (anew) by k-means++ on ``vectors`` [books, n, dimensions], n at least 1."""
        average = self._trained()
        if vectors.shape[1] > _START_VECTORS:
            drawn = torch.randperm(vectors.shape[1], device=vectors.device)[:_START_VECTORS]
            vectors = vectors[:, drawn]
        vectors = vectors.to(self.codes.dtype)
        codes = spread(vectors, self.codes.shape[1])
        use, _ = _shares(vectors, nearest(vectors, codes), self.codes.shape[1])
        self.codes.copy_(codes)
        average.usage.copy_(use.clamp_min(DEAD / self.codes.shape[1]))
        average.sums.copy_(average.usage[..., None] * codes)
        average.started.fill_(True)
        self._counts[:] = 0

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor) -> None:
        """One step of the moving averages, and the revival of dead codes.

        Args:
            vectors: [books, n, dimensions].
            indices: of the code vectors nearest to them, [books, n].
        """
        average, count = self._trained(), self.codes.shape[1]
        vectors = vectors.to(self.codes.dtype)
        use, sums = _shares(vectors, indices, count)
        average.usage.lerp_(use, 1 - DECAY)
        average.sums.lerp_(sums, 1 - DECAY)
        dead = average.usage < DEAD / count
        drawn = torch.randint(vectors.shape[1], (*indices.shape[:1], count), device=vectors.device)
        fresh = _picked(vectors, drawn)
        average.usage[dead] = 1 / count
        average.sums[dead] = fresh[dead] / count
        self.codes.copy_(average.sums / average.usage[..., None])
        self._counts[:] = 0

    def settle(self) -> None:
        """Say that the code vectors are to stay as they are."""
        self._trained().settled.fill_(True)

    def information(self) -> Tensor:
        """Bits that naming each code takes at its average use, [books, codes]; log2(codes) before any."""
        count = self.codes.shape[1]
        if self.average is None:
            return torch.full_like(self.codes[..., 0], math.log2(count))
        use = self.average.usage.clamp_min(DEAD / count)
        return (use.sum(1, keepdim=True) / use).log2()

    def observe(self, indices: Tensor) -> None:
        """Count ``indices`` [books, n] for :attr:`counts`."""
        for book, row in enumerate(indices.cpu().numpy()):
            self._counts[book] += np.bincount(row, minlength=self._counts.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each code was observed since the code vectors last changed, [books, codes]."""
        return self._counts

    def _trained(self) -> _MovingAverage:
        if self.average is None:
            raise RuntimeError("these codebooks have no averages to train: call prepare_training() first")
        return self.average


class _MovingAverage(nn.Module):
    """Average use of each code and average sum of its vectors."""

    usage: Tensor
    sums: Tensor
    started: Tensor
    settled: Tensor

    def __init__(self, books: int, codes: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("usage", torch.full((books, codes), 1 / codes))
        self.register_buffer("sums", torch.zeros(books, codes, dimensions))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("settled", torch.tensor(False))


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Indices int64 [books, n] of the nearest of ``codes`` [books, k, d] to ``vectors`` [books, n, d]."""
    with torch.autocast(vectors.device.type, enabled=False):
        codes = codes.to(vectors.dtype)
        # |v - e|^2 without |v|^2, which is the same for all codes.
        return torch.baddbmm(codes.square().sum(2)[:, None], vectors, codes.mT, alpha=-2).argmin(2)


@torch.no_grad()
def spread(vectors: Tensor, count: int, rounds: int = 8) -> Tensor:
    """``count`` code vectors for ``vectors`` [books, n, d]: [books, count, d].

    k-means++ (Arthur and Vassilvitskii, SODA 2007): each next one is drawn among the vectors with a
    probability in proportion to the squared distance to the nearest one so far; then ``rounds`` of Lloyd's
    algorithm. Random numbers come from torch's global generator.

    Where there are fewer different vectors than codes, the rest stands far from all of them. No two codes
    start alike: which of two is the nearest would be decided by the last bit of a sum, which is another in
    another batch, and a value learnt for the one would be looked up at the other.
    """
    books = torch.arange(len(vectors), device=vectors.device)
    beyond = _BEYOND * (1 + vectors.abs().amax((1, 2)))
    chosen = [vectors[books, torch.randint(vectors.shape[1], books.shape, device=vectors.device)]]
    gaps = torch.full_like(vectors[..., 0], float("inf"))
    for number in range(1, count):
        gaps = torch.minimum(gaps, (vectors - chosen[-1][:, None]).square().sum(-1))
        left = gaps.sum(1, keepdim=True) > 0
        drawn = vectors[books, torch.multinomial(torch.where(left, gaps, 1.0), 1)[:, 0]]
        chosen.append(torch.where(left, drawn, number * beyond[:, None]))
    codes = torch.stack(chosen, 1)
    for _ in range(rounds):
        use, sums = _shares(vectors, nearest(vectors, codes), count)
        codes = torch.where(use[..., None] > 0, sums / use[..., None], codes)
    return codes


def frequency_tables(counts: NDArray[np.int64]) -> FrequencyTables:
    """A table for each row of ``counts`` [books, codes], each count with one added (Laplace)."""
    smoothed = counts + 1.0
    return FrequencyTables.from_probabilities(
        list(smoothed / smoothed.sum(1, keepdims=True)), [0] * len(counts)
    )


def coded_information(tables: FrequencyTables, like: Tensor) -> Tensor:
    """Bits that each code takes under its book's table, [books, codes], of the kind that ``like`` is."""
    frequencies = np.stack([table[:-1] for table in tables.frequencies]).astype(np.float64)
    return torch.from_numpy(PRECISION - np.log2(frequencies)).to(like)


def _shares(vectors: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Share of the batch nearest to each code [books, count], and its sums over the batch's size [..., d].

    By a product, not by adding up in place, which on a GPU has another order each time.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        members = nn.functional.one_hot(indices, count).to(vectors.dtype) / vectors.shape[1]
        return members.sum(1), members.mT @ vectors


def _picked(table: Tensor, indices: Tensor) -> Tensor:
    """Rows [books, n, d] of ``table`` [books, k, d] at ``indices`` [books, n]."""
    return table.gather(1, indices[..., None].expand(-1, -1, table.shape[-1]))
