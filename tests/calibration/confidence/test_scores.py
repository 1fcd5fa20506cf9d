"""Scores agree with values by hand, formulas and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from calibration.confidence import scores
from calibration.confidence.scaling import nll


def test_calibration_error_by_hand() -> None:
    confidences, right = np.array([0.9, 0.6, 0.9, 0.6]), np.array([True, False, True, True])
    bins = scores.bins(confidences, right, 2)
    assert bins.count.tolist() == [2, 2]
    assert bins.confidence == pytest.approx([0.6, 0.9]) and bins.accuracy == pytest.approx([0.5, 1.0])
    assert bins.error == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)


def test_bins_hold_equal_numbers_of_answers() -> None:
    confidences = 1 - np.random.default_rng(0).random(3000) ** 6  # most of them just below 1
    bins = scores.bins(confidences, np.ones(3000, bool))
    assert len(bins.count) == scores.BINS and set(bins.count) <= {199, 200, 201}


def test_equal_confidences_share_a_bin() -> None:
    bins = scores.bins(np.array([1.0] * 97 + [0.5] * 3), np.array([True] * 97 + [False] * 3))
    assert bins.count.tolist() == [3, 97]
    assert bins.error == pytest.approx(0.03 * 0.5)


def test_error_of_calibrated_and_overconfident_answers() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.uniform(0.3, 1, 100_000)
    assert scores.calibration_error(confidences, rng.random(100_000) < confidences) < 0.01
    assert scores.calibration_error(confidences, rng.random(100_000) < confidences - 0.2) == pytest.approx(
        0.2, abs=0.01
    )


def test_the_error_by_chance_is_predicted() -> None:
    rng = np.random.default_rng(2)
    confidences = rng.uniform(0.5, 1, 300)
    shown = [scores.calibration_error(confidences, rng.random(300) < confidences) for _ in range(300)]
    assert scores.expected_error(confidences, rng) == pytest.approx(np.mean(shown), rel=0.05)
    assert np.mean(shown) > 0.04


def test_reliability_agrees_with_scikit_learn() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(3)
    confidences = rng.uniform(0.2, 1, 500)
    right = rng.random(500) < confidences**2
    bins = scores.bins(confidences, right)
    accuracy, confidence = calibration.calibration_curve(right, confidences, n_bins=scores.BINS, strategy="quantile")
    assert bins.accuracy == pytest.approx(accuracy) and bins.confidence == pytest.approx(confidence)


def test_brier_by_hand_and_nll_by_scikit_learn() -> None:
    assert scores.brier(np.array([[0.7, 0.2, 0.1]]), np.array([0])) == pytest.approx([0.09 + 0.04 + 0.01])
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = np.random.default_rng(4).normal(size=(200, 5)), np.arange(200) % 5
    assert nll(logits, labels).mean() == pytest.approx(metrics.log_loss(labels, softmax(logits, axis=1)))


def test_the_interval_of_a_share_is_binomial() -> None:
    right = np.arange(400) < 320
    estimate = scores.bootstrap(lambda i: float(right[i].mean()), 400, np.random.default_rng(5))
    margin = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert estimate.value == 0.8
    assert (estimate.low, estimate.high) == pytest.approx((0.8 - margin, 0.8 + margin), abs=0.006)


def test_the_interval_corrects_the_bias_of_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "RESAMPLES", 200)
    rng, covered, shown = np.random.default_rng(6), 0, []
    for _ in range(40):
        confidences = rng.uniform(0.5, 1, 400)
        right = rng.random(400) < confidences - 0.03
        estimate = scores.bootstrap(lambda i, c=confidences, r=right: scores.calibration_error(c[i], r[i]), 400, rng)
        covered, shown = covered + (estimate.low <= 0.03 <= estimate.high), [*shown, estimate.value]
    assert covered >= 32 and np.mean(shown) > 0.05


def test_accuracy_by_coverage_by_hand() -> None:
    confidences, right = np.array([0.5, 0.9, 0.7, 0.8, 0.6]), np.array([False, True, True, False, True])
    assert scores.risk_coverage(confidences, right) == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    accuracies = scores.accuracy_at(np.linspace(1, 0, 10), np.arange(10) < 8)
    assert accuracies == pytest.approx({"1": 0.8, "0.9": 8 / 9, "0.8": 1.0, "0.5": 1.0})
