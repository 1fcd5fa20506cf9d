"""Temperature and vector scaling of probabilities (Guo et al. 2017, sections 4.2 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from sf_ros.core.bundle import VectorScaling

BOUNDS = (0.05, 20.0)  # of a temperature; values beyond mean an untrained model


@dataclass(frozen=True)
class Temperature:
    """Divides logits by `value`, which keeps their order. `deviation` is its standard deviation."""

    value: float
    deviation: float

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits (N, L)."""
        return logits / self.value


@dataclass(frozen=True)
class Vector:
    """Maps log-probabilities to scale * log p + bias for each label; another label may win."""

    scale: np.ndarray  # (L,)
    bias: np.ndarray  # (L,)

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits (N, L), not normalised."""
        return log_softmax(logits, axis=1) * self.scale + self.bias

    def field(self) -> VectorScaling:
        """As stored in a bundle's manifest."""
        return VectorScaling(tuple(self.scale.tolist()), tuple(self.bias.tolist()))


def nll(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each sample (N,), of logits (N, L) and labels (N,)."""
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature | None:
    """The temperature of least NLL; None if no answer is wrong, since every smaller one would be better.

    The NLL is convex in 1/T. Its second derivative is the sum of the logits' variances under the calibrated
    probabilities (the observed Fisher information), whose inverse is the variance of 1/T.
    """
    if (logits.argmax(1) == labels).all():
        return None

    def loss(log_temperature: float) -> float:
        return float(nll(logits / np.exp(log_temperature), labels).mean())

    best = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    value = float(np.exp(best.x))
    probabilities = softmax(logits / value, axis=1)
    mean = (probabilities * logits).sum(1, keepdims=True)
    information = float((probabilities * (logits - mean) ** 2).sum())
    return Temperature(value, value**2 / float(np.sqrt(max(information, np.finfo(float).tiny))))


def fit_vector(logits: np.ndarray, labels: np.ndarray) -> Vector | None:
    """Scales and biases of least NLL with a Gaussian prior of deviation 1 around no change; None if no answer is wrong.

    The prior weighs as much as one sample. It determines a bias common to all labels, and the bias of labels without
    samples, which would diverge.
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
    bounds = [(0.0, None)] * classes + [(None, None)] * classes  # more evidence never lowers a label's probability
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000})
    return Vector(best.x[:classes], best.x[classes:])
