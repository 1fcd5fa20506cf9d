"""Known distortions of logits are recovered."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from calibration.confidence.scaling import fit_temperature, fit_vector, nll


def drawn(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True labels (N,), each drawn with the probabilities that logits (N, L) stand for."""
    return (softmax(logits, axis=1).cumsum(1) > rng.random((len(logits), 1))).argmax(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(5000, 6))
    fitted = fit_temperature(temperature * logits, drawn(logits, rng))
    assert fitted is not None
    assert fitted.value == pytest.approx(temperature, rel=0.06)
    assert abs(fitted.value - temperature) < 3 * fitted.deviation


def test_no_other_temperature_has_a_smaller_loss() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(300, 4))
    labels = drawn(1.7 * logits, rng)
    fitted = fit_temperature(logits, labels)
    assert fitted is not None
    least = nll(fitted.logits(logits), labels).mean()
    assert all(nll(logits / (fitted.value * factor), labels).mean() > least for factor in (0.9, 0.99, 1.01, 1.1))


def test_the_deviation_predicts_the_spread_of_fits() -> None:
    rng = np.random.default_rng(2)
    fits = []
    for _ in range(60):
        logits = 2 * rng.normal(size=(300, 5))
        fits.append(fit_temperature(2 * logits, drawn(logits, rng)))
    values, deviations = zip(*((fit.value, fit.deviation) for fit in fits if fit is not None), strict=True)
    assert np.std(values) == pytest.approx(np.mean(deviations), rel=0.3)


def test_a_temperature_keeps_the_order_of_labels() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(200, 8))
    fitted = fit_temperature(logits, drawn(0.3 * logits, rng))
    assert fitted is not None and fitted.value > 2
    assert np.array_equal(fitted.logits(logits).argsort(1), logits.argsort(1))


def test_vector_scaling_recovers_a_bias_that_a_temperature_cannot() -> None:
    rng = np.random.default_rng(4)
    logits, bias = 2 * rng.normal(size=(60_000, 3)), np.array([1.0, 0.0, -1.0])
    labels = drawn(logits + bias, rng)
    vector, temperature = fit_vector(logits, labels), fit_temperature(logits, labels)
    assert vector is not None and temperature is not None
    assert vector.scale == pytest.approx(1, abs=0.04)
    assert vector.bias - vector.bias[1] == pytest.approx(bias, abs=0.08)
    losses = (nll(logits + bias, labels).mean(), nll(vector.logits(logits), labels).mean())
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)
    assert nll(temperature.logits(logits), labels).mean() > losses[1] + 0.05


def test_vector_scaling_recovers_a_scale_for_each_label() -> None:
    rng = np.random.default_rng(5)
    logits, scale = 2 * rng.normal(size=(20_000, 3)), np.array([0.5, 1.0, 1.5])
    fitted = fit_vector(logits, drawn(scale * log_softmax(logits, axis=1), rng))
    assert fitted is not None and fitted.scale == pytest.approx(scale, abs=0.1)


def test_a_constant_added_to_logits_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    logits, shift = rng.normal(size=(400, 3)), rng.normal(size=(400, 1))
    labels = drawn(2 * logits, rng)
    first, second = fit_vector(logits, labels), fit_vector(logits + shift, labels)
    assert first is not None and second is not None and first.scale == pytest.approx(second.scale, abs=1e-6)


def test_a_label_without_samples_keeps_a_finite_bias() -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(2000, 4))
    logits[:, 3] = logits[:, :3].max(1) - 1
    fitted = fit_vector(logits, drawn(logits[:, :3], rng))
    assert fitted is not None and -8 < fitted.bias[3] < 0 and fitted.scale.min() >= 0


def test_nothing_is_fitted_if_all_answers_are_right() -> None:
    logits = np.eye(3)[[0, 1, 2, 2]]
    labels = logits.argmax(1)
    assert fit_temperature(logits, labels) is None and fit_vector(logits, labels) is None
