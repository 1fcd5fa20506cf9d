"""Calibration error, proper scores and abstention of probabilities, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BINS = 15  # as in Guo et al. 2017
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percentiles
COVERAGES = (1.0, 0.9, 0.8, 0.5)


@dataclass(frozen=True)
class Bins:
    """Answers binned by confidence; a row for each bin that is not empty."""

    count: np.ndarray
    confidence: np.ndarray  # mean
    accuracy: np.ndarray  # share of right answers

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence| over answers (Guo et al. 2017, equation 3)."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def bins(confidences: np.ndarray, right: np.ndarray, count: int = BINS) -> Bins:
    """Bins of equal mass of confidences (N,) and whether the answers are right (N,). Equal confidences share a bin.

    A good model's confidences are mostly just below 1: bins of equal width would be one full bin and fourteen nearly
    empty ones, whose noise would count as error.
    """
    edges = np.quantile(confidences, np.linspace(0, 1, count + 1)[1:-1])
    indices = np.searchsorted(edges, confidences, side="right")
    sizes = np.bincount(indices, minlength=count)
    filled = sizes > 0
    sums = (np.bincount(indices, values, count)[filled] for values in (confidences, right.astype(float)))
    confidence, accuracy = (total / sizes[filled] for total in sums)
    return Bins(sizes[filled], confidence, accuracy)


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error of the winning labels' probabilities (N,), over BINS bins of equal mass."""
    return bins(confidences, right).error


def expected_error(confidences: np.ndarray, rng: np.random.Generator) -> float:
    """Mean calibration error of perfectly calibrated answers with these confidences (N,).

    It is not 0, since bins hold few answers. By consistency resampling: whether each answer is right is drawn with its
    own confidence (Broecker and Smith 2007).
    """
    drawn = rng.random((RESAMPLES, confidences.size)) < confidences
    return float(np.mean([calibration_error(confidences, right) for right in drawn]))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Brier's score of each sample (N,): the squared distance from (N, L) to the truth, 0 to 2 (Brier 1950)."""
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)


def bootstrap(
    figure: Callable[[np.ndarray], float], count: int, rng: np.random.Generator, most: float = np.inf
) -> Estimate:
    """A figure (0 to `most`) of the samples with given indices, and its interval by the basic bootstrap.

    Basic, not percentile (Davison and Hinkley 1997, section 5.2): the calibration error of few answers is biased
    upwards, that of resampled answers twice as much. The basic bootstrap subtracts this bias, percentiles would add it.
    So the interval of an error that is mostly chance may lie below the figure.
    """
    value = figure(np.arange(count))
    low, high = np.percentile([figure(rng.integers(0, count, count)) for _ in range(RESAMPLES)], INTERVAL)
    return Estimate(value, max(2 * value - float(high), 0.0), min(2 * value - float(low), most))


def risk_coverage(confidences: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Accuracy (N,) of the 1 ... N most confident answers (Geifman 2017)."""
    order = np.argsort(-confidences, kind="stable")
    return np.cumsum(right[order]) / np.arange(1, len(order) + 1)


def accuracy_at(confidences: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Accuracy of the most confident answers at each of COVERAGES."""
    curve = risk_coverage(confidences, right)
    return {f"{c:g}": float(curve[max(round(c * len(curve)), 1) - 1]) for c in COVERAGES}
