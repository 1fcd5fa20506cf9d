"""Train the gesture classifier of the people bundle:  python -m training.tools.gestures [--out FILE]

It learns the joints of the drawn world's hands (training/data/hand_views.py) and no photograph: about a minute on one
CPU core. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import track
from safetensors.numpy import save_file
from torch import nn

from sf_ros.core.text import command_line
from sf_ros.engines.people import gesture
from training.data.hand_views import NO_GESTURE, sample_views

DEFAULT = Path(gesture.__file__).parent / "weights" / gesture.WEIGHTS


@dataclass(frozen=True)
class Arguments:
    """Command line of the classifier's training."""

    out: Path = DEFAULT  # file to write: the package's own
    hands: int = 4000  # of each class, for training
    test_hands: int = 500  # of each class, others
    epochs: int = 14
    batch: int = 512
    learning_rate: float = 2e-3  # at its peak
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.hands, self.test_hands, self.epochs, self.batch) < 1 or self.learning_rate <= 0:
            raise ValueError("hands, test_hands, epochs, batch and learning_rate must be above 0.")


HIDDEN = (160, 96)  # units: 150 kB; twice as many are no better on photographs
DROPOUT = 0.1
SMOOTHING = 0.05  # of the labels: some hands are between two classes
WEIGHT_DECAY = 0.05


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m training.tools.gestures", description=__doc__)
        result = train(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def train(arguments: Arguments) -> dict[str, Any]:
    """Writes the weights; returns their accuracy on drawn hands that were not trained on."""
    rng = np.random.default_rng(arguments.seed)
    values, classes = _examples(arguments.hands, rng)
    weights = fit(values, classes, arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, arguments.out)
    values, classes = _examples(arguments.test_hands, rng)
    right = gesture.classify(weights, values).argmax(axis=1) == classes
    return {
        "file": str(arguments.out),
        "bytes": arguments.out.stat().st_size,
        "accuracy": round(float(right.mean()), 4),
        "no_gesture": round(float(right[classes == NO_GESTURE].mean()), 4),
    }


def fit(values: np.ndarray, classes: np.ndarray, arguments: Arguments) -> dict[str, np.ndarray]:
    """The weights of a classifier of features (N, F) and class numbers (N,), as `gesture.classify` reads them."""
    torch.manual_seed(arguments.seed)
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-3
    inputs, targets = torch.from_numpy((values - mean) / deviation), torch.from_numpy(classes)
    sizes = (values.shape[1], *HIDDEN, NO_GESTURE + 1)
    linear = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    network = nn.Sequential(
        linear[0], *(part for layer in linear[1:] for part in (nn.ReLU(), nn.Dropout(DROPOUT), layer))
    )
    optimizer = torch.optim.AdamW(network.parameters(), arguments.learning_rate, weight_decay=WEIGHT_DECAY)
    steps = arguments.epochs * -(-len(inputs) // arguments.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.learning_rate, total_steps=steps)
    for rows in track(_batches(len(inputs), arguments), "training", total=steps):
        loss = nn.functional.cross_entropy(network(inputs[rows]), targets[rows], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    weights = {"mean": mean, "deviation": deviation}
    for number, layer in enumerate(linear):
        weights[f"{number}.weight"] = layer.weight.detach().numpy()
        weights[f"{number}.bias"] = layer.bias.detach().numpy()
    return weights


def _examples(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    points, other, seen, classes = sample_views(count, rng)
    return gesture.features(points, other, seen), classes


def _batches(count: int, arguments: Arguments) -> Iterator[torch.Tensor]:
    for _ in range(arguments.epochs):
        yield from torch.randperm(count).split(arguments.batch)


if __name__ == "__main__":
    sys.exit(main())
