"""How far the mean and a percentile of one series of readings could lie elsewhere by chance."""

from __future__ import annotations

import math

import numpy as np

from fedsim.compare.ledger import Floats

__all__ = ["FEWEST", "Interval", "block_length", "mean_and_percentile_intervals"]

Interval = tuple[float, float]

#: Readings below which no interval is given: their blocks would be too few to be drawn from.
FEWEST = 10
_RESAMPLES = 1000
_MOST_BLOCKS = 4096  # of a resample; of a longer series the blocks are longer
_MOST_DRAWN = 1_000_000  # blocks at once
_SEED = 20040302


def mean_and_percentile_intervals(values: Floats, p: float) -> tuple[Interval, Interval] | None:
    """The bootstrap 95 % intervals of the mean, and of the ``p``-th percentile (0..100).

    Latencies that follow each other are alike: they stood in the same queue. So blocks of neighbours are
    drawn in place of single readings (the circular block bootstrap: Politis and Romano, 1992), as long as
    the series asks for. The percentile is found from the resampled share of readings below it (Woodruff,
    JASA 47, 1952). The same values give the same intervals.

    Args:
        values: readings in their order in time. [n]
        p: which percentile.

    Returns:
        None of fewer than :data:`FEWEST` readings.
    """
    if len(values) < FEWEST:
        return None
    mean = float(values.mean())
    means = mean + _resampled(values - mean)
    below = (values <= np.percentile(values, p)).astype(np.float64)
    shares = np.clip(p / 100 - _resampled(below - below.mean()), 0.0, 1.0)
    low, high = np.percentile(means, (2.5, 97.5))
    bottom, top = np.quantile(values, np.percentile(shares, (2.5, 97.5)))
    return (float(low), float(high)), (float(bottom), float(top))


def block_length(values: Floats) -> int:
    """Readings of a block: 1 where they are independent, more the longer they remember.

    Politis and White, Econometric Reviews 23 (2004), with the correction of Patton, Politis and White, 28
    (2009): autocorrelations up to the lag from which on none is significant, under a flat-top window.

    Args:
        values: a series. [n], n at least 2
    """
    n = len(values)
    streak = max(5, math.ceil(math.sqrt(math.log10(n))))
    covariances = _autocovariances(values, min(n - 1, math.ceil(math.sqrt(n)) + streak))
    if covariances[0] <= 0:
        return 1
    significant = np.abs(covariances[1:]) >= 2 * math.sqrt(math.log10(n) / n) * covariances[0]
    window = min(2 * _first_quiet(significant, streak), len(covariances) - 1)
    if window == 0:
        return 1
    lags = np.arange(1, window + 1)
    weights = np.minimum(1.0, 2 * (1 - lags / window)) * covariances[1 : window + 1]
    spectrum = covariances[0] + 2 * weights.sum()
    if spectrum <= 0:  # readings that alternate: neighbours cancel, and single ones err to the safe side
        return 1
    slope = 2 * (lags * weights).sum()
    best: float = (1.5 * (slope / spectrum) ** 2 * n) ** (1 / 3)
    return max(1, math.ceil(min(best, 3 * math.sqrt(n), n / 3)))


def _first_quiet(significant: np.ndarray[tuple[int], np.dtype[np.bool_]], streak: int) -> int:
    """The lag behind which ``streak`` lags in a row are not significant; else the last that is."""
    loud = np.flatnonzero(significant) + 1
    ends = np.append(loud[1:], len(significant) + streak + 1)
    if not len(loud) or loud[0] > streak:
        return 0
    return int(loud[np.flatnonzero(ends - loud > streak)[0]])


def _autocovariances(values: Floats, lags: int) -> Floats:
    """At the lags 0 to ``lags``."""
    n = len(values)
    size = 1 << (n + lags).bit_length()
    spectrum = np.abs(np.fft.rfft(values - values.mean(), size)) ** 2
    return np.asarray(np.fft.irfft(spectrum, size)[: lags + 1] / n, dtype=np.float64)


def _resampled(deviations: Floats) -> Floats:
    """Means of resamples of a series whose mean is 0. [_RESAMPLES]"""
    n = len(deviations)
    length = max(block_length(deviations), -(-n // _MOST_BLOCKS))
    blocks = -(-n // length)
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([deviations, deviations[: length - 1]]))])
    sums = sums[length:] - sums[:-length]
    draw = np.random.default_rng(_SEED)
    at_once = max(1, _MOST_DRAWN // blocks)
    drawn = [
        sums[draw.integers(n, size=(min(at_once, _RESAMPLES - begun), blocks))].sum(axis=1)
        for begun in range(0, _RESAMPLES, at_once)
    ]
    # The last block reaches beyond n readings; a mean of more of them would vary too little.
    return np.asarray(np.concatenate(drawn) / (blocks * length) * math.sqrt(blocks * length / n))
