"""Score a checkpoint or a bundle:

    python -m training.evaluate CHECKPOINT|BUNDLE --data ROOT [--split test] [--tasks a,b]

Prints a table with chance beside each figure and, for the real datasets, the paper's table with this run's figures in
it; the last line of stdout is one JSON object. --answers FILE.npz also writes the answers of a bundle, as they are
before any calibration, beside the true labels, for calibration.confidence.fit.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle, BundleError
from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from sf_ros.core.views import normalise
from sf_ros.engines.base import Answer, Question
from sf_ros.engines.fused.engine import load_engine
from sf_ros.model.fusion import FusedModel
from training.data.cache import Dataset, model_inputs
from training.data.datasets import open_dataset
from training.data.files import FileDataset
from training.data.published import ego4d
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes
from training.data.workers import worker_pool
from training.evaluation import metrics, published_results
from training.trainer import checkpoint

CHUNK = 8
Answerer = Callable[[Sample], Answer]


@dataclass(frozen=True)
class Arguments:
    """Command line of evaluation."""

    model: Annotated[Path, tyro.conf.Positional]  # checkpoint folder or bundle folder
    data: str = "scenes"  # 'scenes', or the root of the real datasets
    split: str = "val"  # val | test
    tasks: str | None = None  # comma-separated questions; None: all six
    samples: int = 1_000  # per question, when the data is procedural
    submission: Path | None = None  # write the answers for Ego4D's looking-at-me challenge, whose labels are hidden
    moments: int = 1  # frames around a face whose logits are averaged for looking-at-me; 7: as the benchmark's models
    answers: Path | None = None  # .npz for a bundle's answers before calibration, for calibration.confidence.fit
    hide: str = ""  # comma-separated parts left out of the drawings: eyes, mouth, hands (do answers rest on them?)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m training.evaluate", description=__doc__)
    try:
        if arguments.submission is not None:
            print(json.dumps(submit(arguments.model, arguments.data, arguments.submission, arguments.moments)))
            return 0
        results = evaluate(
            arguments.model, arguments.data, arguments.split, arguments.samples,
            tasks=arguments.tasks.split(",") if arguments.tasks else None,
            hide=frozenset(filter(None, arguments.hide.split(","))), moments=arguments.moments, file=arguments.answers,
        )  # fmt: skip
    except (ValueError, OSError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console()
    console.print(table(results, f"{arguments.model} on {arguments.data}/{arguments.split}"))
    if arguments.data != "scenes":
        console.print(published_results.table(results, arguments.split))
        console.print("\n".join(published_results.caveats(results, arguments.split)), soft_wrap=True, highlight=False)
    print(json.dumps(results))
    return 0


def evaluate(
    model: Path,
    data: str,
    split: str,
    samples: int,
    *,
    tasks: list[str] | None = None,
    hide: frozenset[str] = frozenset(),
    moments: int = 1,
    file: Path | None = None,
) -> dict[str, dict[str, object]]:
    """Question -> {samples, metrics, chance}. Gaze is reported for all targets, and by their place in raster order.

    Of all questions, those whose labels are hidden in this split are left out, and told on stderr. `file` gets the
    answers of a bundle without its calibration, which are then also those scored.
    """
    if data != "scenes" and hide:
        raise ValueError("--hide leaves parts out of drawings: it needs --data scenes.")
    if file is not None and moments > 1:
        raise ValueError("--answers are those to single frames, as a robot gives them; leave --moments out.")
    recorder = None if file is None else Recorder(model, file)
    names = [known(t, TASKS, "question") for t in tasks or TASKS]
    datasets = {task: held_out(data, split, task, samples, hide, moments) for task in names}
    for task in names if tasks is None else ():
        if hidden(datasets[task]):
            print(f"'{task}' is left out: its labels of '{split}' are hidden, see --submission.", file=sys.stderr)
            del datasets[task]
    answer = over_moments(answerer(model)) if recorder is None else recorder.answer
    results: dict[str, dict[str, object]] = {}
    for task, dataset in datasets.items():
        broken: list[str] = []
        results[task] = score(task, answer, read(dataset, broken))
        if broken:
            results[task]["skipped"] = {"samples": len(broken), "first": broken[0]}
    if recorder is not None:
        recorder.write(f"{data}/{split}")
    return results


class Recorder:
    """A bundle's answers before calibration, kept with their true labels; gaze has no labels and is not kept.

    The file (.npz) has '<question>/log_probabilities' float32 (N, L), '<question>/labels' and '<question>/keys' (N,) of
    each question, and 'about', a JSON object with the bundle's weights and the data. ValueError without a bundle.
    """

    def __init__(self, model: Path, file: Path) -> None:
        if not (model / bundles.MANIFEST).exists():
            raise ValueError(f"{model}: not a bundle, and --answers are those of one. Export it first.")
        self.file, bundle = file, bundles.load(model)
        self.weights = bundle.manifest.weights
        self._answer = _engine(dataclasses.replace(bundle, manifest=bundle.manifest.uncalibrated))
        self._kept: dict[str, list[tuple[np.ndarray, int | None, str]]] = {}

    def answer(self, sample: Sample) -> Answer:
        """The bundle's answer, kept where it is one of labels."""
        found = self._answer(sample)
        if found.probabilities is not None:
            self._kept.setdefault(sample.task, []).append((found.probabilities, sample.label, sample.key))
        return found

    def write(self, data: str) -> None:
        """Write the file; `data` says what was answered about."""
        arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps({"weights": self.weights, "data": data}))}
        for task, rows in self._kept.items():
            probabilities, labels, keys = zip(*rows, strict=True)
            floor = np.finfo(np.float32).tiny
            arrays[f"{task}/log_probabilities"] = np.log(np.maximum(np.array(probabilities, np.float32), floor))
            arrays[f"{task}/labels"], arrays[f"{task}/keys"] = np.array(labels), np.array(keys)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("wb") as stream:  # np.savez would add .npz to a name of the user's choice
            np.savez_compressed(stream, allow_pickle=False, **arrays)


def held_out(
    data: str, split: str, task: str, samples: int, hide: frozenset[str] = frozenset(), moments: int = 1
) -> Scenes | FileDataset:
    """A question's held-out set: `samples` drawn, or all that is published."""
    if data == "scenes" and moments > 1:
        raise ValueError("--moments averages over frames of videos, and scenes are stills; give a --data ROOT.")
    if data == "scenes":
        return Scenes(task, split, samples, hide=hide)
    return open_dataset(Path(data), task, split, moments)


def hidden(dataset: Scenes | FileDataset) -> bool:
    """Whether a split is published without its labels."""
    return isinstance(dataset, FileDataset) and all(
        record.label is None and not record.points_norm for record in dataset.listing.records
    )


def submit(model: Path, data: str, file: Path, moments: int = 1) -> dict[str, object]:
    """Write the challenge's file with the answers to every face of its test split."""
    dataset = open_dataset(Path(data), "looking_at_me", "test", moments)
    answer = over_moments(answerer(model))
    yes, broken = TASKS["looking_at_me"].labels.index("yes"), list[str]()
    answers = {sample.key: answer(sample).probabilities for sample in read(dataset, broken)}
    scores = [float(found[yes]) for found in answers.values() if found is not None]
    file.write_text(ego4d.submission(list(answers), scores))
    return {"submission": str(file), "faces": len(answers), "skipped": len(broken)}


def answerer(path: Path) -> Answerer:
    """A function from sample to answer: a bundle through the robot's engine, a checkpoint by `reference`."""
    if (path / bundles.MANIFEST).exists():
        return _engine(bundles.load(path))
    if not (path / checkpoint.CONFIG).exists():
        raise ValueError(f"{path}: neither a bundle (no {bundles.MANIFEST}) nor a checkpoint (no {checkpoint.CONFIG}).")
    model, _, _ = checkpoint.load(path)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return lambda sample: reference(model, sample)


def _engine(bundle: Bundle) -> Answerer:
    engine = load_engine(bundle)
    return lambda sample: engine.answer(sample.image, [Question(sample.task, (1,), sample.boxes)])[0]


def over_moments(answer: Answerer) -> Answerer:
    """An answerer that takes the mean of the logits over a sample's moments, which any answerer's probabilities give.

    Their logarithms are the logits up to a constant, which the softmax takes away again.
    """

    def averaged(sample: Sample) -> Answer:
        if not sample.moments:
            return answer(sample)
        answers = [answer(moment).probabilities for moment in (sample, *sample.moments)]
        logits = np.log(np.maximum([p for p in answers if p is not None], np.finfo(np.float32).tiny)).mean(0)
        weights = np.exp(logits - logits.max())
        return Answer(probabilities=weights / weights.sum())

    return averaged


@torch.inference_mode()
def reference(model: FusedModel, sample: Sample) -> Answer:
    """The checkpoint's own answer, one question at a time, in float32, on the model's device."""
    picture, *marks = model_inputs(sample, model.config.encoder)
    device = next(model.parameters()).device
    features = model.encode(torch.from_numpy(normalise(picture[None], model.config.encoder)).to(device))
    visual = model.visual(features, *(torch.from_numpy(mark[None]).to(device) for mark in marks))
    return answer_of(model, visual, sample.task)


def answer_of(model: FusedModel, visual: Tensor, task: str) -> Answer:
    """What a model answers to one question, from its visual tokens (1, N, D)."""
    if TASKS[task].kind == "heatmap":
        return Answer(heatmap=model.heatmap_logits(visual).sigmoid()[0].cpu().numpy())
    return Answer(probabilities=model.label_logits(visual, task).float().softmax(-1)[0].cpu().numpy())


def read(dataset: Dataset, broken: list[str] | None = None, workers: int = 2) -> Iterator[Sample]:
    """All samples of a dataset, read by worker processes.

    Those that cannot be read are left out and told in `broken`; without such a list the first of them is an OSError.
    """
    jobs = [(dataset, range(start, min(start + CHUNK, len(dataset)))) for start in range(0, len(dataset), CHUNK)]
    with worker_pool(workers) as pool:
        for chunk, faults in track(
            pool.map(_read_chunk, jobs), total=len(jobs), description=f"evaluate {dataset.task}"
        ):
            if broken is None and faults:
                raise OSError(faults[0])
            if broken is not None:
                broken += faults
            yield from chunk


def _read_chunk(job: tuple[Dataset, range]) -> tuple[list[Sample], list[str]]:
    dataset, indices = job
    samples, faults = [], []
    for index in indices:
        try:
            samples.append(dataset[index])
        except (OSError, ValueError) as error:
            faults.append(str(error))
    return samples, faults


def score(task: str, answer: Answerer, samples: Iterator[Sample]) -> dict[str, object]:
    """One question's samples, metrics and chance."""
    return (score_gaze if TASKS[task].kind == "heatmap" else score_labels)(task, answer, samples)


def score_labels(task: str, answer: Answerer, samples: Iterator[Sample]) -> dict[str, object]:
    """Metrics of a question with labels."""
    rows = [(answer(sample).probabilities, sample.label) for sample in samples]
    if any(label is None for _, label in rows):
        raise ValueError(f"The labels of this split of '{task}' are hidden; write a submission by --submission FILE.")
    probabilities, labels = np.array([p for p, _ in rows]), np.array([label for _, label in rows])
    return {
        "samples": len(rows),
        "metrics": metrics.label_metrics(task, probabilities, labels),
        "chance": metrics.label_chance(labels, len(TASKS[task].labels)),
    }


def score_gaze(task: str, answer: Answerer, samples: Iterator[Sample]) -> dict[str, object]:
    """AUC and L2 distances; chance is a flat map and a point drawn at random."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, float]] = []
    chance: list[float] = []
    orders: list[str] = []
    for sample in samples:
        heatmap = answer(sample).heatmap
        assert heatmap is not None
        points = np.array(sample.points_norm)
        height, width = sample.image.shape[:2]
        auc = metrics.gaze_auc(heatmap, points, width, height)
        rows.append({"AUC": auc, **metrics.gaze_distances(heatmap, points)})
        chance.append(float(np.linalg.norm(points - generator.random(2), axis=1).min()))
        orders.append(str(sample.tags.get("target", "")))
    means = _means(rows)
    guessed = {name: 0.5 if name == "AUC" else float(np.mean(chance)) for name in means}
    result: dict[str, object] = {"samples": len(rows), "metrics": means, "chance": guessed}
    for order in ("after", "before"):
        if chosen := [row for row, of in zip(rows, orders, strict=True) if of == order]:
            result[f"target_{order}_head"] = {"samples": len(chosen), **_means(chosen)}
    return result


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def table(results: dict[str, dict[str, object]], title: str) -> Table:
    """The results for people."""
    sheet = Table("question", "samples", "metric", "value", "chance", title=title)
    for task, result in results.items():
        blocks: dict[str, tuple] = {task: (result["samples"], result["metrics"], result["chance"])}
        for order in ("after", "before"):
            part = result.get(f"target_{order}_head")
            if isinstance(part, dict):
                figures = {k: v for k, v in part.items() if k != "samples"}
                blocks[f"{task}, target {order} head"] = (part["samples"], figures, {})
        for name, (count, figures, chance) in blocks.items():
            for position, (metric, value) in enumerate(figures.items()):
                beside = f"{chance[metric]:.3f}" if metric in chance else ""
                sheet.add_row(
                    name if position == 0 else "", str(count) if position == 0 else "", metric, f"{value:.3f}", beside
                )
    return sheet


if __name__ == "__main__":
    sys.exit(main())
