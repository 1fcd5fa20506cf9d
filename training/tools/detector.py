"""Train the demo's person and face detector:  python -m training.tools.detector --out DIR [--images N] [--epochs E]

DIR gets data/ (rendered scenes in YOLO's format), train/ (the state that --resume continues), detector.onnx and
detector.json. The last line of stdout is one JSON object. The weights are AGPL-3.0, because ultralytics trains them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import tyro
from rich.progress import track

from sf_ros.core.text import command_line
from sf_ros.engines.threads import available_cores
from training.data.scenes.clips import sample_clip_state
from training.data.scenes.render import Annotation, BoxPx, PersonAnnotation, render
from training.data.scenes.scene import sample_scene
from training.data.workers import worker_pool

NAMES = ("person", "face")
MIN_VISIBILITY = 0.25  # of a labelled person without a visible face
CLIP = "clip"  # a scene from a clip
# Shares of scenes by focus: near and far, sitting, embracing, occluded and single people.
SHARES = {CLIP: 0.3, "any": 0.3, "gaze": 0.05, "gesture": 0.1, "expression": 0.05, "relation": 0.2}
JPEG_QUALITY = (55, 96)  # robots often get compressed frames
SPLITS = {"train": 1, "val": 2}  # split -> component of a scene's seed
OPSET = 17  # onnxruntime 1.12 (2022) and later
RECORD = "detector.json"


@dataclass(frozen=True)
class Arguments:
    """Command line of the detector training."""

    out: Path  # folder for all output
    images: int = 6000  # training images to render
    val_images: int = 300  # images of split 'val' to render
    epochs: int = 8
    size: int = 320  # px, longer side of the input; a multiple of 32
    width: float = 0.125  # share of YOLO11's channels: half of YOLO11n's (0.25), a third of its file, half of its time
    batch: int = 8  # small, for many steps: from random weights, one epoch of 94 steps at 16 detects almost nothing
    learning_rate: float = 1.5e-3  # AdamW's, at its peak
    seed: int = 0
    workers: int = 2  # processes that render
    threads: int = 0  # CPU threads for training; 0: all cores
    resume: bool = False  # continue an earlier run in --out

    def __post_init__(self) -> None:
        if min(self.images, self.val_images, self.epochs, self.batch, self.workers) < 1:
            raise ValueError("images, val-images, epochs, batch and workers must be 1 or more.")
        if self.size % 32 or self.size < 32:
            raise ValueError(f"size is {self.size}; it must be a multiple of 32.")
        if not 0 < self.width <= 1:
            raise ValueError(f"width is {self.width}; it must lie in 0..1.")


@command_line
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        arguments = tyro.cli(Arguments, args=argv, prog="python -m training.tools.detector", description=__doc__)
        with contextlib.redirect_stdout(sys.stderr):  # ultralytics prints; stdout is for the result only
            result = train(arguments)
    except (ValueError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"{name:8} mAP50 {result['map50'][name]:.3f}" for name in NAMES))
    print(json.dumps(result))
    return 0


def train(arguments: Arguments) -> dict[str, Any]:
    """Render, train, export and score; returns the content of detector.json.

    FileExistsError if the folder holds an earlier run and `resume` is off; ValueError if that run has other settings.
    """
    out = arguments.out
    record = out / RECORD
    if out.exists() and any(out.iterdir()) and not arguments.resume:
        raise FileExistsError(f"{out} holds an earlier run. Continue it with --resume, or name another --out.")
    _record_settings(arguments)
    if record.is_file() and (out / "detector.onnx").is_file():
        return json.loads(record.read_text())
    started = time.time()
    for split, count in (("train", arguments.images), ("val", arguments.val_images)):
        write_images(out / "data", split, count, arguments.seed, arguments.workers)
    data = write_description(out / "data")
    rendered = time.time()
    weights = fit(arguments, data)
    trained = time.time()
    export(weights, out / "detector.onnx", arguments.size)
    result = {
        "detector": str(out / "detector.onnx"),
        "megabytes": round((out / "detector.onnx").stat().st_size / 1e6, 2),
        "images": arguments.images,
        "epochs": arguments.epochs,
        "size": arguments.size,
        "map50": score(out / "detector.onnx", data, arguments.size, out),
        "seconds": {"render": round(rendered - started), "train": round(trained - rendered)},
    }
    _use_threads(arguments.threads)
    record.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _record_settings(arguments: Arguments) -> None:
    """Write the settings of the run to its folder; ValueError if it holds a run with others."""
    settings = dataclasses.asdict(arguments)
    for name in ("out", "workers", "threads", "resume"):  # these do not change the result
        del settings[name]
    path = arguments.out / "settings.json"
    if path.is_file():
        if (earlier := json.loads(path.read_text())) != settings:
            raise ValueError(f"{arguments.out} holds a run with {earlier}; expected {settings}. Name another --out.")
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n")


def write_images(folder: Path, split: str, count: int, seed: int, workers: int = 2) -> None:
    """Render scenes 0 to count-1 of a split into images/SPLIT and labels/SPLIT; existing images stay."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    todo = [number for number in range(count) if not image_path(folder, split, number).is_file()]
    if not todo:
        return
    jobs = [(folder, split, number, seed) for number in todo]
    with worker_pool(workers) as pool:
        for _ in track(pool.map(_write_image, jobs, chunksize=8), f"{split} images", total=len(jobs)):
            pass


def image_path(folder: Path, split: str, number: int) -> Path:
    """File of a rendered scene."""
    return folder / "images" / split / f"{number:05}.jpg"


def scene(split: str, number: int, seed: int) -> tuple[np.ndarray, Annotation, int]:
    """Image, annotation and JPEG quality of one scene: a pure function of the arguments."""
    rng = np.random.default_rng([seed, SPLITS[split], number])
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    state = sample_clip_state(rng, split) if kind == CLIP else sample_scene(rng, split, kind)
    image, annotation = render(state, rng)
    return image, annotation, int(rng.integers(*JPEG_QUALITY))


def _write_image(job: tuple[Path, str, int, int]) -> None:
    folder, split, number, seed = job
    cv2.setNumThreads(1)
    image, annotation, quality = scene(split, number, seed)
    path = image_path(folder, split, number)
    (folder / "labels" / split / f"{path.stem}.txt").write_text("".join(f"{line}\n" for line in labels(annotation)))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    part = path.with_suffix(".part")
    part.write_bytes(data.tobytes())
    part.replace(path)  # atomic, after the labels: an existing image is complete


def labels(annotation: Annotation) -> Iterator[str]:
    """Yield YOLO's lines, 'class cx cy w h' in 0..1 of the image, of everybody who is visible enough."""
    for person in annotation.people:
        if not _labelled(person):
            continue
        yield _line(0, person.body, annotation)
        if person.face is not None:
            yield _line(1, person.face, annotation)


def _labelled(person: PersonAnnotation) -> bool:
    return person.face is not None or person.visibility >= MIN_VISIBILITY


def _line(index: int, box: BoxPx, annotation: Annotation) -> str:
    x1, y1, x2, y2 = box
    values = (
        (x1 + x2) / 2 / annotation.width,
        (y1 + y2) / 2 / annotation.height,
        (x2 - x1) / annotation.width,
        (y2 - y1) / annotation.height,
    )
    return f"{index} " + " ".join(f"{value:.6f}" for value in values)


def write_description(data: Path) -> Path:
    """The data.yaml that ultralytics reads; JSON is YAML."""
    path = data / "data.yaml"
    names = dict(enumerate(NAMES))
    content = {"path": str(data.resolve()), "train": "images/train", "val": "images/val", "names": names}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def fit(arguments: Arguments, data: Path) -> Path:
    """Train from random weights; returns the file of the last weights, which ultralytics averages over steps."""
    out = arguments.out.resolve()
    yolo_class = _ultralytics(out / "settings")
    last = out / "train" / "weights" / "last.pt"
    if last.is_file() and _finished(last):
        return last
    resuming = last.is_file()
    model = yolo_class(str(last if resuming else write_architecture(out, arguments.width)), task="detect")
    model.add_callback("on_train_start", lambda _: _use_threads(arguments.threads))
    if resuming:
        model.train(resume=True)
        return last
    model.train(
        data=str(data),
        project=str(out),
        name="train",
        exist_ok=True,
        epochs=arguments.epochs,
        imgsz=arguments.size,
        batch=arguments.batch,
        nbs=arguments.batch,  # one optimiser step per batch; the default accumulates 64 samples
        optimizer="AdamW",
        lr0=arguments.learning_rate,
        lrf=0.02,
        cos_lr=True,
        warmup_epochs=0.5,
        weight_decay=5e-4,
        mosaic=0.5,
        close_mosaic=max(1, arguments.epochs // 3),
        scale=0.4,
        fliplr=0.5,
        seed=arguments.seed,
        device="cpu",
        workers=0,
        amp=False,
        plots=False,
        val=False,
        pretrained=False,
        save_period=-1,
    )
    return last


def write_architecture(out: Path, width: float) -> Path:
    """Write the YAML description of YOLO11 with our classes and a share `width` of its channels."""
    import ultralytics
    import yaml

    source = Path(ultralytics.__file__).parent / "cfg" / "models" / "11" / "yolo11.yaml"
    architecture = yaml.safe_load(source.read_text())
    architecture["nc"] = len(NAMES)
    architecture["scales"] = {"n": [0.5, width, 1024]}  # depth, width, maximum channels; "n" as in the file name
    path = out / "yolo11n.yaml"
    path.write_text(yaml.safe_dump(architecture))
    return path


def export(weights: Path, path: Path, size: int) -> None:
    """Export weights to ONNX with batch 1 and dynamic height and width, which avoids padding of 4:3 images."""
    yolo_class = _ultralytics(path.resolve().parent / "settings")
    exported = yolo_class(str(weights)).export(
        format="onnx", imgsz=size, dynamic=True, simplify=True, opset=OPSET, device="cpu"
    )
    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "description":  # ultralytics writes the path of the training data into it
            entry.value = "Persons and faces of procedural scenes"
    onnx.save(model, path)


def score(detector: Path, data: Path, size: int, out: Path) -> dict[str, float]:
    """mAP50 by class of the exported file on split 'val'."""
    yolo_class = _ultralytics(out.resolve() / "settings")
    metrics = yolo_class(str(detector), task="detect").val(
        data=str(data),
        imgsz=size,
        batch=1,
        device="cpu",
        workers=0,
        plots=False,
        verbose=False,
        project=str(out.resolve()),
        name="val",
        exist_ok=True,
    )
    ap50 = dict(zip(metrics.box.ap_class_index.tolist(), metrics.box.ap50.tolist(), strict=True))
    return {name: round(float(ap50.get(index, 0.0)), 4) for index, name in enumerate(NAMES)}


def _ultralytics(settings: Path) -> Any:
    """ultralytics' class YOLO, configured without network access and without files outside `settings`."""
    settings.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(settings))  # read at the first import
    import matplotlib
    from ultralytics import YOLO
    from ultralytics.utils import SETTINGS, USER_CONFIG_DIR

    dict.__setitem__(SETTINGS, "sync", False)  # no usage statistics; ordinary assignment would write a file
    font = USER_CONFIG_DIR / "Arial.ttf"
    if not font.is_file():  # ultralytics would download it, although nothing is drawn
        shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", font)
    return YOLO


def _use_threads(threads: int) -> None:
    """Set torch's threads again: ultralytics leaves one core out, which halves the speed on two cores."""
    import torch

    torch.set_num_threads(threads or available_cores())


def _finished(weights: Path) -> bool:
    """Whether the run that wrote these weights is complete: ultralytics then strips the optimiser's state."""
    import torch

    # A pickle, as ultralytics writes it. The file is from an earlier run in --out.
    return bool(torch.load(weights, map_location="cpu", weights_only=False)["epoch"] == -1)


if __name__ == "__main__":
    sys.exit(main())
