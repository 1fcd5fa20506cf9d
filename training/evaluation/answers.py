"""Answers of a checkpoint or a bundle to samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle
from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer, Query
from sf_ros.engines.fused.engine import load_engine
from sf_ros.model.fusion import FusedModel, QueryFeatures
from training.data.inputs import Views, collate, model_inputs
from training.data.sample import Sample
from training.model.answers import answer_of
from training.trainer import checkpoint

Answerer = Callable[[Sample], Answer]


def answerer(path: Path) -> Answerer:
    """A function from sample to answer: a bundle through the robot's engine, a checkpoint by `reference`."""
    if is_bundle(path):
        return _engine(bundles.load(path))
    model, _, _ = checkpoint.load(path)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return lambda sample: reference(model, sample)


def image_answerer(path: Path) -> Callable[[Sequence[Sample]], list[Answer]]:
    """A function from samples of one image to their answers; a bundle answers them in one call."""
    if not is_bundle(path):
        single = answerer(path)
        return lambda samples: [single(sample) for sample in samples]
    engine = load_engine(bundles.load(path))

    def answer(samples: Sequence[Sample]) -> list[Answer]:
        if not samples:
            return []
        found = engine.answer(samples[0].image, [query_of(sample) for sample in samples])
        return [answers[sample.task] for answers, sample in zip(found, samples, strict=True)]

    return answer


def trained_tasks(path: Path) -> tuple[str, ...]:
    """The tasks that a bundle or checkpoint answers. ValueError when the folder is neither."""
    return bundles.load(path).tasks if is_bundle(path) else checkpoint.tasks(path)


def is_bundle(path: Path) -> bool:
    """Whether a folder is a bundle, or else a checkpoint. ValueError when it is neither."""
    if (path / bundles.MANIFEST).exists():
        return True
    if not (path / checkpoint.CONFIG).exists():
        raise ValueError(f"{path}: neither a bundle (no {bundles.MANIFEST}) nor a checkpoint (no {checkpoint.CONFIG}).")
    return False


def require_writable(file: Path) -> None:
    """Make the folder of a file that is written after long work. OSError when the file cannot be written there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    file.open("ab").close()
    if is_new:
        file.unlink()


def _engine(bundle: Bundle) -> Answerer:
    engine = load_engine(bundle)
    return lambda sample: engine.answer(sample.image, [query_of(sample)])[0][sample.task]


def query_of(sample: Sample) -> Query:
    """The query that asks a sample's task about its boxes."""
    return Query(TASKS[sample.task].view, sample.boxes, (sample.task,), (1,))


@torch.inference_mode()
def reference(model: FusedModel, sample: Sample) -> Answer:
    """The checkpoint's own answer to one sample, in float32, on the model's device."""
    inputs, device = model_inputs(sample, model.config), next(model.parameters()).device
    batch = collate([inputs], [sample.task], model.config)

    def features(views: Views | None) -> Tensor | None:
        return None if views is None or views.images is None else model.encode(views.images.to(device))

    encoded = features(batch.frames), features(batch.crops), batch.frame_of[:1], batch.crop_of[:1]
    queries = QueryFeatures(*encoded, batch.masks[:1].to(device), batch.boxes[:1].to(device))
    return answer_of(model, queries, sample.task)


def over_moments(answer: Answerer) -> Answerer:
    """An answerer that averages the logits over a sample's moments.

    Log-probabilities are logits up to a constant, which the softmax removes.
    """

    def averaged(sample: Sample) -> Answer:
        if not sample.moments:
            return answer(sample)
        answers = [answer(moment).probabilities for moment in (sample, *sample.moments)]
        logits = np.log(np.maximum([p for p in answers if p is not None], np.finfo(np.float32).tiny)).mean(0)
        weights = np.exp(logits - logits.max())
        return Answer(probabilities=weights / weights.sum())

    return averaged


class Recorder:
    """A bundle's answers to label tasks before calibration, collected with the true labels.

    The file (.npz) has '<task>/log_probabilities' float32 (N, L), '<task>/labels' and '<task>/keys' (N,) of each task,
    and 'about', a JSON object with the hash of the bundle's weights and the data. ValueError without a bundle.
    """

    def __init__(self, model: Path, file: Path) -> None:
        if not (model / bundles.MANIFEST).exists():
            raise ValueError(f"{model}: not a bundle; --answers needs one. Export the checkpoint first.")
        require_writable(file)
        self.file, bundle = file, bundles.load(model)
        self.weights = bundle.manifest.weights
        self._answer = _engine(dataclasses.replace(bundle, manifest=bundle.manifest.uncalibrated))
        self._rows: dict[str, list[tuple[np.ndarray, int | None, str]]] = {}

    def answer(self, sample: Sample) -> Answer:
        """The bundle's answer, recorded if it is one of labels."""
        answer = self._answer(sample)
        if answer.probabilities is not None:
            self._rows.setdefault(sample.task, []).append((answer.probabilities, sample.label, sample.key))
        return answer

    def write(self, data: str) -> None:
        """Write the file; `data` names the samples."""
        arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps({"weights": self.weights, "data": data}))}
        for task, rows in self._rows.items():
            probabilities, labels, keys = zip(*rows, strict=True)
            floor = np.finfo(np.float32).tiny
            arrays[f"{task}/log_probabilities"] = np.log(np.maximum(np.array(probabilities, np.float32), floor))
            arrays[f"{task}/labels"], arrays[f"{task}/keys"] = np.array(labels), np.array(keys)
        with self.file.open("wb") as stream:  # np.savez would append .npz to the user's file name
            np.savez_compressed(stream, allow_pickle=False, **arrays)
