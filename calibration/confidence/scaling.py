"""Probabilities that mean what they say: temperature and vector scaling (Guo et al. 2017, sections 4.2 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from sf_ros.core.bundle import VectorScaling

BOUNDS = (0.05, 20.0)  # of a temperature; beyond them nothing was learned


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by `value`, which changes no order. `deviation` is its standard deviation."""

    value: float
    deviation: float

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits (N, L)."""
        return logits / self.value


@dataclass(frozen=True)
class Vector:
    """Log-probabilities become scale * log p + bias, label by label; another label may win."""

    scale: np.ndarray  # (L,)
    bias: np.ndarray  # (L,)

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits (N, L), not normalised."""
        return log_softmax(logits, axis=1) * self.scale + self.bias

    def field(self) -> VectorScaling:
        """As a bundle's manifest has it."""
        return VectorScaling(tuple(self.scale.tolist()), tuple(self.bias.tolist()))


def nll(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each sample (N,), of logits (N, L) and labels (N,)."""
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature | None:
    """The temperature with the least NLL; None where no answer is wrong, since any smaller one would then be better.

    The NLL is convex in 1/T. Its second derivative there is the sum of the logits' variances under the calibrated
    probabilities, and one over that the variance of 1/T (the inverse of the observed Fisher information).
    """
    if (logits.argmax(1) == labels).all():
        return None

    def loss(log_temperature: float) -> float:
        return float(nll(logits / np.exp(log_temperature), labels).mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    value = float(np.exp(found.x))
    probabilities = softmax(logits / value, axis=1)
    mean = (probabilities * logits).sum(1, keepdims=True)
    information = float((probabilities * (logits - mean) ** 2).sum())
    return Temperature(value, value**2 / float(np.sqrt(max(information, np.finfo(float).tiny))))


def fit_vector(logits: np.ndarray, labels: np.ndarray) -> Vector | None:
    """Scales and biases with the least NLL, with a Gaussian prior of deviation 1 around no change; else as above.

    The prior weighs as much as one sample. It fixes what the NLL leaves open: a bias common to all labels, and labels
    of which the split has no sample, whose bias would run away.
    """
    if (logits.argmax(1) == labels).all():
        return None
    inputs, truth = log_softmax(logits, axis=1), np.eye(logits.shape[1])[labels]
    count, classes = inputs.shape

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = parameters[:classes], parameters[classes:]
        scaled = inputs * scale + bias
        value = nll(scaled, labels).sum() + ((scale - 1) ** 2).sum() / 2 + (bias**2).sum() / 2
        surplus = softmax(scaled, axis=1) - truth
        gradient = np.concatenate([(surplus * inputs).sum(0) + scale - 1, surplus.sum(0) + bias])
        return value / count, gradient / count

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    bounds = [(0.0, None)] * classes + [(None, None)] * classes  # more evidence for a label never speaks against it
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000})
    return Vector(found.x[:classes], found.x[classes:])
