"""Sheets of samples with answers:  python -m training.studies gallery CHECKPOINT|BUNDLE --data ROOT --out DIR

A sheet of held-out samples per task, with ground truth, answer and its probability, and the heatmap for gaze (paper
appendix C): OUT/gesture.png, OUT/gaze.png, ... Samples are spread evenly over the split, not selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from rich.console import Console

from sf_ros.core import views
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.core.gaze import decode
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer
from sf_ros.io.draw import FONT, Color
from training import train
from training.data.sample import Sample
from training.data.source import open_source
from training.evaluation import metrics
from training.evaluation.answers import answerer
from training.evaluation.score import read
from training.studies.grid.arguments import SPLITS
from training.trainer.validation import Spread

VIEW_SIZE = {"frame": (420, 315), "person": (300, 300), "face": (240, 240)}  # view -> width, height in a sheet, px
TEXT_PX, PAD_PX, TITLE_PX = 50, 8, 40
LINE_PX, FONT_SCALE = 19, 0.5
RIGHT: Color = (60, 190, 140)  # colours after Okabe and Ito 2008, distinct for colour-blind people
WRONG: Color = (225, 105, 55)
TRUTH: Color = (60, 230, 150)
ANSWERED: Color = (255, 90, 200)
BOXES: tuple[Color, ...] = ((86, 180, 233), (240, 170, 40))  # first and second marked box
BACKGROUND, INK = (24, 24, 28), (235, 235, 235)
HEAT = 0.6  # opacity of the heatmap at its peak
NEAR = 0.1  # a gaze point within this distance of an annotation counts as right, in shares of the image sides


@dataclass(frozen=True)
class Arguments:
    """Command line of the gallery."""

    model: Annotated[Path, tyro.conf.Positional]  # checkpoint folder or bundle folder
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder of the sheets
    split: str = "test"  # val | test
    samples: int = 12  # in a sheet
    columns: int = 4
    tasks: str | None = None  # comma-separated; None: all six


def run(arguments: Arguments) -> dict[str, Any]:
    """Draw every sheet; returns their files and the share of right answers on each."""
    known(arguments.split, SPLITS, "split")
    answer = answerer(arguments.model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sheets, shares = {}, {}
    for task in train.chosen(arguments.tasks):
        dataset = open_source(arguments.data).samples(task, arguments.split, count=arguments.samples)
        broken: list[str] = []
        samples = list(read(Spread(dataset, arguments.samples), broken))
        if not samples:
            raise ValueError(f"'{task}': none of {len(broken)} samples is readable, first: {broken[0]}")
        tiles = [tile(sample, answer(sample)) for sample in samples]
        verdicts = [right for _, right in tiles if right is not None]
        shares[task] = round(float(np.mean(verdicts)), 3) if verdicts else None
        title = f"{task.replace('_', ' ')}   {arguments.model.name} on {arguments.data}/{arguments.split}"
        good = "right" if TASKS[task].kind == "label" else f"within {NEAR:g} of the truth"
        title += f"   {sum(verdicts)} of {len(verdicts)} {good}" if verdicts else "   truth hidden"
        sheet = contact_sheet([image for image, _ in tiles], arguments.columns, title)
        sheets[task] = str(arguments.out / f"{task}.png")
        _, png = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        Path(sheets[task]).write_bytes(png.tobytes())  # cv2.imwrite tells nobody about a full disk
        Console(stderr=True).print(f"gallery: {sheets[task]}", highlight=False, markup=False, soft_wrap=True)
    return {"study": "gallery", "out": str(arguments.out), "sheets": sheets, "right": shares, "failed": {}}


def tile(sample: Sample, answer: Answer) -> tuple[np.ndarray, bool | None]:
    """The tile of a sample and its answer, RGB uint8, one size per task; and whether it is right, None if unknown."""
    spec = TASKS[sample.task]
    width, height = VIEW_SIZE[spec.view]
    canvas = np.full((height + TEXT_PX, width, 3), BACKGROUND, np.uint8)
    if spec.view == "frame":
        scale = min(width / sample.image.shape[1], height / sample.image.shape[0])
        size = round(sample.image.shape[1] * scale), round(sample.image.shape[0] * scale)
        image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
        boxes = [Box(*(v * scale for v in box.as_tuple())) for box in sample.boxes]
    else:
        image, boxes = views.view(sample.image, spec, sample.boxes, width).copy(), []
    if answer.heatmap is not None:
        lines, right = draw_gaze(image, boxes, sample, answer.heatmap)
    else:
        lines, right = label_lines(sample, answer)
    for box, color in zip(boxes, BOXES, strict=False):
        outlined_box(image, box, color)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    color = INK if right is None else RIGHT if right else WRONG
    canvas[height : height + 4] = color
    for number, line in enumerate(lines):
        origin = PAD_PX // 2, height + 4 + (number + 1) * LINE_PX
        write(canvas, line, origin, color if number else INK)
    return canvas, right


def label_lines(sample: Sample, answer: Answer) -> tuple[list[str], bool | None]:
    """Lines with the ground truth and the most probable label, and whether they agree, None if unknown."""
    assert answer.probabilities is not None
    labels, best = TASKS[sample.task].labels, int(answer.probabilities.argmax())
    answered = f"answer {words(labels[best])} {answer.probabilities[best]:.2f}"
    if sample.label is None:
        return ["truth hidden", answered], None
    truth = f"truth {words(labels[sample.label])}"
    if best != sample.label:
        truth += f" {answer.probabilities[sample.label]:.2f}"
    return [truth, answered], best == sample.label


def draw_gaze(
    image: np.ndarray, boxes: Sequence[Box], sample: Sample, heatmap: np.ndarray
) -> tuple[list[str], bool | None]:
    """Tint an image with the heatmap and mark annotations and answer, in place; returns lines and verdict."""
    height, width = image.shape[:2]
    cells = heatmap.astype(np.float32) / max(float(heatmap.max()), 1e-9)
    heat = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    tint = cv2.cvtColor(cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    alpha = HEAT * heat[..., None]
    image[:] = (image * (1 - alpha) + tint * alpha).astype(np.uint8)
    point, peak = decode(heatmap)
    answered = pixel(point, image)
    if boxes:
        x, y = boxes[0].center
        cv2.line(image, (round(x), round(y)), answered, ANSWERED, 1, cv2.LINE_AA)
    for thickness, color in ((6, (0, 0, 0)), (2, ANSWERED)):
        cv2.drawMarker(image, answered, color, cv2.MARKER_TILTED_CROSS, 18, thickness, cv2.LINE_AA)
    for truth in sample.points_norm:
        for radius, color in ((6, (0, 0, 0)), (4, TRUTH)):
            cv2.circle(image, pixel(truth, image), radius, color, -1, cv2.LINE_AA)
    confidence = f"peak {peak:.2f}"
    if not sample.points_norm:
        return ["truth hidden", confidence], None
    distance = metrics.gaze_distances(heatmap, np.array(sample.points_norm))["min_L2"]
    return ["dot: truth   cross: answer", f"off by {distance:.3f}   {confidence}"], distance <= NEAR


def contact_sheet(tiles: Sequence[np.ndarray], columns: int, title: str) -> np.ndarray:
    """Tiles of one size (H, W, 3), row by row below a title."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = TITLE_PX + rows * (height + PAD_PX) + PAD_PX, columns * (width + PAD_PX) + PAD_PX
    sheet = np.full((*size, 3), BACKGROUND, np.uint8)
    write(sheet, title, (PAD_PX, TITLE_PX - 12), INK, 0.62)
    for number, image in enumerate(tiles):
        row, column = divmod(number, columns)
        y, x = TITLE_PX + PAD_PX + row * (height + PAD_PX), PAD_PX + column * (width + PAD_PX)
        sheet[y : y + height, x : x + width] = image
    return sheet


def words(label: str) -> str:
    """A label without its group, with spaces."""
    return label.rsplit("/", 1)[-1].replace("_", " ")


def pixel(point_norm: tuple[float, float], image: np.ndarray) -> tuple[int, int]:
    """A point in 0..1 as a pixel inside the image."""
    height, width = image.shape[:2]
    x, y = np.clip(np.multiply(point_norm, [width, height]), 0, [width - 1, height - 1]).round().astype(int).tolist()
    return x, y


def outlined_box(image: np.ndarray, box: Box, color: Color) -> None:
    """Draw a box with a dark outline, visible on any background."""
    corners = (round(box.x1), round(box.y1)), (round(box.x2), round(box.y2))
    for thickness, shade in ((4, (0, 0, 0)), (2, color)):
        cv2.rectangle(image, *corners, shade, thickness, cv2.LINE_AA)


def write(image: np.ndarray, text: str, origin: tuple[int, int], color: Color, scale: float = FONT_SCALE) -> None:
    """Write a line of text, scaled down to fit the image."""
    width = cv2.getTextSize(text, FONT, scale, 1)[0][0]
    scale *= min(1.0, (image.shape[1] - origin[0] - 2) / max(width, 1))
    cv2.putText(image, text, origin, FONT, scale, color, 1, cv2.LINE_AA)
