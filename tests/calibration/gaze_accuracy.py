"""Gaze in space on rendered scenes with depth, compared with the truth:

    python -m tests.calibration.gaze_accuracy [SCENES]

Answers are the demo bundle's, and the truth with noise. Boxes are the truth's with noise. The depth camera has a noise
of 1 % of the distance and loses 5 % of its pixels. Scenes are of the test split; people who look at the camera are left
out. Prints a line per kind of answer and, last, one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from sf_ros.core import gaze
from sf_ros.core.attention import pixel_of, resolve_gaze
from sf_ros.core.camera import Camera
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Gaze, Person, PersonCues
from sf_ros.engines.base import Query
from training.data.scenes.dataset import jitter_box
from training.data.scenes.painter import Painter
from training.data.scenes.person.drawing import draw_person
from training.data.scenes.render import Annotation, render
from training.data.scenes.scene import SceneState, sample_scene
from training.data.scenes.setting.objects import draw_object
from training.data.scenes.setting.rooms import draw_furniture

SCENES = 360
SPLIT, FOCUSES = "test", ("gaze", "any", "relation")
LOOKING_MIN = 0.5  # confidence of looking at the camera
NOISES = (0.02, 0.05)  # of the image's width and height, standard deviation
CELLS, SIGMA = 64, 3.0  # of heatmaps
DEPTH_NOISE, DEPTH_LOST = 0.01, 0.05
FAR_M = 20.0  # range of the depth camera
SURFACE_M = 0.3  # tolerance of depth for the right surface
# 68 and 95 % of Gaussians in two and three dimensions, as squares of standard deviations.
WITHIN_2D, WITHIN_3D = (2.28, 5.99), (3.51, 7.81)


@dataclass(frozen=True)
class Comparison:
    """One answer compared with the truth: distances in metres and pixels, squares of standard deviations.

    The first three fields are track ids of the person looked at.
    """

    target_in_image: int | None
    target_in_space: int | None
    true: int | None
    error_px: float = np.nan  # from here on: of targets in the image
    across_m: float = np.nan  # the same at the target's true distance
    error_m: float = np.nan
    depth_m: float = np.nan
    ray_squares: float = np.nan
    point_squares: float = np.nan


def depth_image(state: SceneState) -> np.ndarray:
    """The depth image (H, W) float32 of a scene, z in metres, NaN for the sky: floor, wall, every part at its depth."""
    camera, room = state.camera, state.room
    below = np.arange(camera.height)[:, None] + 0.5 - camera.center_px[1]
    floor = np.where(below > 0, camera.focal_px * room.camera_height / np.maximum(below, 1e-6), np.inf)
    wall = room.depth if room.kind in ("room", "hall") else np.inf
    depth = np.repeat(np.minimum(floor, wall), camera.width, axis=1).astype(np.float32)
    painter = Painter(camera)
    for piece in room.furniture:
        draw_furniture(painter, piece)
    for item in state.objects:
        draw_object(painter, item)
    for index, person in enumerate(state.people):
        draw_person(painter, person, index)
    for part in sorted(painter.primitives, key=lambda part: -part.depth):
        corners = np.clip(np.round(part.points_px), -1e5, 1e5).astype(np.int32)
        if part.line_px:
            cv2.polylines(depth, [corners], False, part.depth, max(1, round(part.line_px)))
        else:
            cv2.fillPoly(depth, [corners], part.depth)
    depth[~(depth < FAR_M)] = np.nan
    return depth


def measured(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The depth image with a camera's noise and losses."""
    noisy = depth * (1 + DEPTH_NOISE * rng.standard_normal(depth.shape))
    noisy[rng.random(depth.shape) < DEPTH_LOST] = np.nan
    return noisy.astype(np.float32)


def compare(
    state: SceneState,
    annotation: Annotation,
    people: list[Person],
    heatmaps: dict[int, np.ndarray],
    exact: np.ndarray,
    depth: np.ndarray,
) -> Iterator[Comparison]:
    """Comparisons for everybody who looks at something in the image; heatmaps by track id."""
    size, lens = (annotation.width, annotation.height), state.camera
    matrix = (lens.focal_px, 0, lens.center_px[0], 0, lens.focal_px, lens.center_px[1], 0, 0, 1)
    camera = Camera.from_info(*size, matrix, (), "plumb_bob", "camera")
    cues = []
    for person in people:
        heatmap = heatmaps.get(person.track_id)
        cues.append(PersonCues(person, {} if heatmap is None else {"gaze": Gaze(*gaze.decode(heatmap), heatmap)}))
    in_image = resolve_gaze(cues, size, None, None, LOOKING_MIN)
    in_space = resolve_gaze(cues, size, camera, depth, LOOKING_MIN)
    states = {person.track_id: person for person in state.people}
    shown = {person.track_id for person in annotation.people}
    for flat, solid, true in zip(in_image, in_space, annotation.people, strict=True):
        if flat.gaze is None or solid.gaze is None or true.gaze_point_norm is None:
            continue
        named = int(true.gaze_target.partition(":")[2]) if true.gaze_target.startswith("person:") else None
        targets = flat.gaze.target_id, solid.gaze.target_id, named if named in shown else None
        if true.gaze_target == "none":  # into the air: no surface
            yield Comparison(*targets)
            continue
        target = states[true.track_id].gaze_point
        pixel = np.multiply(true.gaze_point_norm, size)
        seen = exact[min(int(pixel[1]), size[1] - 1), min(int(pixel[0]), size[0] - 1)]
        if abs(seen - target[2]) < SURFACE_M:
            target = target * seen / target[2]
        space = solid.gaze_3d
        assert space is not None and space.ray is not None and space.ray_sigma_rad is not None
        error_px = float(np.linalg.norm(pixel_of(flat.gaze, size) - pixel))
        angle = np.arccos(np.clip(space.ray @ target / np.linalg.norm(target), -1, 1))
        error = np.full(3, np.nan) if space.target is None else space.target - target
        covariance = np.eye(3) if space.covariance is None else space.covariance
        yield Comparison(
            *targets,
            error_px=error_px,
            across_m=error_px * target[2] / lens.focal_px,
            error_m=float(np.linalg.norm(error)),
            depth_m=abs(error[2]),
            ray_squares=float((angle / space.ray_sigma_rad) ** 2),
            point_squares=float(error @ np.linalg.solve(covariance, error)),
        )


def figures(comparisons: list[Comparison]) -> dict[str, object]:
    """Medians, shares, and precision and recall of the person looked at."""
    aimed = [entry for entry in comparisons if np.isfinite(entry.error_px)]
    placed = [entry for entry in aimed if np.isfinite(entry.error_m)]
    right = [entry for entry in placed if entry.depth_m < SURFACE_M]
    result: dict[str, object] = {
        "answers": len(comparisons),
        "at_something": len(aimed),
        "error_px": _round(np.median([entry.error_px for entry in aimed])),
        "across_m": _round(np.median([entry.across_m for entry in aimed])),
        "error_m": _round(np.median([entry.error_m for entry in placed])),
        "placed": _round(len(placed) / len(aimed)),
        "right_surface": _round(len(right) / len(placed)),
        "error_m_right_surface": _round(np.median([entry.error_m for entry in right])),
        "ray_within_68_95": [_round(np.mean([entry.ray_squares < w for entry in aimed])) for w in WITHIN_2D],
        "point_within_68_95": [_round(np.mean([entry.point_squares < w for entry in placed])) for w in WITHIN_3D],
        "right_within_68_95": [_round(np.mean([entry.point_squares < w for entry in right])) for w in WITHIN_3D],
    }
    true = sum(entry.true is not None for entry in comparisons)
    for name in ("target_in_image", "target_in_space"):
        pairs = [(getattr(entry, name), entry.true) for entry in comparisons if getattr(entry, name) is not None]
        hits = sum(a == b for a, b in pairs)
        result[name] = {"precision": _round(hits / max(len(pairs), 1)), "recall": _round(hits / max(true, 1))}
    return result | {"at_people": true}


def assess(
    number: int, state: SceneState, annotation: Annotation, people: list[Person], answers: dict[int, np.ndarray]
) -> dict[str, list[Comparison]]:
    """Comparisons by kind of answer: heatmaps by track id, and the truth with noise for the same people."""
    rng = np.random.default_rng([2026, 2, number])
    exact = depth_image(state)
    seen = measured(exact, rng)
    heatmaps = {"demo bundle": answers}
    points = {true.track_id: true.gaze_point_norm for true in annotation.people if true.gaze_point_norm}
    for noise in NOISES:
        moved = {i: np.clip(np.add(points[i], rng.normal(0, noise, 2)), 0, 1) for i in points if i in answers}
        sigma = max(SIGMA, noise * CELLS)
        heatmaps[f"truth + {noise}"] = {i: gaze.encode((p[0], p[1]), CELLS, sigma) for i, p in moved.items()}
    return {name: list(compare(state, annotation, people, maps, exact, seen)) for name, maps in heatmaps.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    from sf_ros.core import bundle
    from sf_ros.core.demo import demo_file
    from sf_ros.engines.fused.engine import load_engine

    engine = load_engine(bundle.load(demo_file("bundle")), RuntimeConfig())
    comparisons: dict[str, list[Comparison]] = defaultdict(list)
    count = int(arguments[0]) if arguments else SCENES
    for number in range(count):
        index, focus = divmod(number, len(FOCUSES))
        rng = np.random.default_rng([77, 1, focus, index])
        state = sample_scene(rng, SPLIT, FOCUSES[focus])
        image, annotation = render(state, rng)
        people = [
            Person(
                true.track_id, jitter_box(true.body, rng), 1.0, jitter_box(true.face, rng) if true.face else None, 1.0
            )
            for true in annotation.people
        ]
        queries = [Query("frame", (person.face,), ("gaze",), (person.track_id,)) for person in people if person.face]
        answers = zip(queries, engine.answer(image, queries), strict=True) if queries else ()
        maps = {query.ids[0]: heatmap for query, by_task in answers if (heatmap := by_task["gaze"].heatmap) is not None}
        for name, kind in assess(number, state, annotation, people, maps).items():
            comparisons[name] += kind
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {count}", end="", file=sys.stderr)
    results = {name: figures(kind) for name, kind in comparisons.items()}
    for name, result in results.items():
        print(name, *(f"{key} {value}" for key, value in result.items()), sep="  ")
    print(json.dumps({"scenes": count, "results": results}))
    return 0


def _round(value: float | np.floating) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    sys.exit(main())
