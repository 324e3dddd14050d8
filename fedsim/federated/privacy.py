"""Differential privacy of class statistics: features are clipped, and Gaussian noise is added to the sums.

What a client releases are the counts and sums of *all* classes, those that it has no sample of as well: which
classes it has is private, too. Counts and sums are one vector. A count weighs as much in it as a sample's
clipped features can, so that one sample more or less moves it by ::

    | (clip, f) |  <=  sqrt(clip^2 + clip^2)  =  sqrt(2) clip            f: its features, |f| <= clip

at most, its joint sensitivity. Noise of ``noise`` times that on all of it makes a Gaussian mechanism with the
noise multiplier ``noise`` (Dwork, Roth: "The Algorithmic Foundations of Differential Privacy", 2014, A.1): a
sum gets a standard deviation of ``noise sqrt(2) clip`` in each coordinate, a count of ``noise sqrt(2)``.

This holds for features of an embedding that does not depend on the samples: that of a method which trains it
with them would move with every sample, and by more.

Epsilon is about these releases and nothing else. The replies of an evaluation are what a simulation
measures, and are exact: how many of its test samples a client told rightly, and how many there are of its
own classes, which tells which these are. How long a step took is told where there is a deadline, and the
server knows which clients have samples in a round at all.

A noisy count is rounded; a class with less than one sample then is left out, and where noise alone makes one,
a class that nobody has gets a prototype. Both follow from what is released already, and cost no privacy.

The noise is drawn by NumPy's generator in floating point. That is fit for finding out what privacy costs;
against somebody who predicts the generator or looks at the lowest bits (Mironov: "On Significance of the
Least Significant Bits for Differential Privacy", CCS 2012) it is not hardened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError

if TYPE_CHECKING:
    from fedsim.federated.method import Client
    from fedsim.federated.rounds import RoundRecord
    from fedsim.federated.site import Site

__all__ = ["GaussianPrivacy", "PrivacyLoss", "PrivateStatistics", "clipped", "epsilon", "privacy_loss"]

Rows = NDArray[np.float64]

_NOISE = 3  # stream of random numbers


@dataclass(frozen=True)
class GaussianPrivacy:
    """Clips and adds noise.

    Two data sets are neighbours where one has one sample more (``level`` is ``sample``), or all samples of
    one client more (``client``). At the level of clients, the whole vector of a client in a round is scaled
    down to a norm of ``contribution * sqrt(2) * clip``, and the noise is ``contribution`` times larger.

    Args:
        clip: largest L2 norm of a sample's features; longer ones are scaled down to it.
        noise: standard deviation of the noise, as a multiple of the sensitivity; 0 for none.
        level: whose presence is hidden, that of a ``sample`` or of a ``client``.
        contribution: at the level of clients, what one may contribute in a round, in samples of one class.
        seed: of the noise, for a simulation that can be repeated: whoever knows it can take the noise away
            again. None draws it from the operating system.

    Raises:
        FederationError: numbers out of bounds.
    """

    clip: float
    noise: float
    level: Literal["sample", "client"] = "sample"
    contribution: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("clip", "contribution"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise FederationError(f"privacy: {name} is {value!r}, allowed is a number, more than 0")
        if not 0 <= self.noise < math.inf:
            raise FederationError(f"privacy: noise is {self.noise!r}, allowed is a number, 0 and more")
        if self.level not in {"sample", "client"}:
            raise FederationError(f"privacy: level is {self.level!r}, allowed are 'sample' and 'client'")
        if self.level == "sample" and self.contribution != 1:
            raise FederationError(
                f"privacy: contribution is {self.contribution!r} at the level of samples, where it is 1"
            )

    @property
    def sensitivity(self) -> float:
        """Largest L2 distance between what neighbours release, counts in units of ``clip``."""
        return self.contribution * math.sqrt(2) * self.clip

    def rows(
        self, features: ArrayLike, labels: NDArray[np.int64], classes: int, client: Client, sharers: int = 1
    ) -> Rows:
        """Noisy counts and sums of all classes, float64 [classes, 1 + d].

        Args:
            features: of a client's samples, [n, d].
            labels: of the samples, [n].
            classes: that there are.
            client: whose noise it is.
            sharers: clients whose noise adds up to that which is needed: each adds only so much that its
                standard deviation is smaller by their square root. Private only where nobody sees less
                than the sum of so many (:class:`fedsim.federated.secure_aggregation.Masked`).
        """
        exact = ClassStatistics.of(clipped(features, self.clip), labels)
        rows = np.zeros((classes, 1 + exact.dimension))
        rows[exact.classes, 0] = exact.counts
        rows[exact.classes, 1:] = exact.sums
        unit = np.ones(1 + exact.dimension)
        unit[0] = self.clip  # what a count weighs
        if self.level == "client" and (length := float(np.linalg.norm(rows * unit))) > self.sensitivity:
            rows *= self.sensitivity / length
        if self.noise:
            deviation = self.noise * self.sensitivity / math.sqrt(sharers)
            rows += self._generator(client).normal(0.0, deviation, rows.shape) / unit
        return rows

    def statistics(
        self, features: ArrayLike, labels: NDArray[np.int64], classes: int, client: Client
    ) -> ClassStatistics:
        """What a client releases: see :meth:`rows` and :meth:`statistics_of`."""
        return self.statistics_of(self.rows(features, labels, classes, client))

    @staticmethod
    def statistics_of(rows: Rows) -> ClassStatistics:
        """Class statistics of noisy counts and sums: counts rounded, classes of less than one left out."""
        counts = np.rint(rows[:, 0]).astype(np.int64)
        known = np.flatnonzero(counts >= 1)
        return ClassStatistics(known, np.zeros_like(known), counts[known], rows[known, 1:])

    def _generator(self, client: Client) -> np.random.Generator:
        if self.seed is None:
            return np.random.default_rng()
        return np.random.default_rng([self.seed, _NOISE, client.partition, client.round])


@runtime_checkable
class PrivateStatistics(Protocol):
    """A method whose clients can release statistics privately: its embedding does not depend on them."""

    @property
    def privacy(self) -> GaussianPrivacy | None:
        """How, if at all."""

    def features(self, site: Site, client: Client) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features [n, d] and labels [n] of a client's samples."""


def clipped(features: ArrayLike, clip: float) -> Rows:
    """Features, float64 [n, d], those longer than ``clip`` scaled down to it, others as they are."""
    values = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    factors: Rows = clip / np.maximum(norms, clip)
    return values * factors


@dataclass(frozen=True)
class PrivacyLoss:
    """What a run has given away.

    Args:
        epsilon: with ``delta``: the run is (epsilon, delta)-differentially private; infinite without noise.
        delta: probability that epsilon does not hold.
        level: whose presence is hidden: that of a ``sample`` or of a ``client``, added or removed.
        releases: in how many rounds one and the same of them took part, at most.
    """

    epsilon: float
    delta: float
    level: Literal["sample", "client"]
    releases: int


def epsilon(noise: float, releases: int, delta: float) -> float:
    """Epsilon of so many Gaussian releases, by Rényi differential privacy.

    Mironov: "Rényi Differential Privacy", CSF 2017, as Google's ``dp-accounting`` computes it. No
    amplification by subsampling is claimed: the server knows who took part in a round.

    Args:
        noise: multiplier of each.
        releases: how many.
        delta: more than 0, less than 1.

    Raises:
        FederationError: numbers out of bounds, or ``dp-accounting`` is not installed.
    """
    if not 0 < delta < 1:
        raise FederationError(f"privacy: delta is {delta!r}, allowed is more than 0, less than 1")
    if not 0 <= noise < math.inf or releases < 0:
        raise FederationError(f"privacy: noise is {noise!r}, releases are {releases!r}; both are 0 and more")
    if not releases:
        return 0.0
    if not noise:
        return math.inf
    try:
        from dp_accounting import GaussianDpEvent, rdp  # noqa: PLC0415  (takes seconds; only the server asks)
    except ImportError as error:
        install = "pip install 'fedsim[privacy]'"
        raise FederationError(
            f"epsilon is computed by dp-accounting, which is not here: {install}"
        ) from error
    accountant = rdp.RdpAccountant()
    accountant.compose(GaussianDpEvent(noise), releases)
    return float(accountant.get_epsilon(delta))


def privacy_loss(
    site: Site, privacy: GaussianPrivacy, records: Iterable[RoundRecord], delta: float
) -> PrivacyLoss:
    """What a run has given away about its clients' samples.

    All rounds count in which a client was asked, also where its reply was late, refused or lost: it had
    left the client. Of a round that was broken off and begun anew, as by a kill, only the second time counts:
    in a simulation nobody has looked at the first. The site's base samples are the server's own, and are not
    protected.

    Args:
        site: of the run.
        privacy: of its method.
        records: of its rounds.
        delta: to be reported with epsilon; usually less than one over the number of samples or clients.

    Raises:
        FederationError: as :func:`epsilon`.
    """
    parts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for record in records:
        for partition in record.cohort:
            indices = site.shares[partition].samples(record.number)
            parts.append(indices if privacy.level == "sample" else np.array([partition]))
    releases = int(np.bincount(np.concatenate(parts)).max(initial=0))
    return PrivacyLoss(epsilon(privacy.noise, releases, delta), delta, privacy.level, releases)
