"""FrameCues drawn into an image: boxes, names, cues with confidence and age, gaze, relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sf_ros.core.attention import looks_at_camera
from sf_ros.core.cues import tasks_of
from sf_ros.core.types import Box, FrameCues, Gaze, Label, PairCues, PersonCues

Color = tuple[int, int, int]  # RGB, as the image
Point = tuple[int, int]

TRACK_COLORS: tuple[Color, ...] = (
    (86, 180, 233),  # after Okabe and Ito 2008: distinguishable by colour-blind people
    (240, 170, 40),
    (60, 190, 140),
    (235, 130, 190),
    (240, 228, 90),
    (225, 105, 55),
    (150, 140, 245),
    (190, 215, 120),
)
LOOKING_COLOR: Color = (70, 220, 90)
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)
GREY: Color = (165, 165, 165)
FONT = cv2.FONT_HERSHEY_SIMPLEX
HEAT = 0.65  # opacity of the track's colour at the heatmap's peak
FRESH_S = 0.3  # older cues show their age and fade
EVENT_CAPTIONS = {"looking_at_me": "looks at you"}  # task -> what its event is called; otherwise the task's name
STALE_S = 1.5  # the age at which fading ends


@dataclass(frozen=True)
class _Row:
    """One line of a label: text, how full its bar is (0..1), how fresh it is (0..1)."""

    text: str
    bar: float
    fresh: float
    color: Color
    solid: bool = False  # a badge: filled, dark text


@dataclass(frozen=True)
class _Style:
    """Sizes for one image, in pixels."""

    scale: float
    font: float
    line: int
    row: int
    pad: int

    @staticmethod
    def of(width: int, height: int) -> _Style:
        scale = min(max(min(width / 640, height / 480), 0.7), 4.0)
        return _Style(scale, 0.42 * scale, max(round(scale), 1), round(16 * scale), max(round(4 * scale), 2))

    def text_width(self, text: str) -> int:
        return int(cv2.getTextSize(text, FONT, self.font, self.line)[0][0])


def draw(image: np.ndarray, cues: FrameCues, *, names: bool = True) -> np.ndarray:
    """An annotated copy of an RGB uint8 image (H, W, 3) of the size in the cues.

    `names` adds 'p3' for track 3 above a person's cues. Cues older than FRESH_S show their age in seconds and fade.
    """
    canvas: np.ndarray = np.array(image, order="C")
    style = _Style.of(canvas.shape[1], canvas.shape[0])
    shown = [cues_ for cues_ in cues.people if cues_.gaze and not looks_at_camera(cues_)]
    for person in shown:
        _heat(canvas, person.gaze, color_of(person.person.track_id))
    for person in cues.people:
        color, face = color_of(person.person.track_id), person.person.face
        _box(canvas, person.person.body, color, style.line)
        if face is not None:
            tone = LOOKING_COLOR if looks_at_camera(person) else color
            _box(canvas, face, BLACK, 2 * style.line + 2)  # an outline
            _box(canvas, face, tone, 2 * style.line)
    placed: list[Box] = [p.person.face for p in cues.people if p.person.face is not None]
    relations = _relations(canvas, cues, style)
    for person in shown:
        placed.append(_gaze(canvas, person, style))
    for person in sorted(cues.people, key=lambda p: p.person.body.x1):
        rows = _rows(person, names)
        if rows:
            _label(canvas, _beside(person, rows, style), rows, style, placed)
    for spots, row in relations:
        _label(canvas, spots, [row], style, placed)
    return canvas


def color_of(track_id: int) -> Color:
    """The colour of a track, stable through the stream."""
    return TRACK_COLORS[track_id % len(TRACK_COLORS)]


def _fresh(age_s: float) -> float:
    """1 up to FRESH_S, falling to 0 at STALE_S."""
    return 1 - min(max((age_s - FRESH_S) / (STALE_S - FRESH_S), 0.0), 1.0)


def _text(label: Label) -> str:
    name = label.name.rsplit("/", 1)[-1].replace("_", " ")
    age = f"  {label.age_s:.1f}s" if label.age_s >= FRESH_S else ""
    return f"{name} {label.confidence:.2f}{age}"


def _rows(person: PersonCues, names: bool) -> list[_Row]:
    """The lines of a person's label: a badge per event label (yes), a row per other label."""
    color = color_of(person.person.track_id)
    rows = [_Row(f"p{person.person.track_id}", 1.0, 1.0, color, solid=True)] if names else []
    for task in tasks_of("person"):
        label = person.label(task.name)
        if label is None or not label.name:
            continue
        if not task.event:
            rows.append(_Row(_text(label), label.confidence, _fresh(label.age_s), color))
        elif label.name == task.event:
            caption = EVENT_CAPTIONS.get(task.name, task.name.replace("_", " "))
            badge = LOOKING_COLOR if task.name == "looking_at_me" else color
            text = _text(Label(caption, label.confidence, age_s=label.age_s))
            rows.append(_Row(text, label.confidence, _fresh(label.age_s), badge, solid=True))
    return rows


def _box(canvas: np.ndarray, box: Box, color: Color, thickness: int) -> None:
    cv2.rectangle(canvas, _point(box.x1, box.y1), _point(box.x2 - 1, box.y2 - 1), color, thickness)


def _heat(canvas: np.ndarray, gaze: Gaze | None, color: Color) -> None:
    """Tint the canvas where the heatmap is above 15 % of its peak; only that part is touched."""
    if gaze is None or gaze.heatmap is None or not gaze.heatmap.size or (peak := float(gaze.heatmap.max())) <= 0:
        return
    cells = np.asarray(gaze.heatmap, np.float32) / peak
    rows, columns = np.nonzero(cells > 0.15)
    height, width = canvas.shape[:2]
    y1, y2 = (int(v * height // cells.shape[0]) for v in (rows.min(), rows.max() + 1))
    x1, x2 = (int(v * width // cells.shape[1]) for v in (columns.min(), columns.max() + 1))
    if x2 <= x1 or y2 <= y1:
        return
    part = cells[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    alpha = cv2.resize(part, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    alpha = np.clip(alpha - 0.15, 0, HEAT) * (0.3 + 0.7 * _fresh(gaze.age_s))
    region = canvas[y1:y2, x1:x2]
    tint = np.empty_like(region)
    tint[:] = color
    region[:] = cv2.blendLinear(region, tint, 1 - alpha, alpha)


def _gaze(canvas: np.ndarray, person: PersonCues, style: _Style) -> Box:
    """Arrow from the face (or the body's top) to the gaze point, with a circle there; returns the circle's box."""
    assert person.gaze is not None
    gaze, body = person.gaze, person.person.body
    start = _point(*(person.person.face.center if person.person.face else (body.center[0], body.y1 + body.height / 8)))
    end = _point(gaze.point_norm[0] * canvas.shape[1], gaze.point_norm[1] * canvas.shape[0])
    color = _mix(GREY, color_of(person.person.track_id), _fresh(gaze.age_s))
    radius, thick = max(round(6 * style.scale), 4), style.line + 1
    away = np.subtract(start, end)
    length = float(np.hypot(*away))
    for tone, extra in ((BLACK, 2), (color, 0)):
        if length > 3 * radius:
            stop = _point(*(end + away * ((radius + thick) / length)))
            tip = min(12 * style.scale / length, 0.4)
            cv2.arrowedLine(canvas, start, stop, tone, thick + extra, cv2.LINE_AA, tipLength=tip)
    cv2.circle(canvas, end, radius + thick, BLACK, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(canvas, end, radius, color, thick, cv2.LINE_AA)
    cv2.circle(canvas, end, max(radius // 3, 1), color, cv2.FILLED, cv2.LINE_AA)
    room = 2 * radius
    return Box(end[0] - room, end[1] - room, end[0] + room, end[1] + room)


def _relations(canvas: np.ndarray, cues: FrameCues, style: _Style) -> list[tuple[list[Point], _Row]]:
    """Draw the lines between related people; returns their labels with candidate positions."""
    bodies = {person.person.track_id: person.person.body for person in cues.people}
    labels = []
    for pair in cues.pairs:
        label = _pair_label(pair)
        if label is None or not set(pair.track_ids) <= set(bodies):
            continue
        a, b = (bodies[track].center for track in pair.track_ids)
        color = _mix(GREY, WHITE, _fresh(label.age_s))
        for tone, extra in ((BLACK, 2), (color, 0)):
            cv2.line(canvas, _point(*a), _point(*b), tone, style.line + extra, cv2.LINE_AA)
            for end in (a, b):
                cv2.circle(canvas, _point(*end), round(3 * style.scale) + extra // 2, tone, cv2.FILLED, cv2.LINE_AA)
        row = _Row(_text(label), label.confidence, _fresh(label.age_s), GREY)
        width = style.text_width(row.text) + 2 * style.pad
        spots = [
            _point(a[0] + (b[0] - a[0]) * t - width / 2, a[1] + (b[1] - a[1]) * t + shift * style.row)
            for shift in (-0.5, -1.7, 0.7)
            for t in (0.5, 0.35, 0.65, 0.2, 0.8)
        ]
        labels.append((spots, row))
    return labels


def _pair_label(pair: PairCues) -> Label | None:
    """The label of the last task (the most specific one) that has one; None for 'none'."""
    for task in reversed(tasks_of("pair")):
        label = pair.label(task.name)
        if label is not None and label.name:
            return None if label.name.endswith("/none") else label
    return None


def _beside(person: PersonCues, rows: Sequence[_Row], style: _Style) -> list[Point]:
    """Candidate positions of a person's label, best first: beside the face, above, below, then along the body."""
    width = max(style.text_width(row.text) for row in rows) + 2 * style.pad
    height = len(rows) * style.row
    head, body, gap = person.person.face or person.person.body, person.person.body, style.pad
    top = head.y1 - gap
    positions = [
        (head.x2 + gap, top),
        (head.x1 - gap - width, top),
        (head.center[0] - width / 2, head.y1 - gap - height),
        (head.x1, head.y1 - gap - height),
        (head.x2 - width, head.y1 - gap - height),
        (head.center[0] - width / 2, head.y2 + gap),
        (head.center[0] - width / 2, head.y1 - 2 * (gap + height)),
        (body.x2 + gap, body.y1),
        (body.x1 - gap - width, body.y1),
        (body.x1, body.center[1]),
        (body.x1, body.y2 - height - gap),
    ]
    return [_point(*position) for position in positions]


def _label(canvas: np.ndarray, spots: Sequence[Point], rows: Sequence[_Row], style: _Style, placed: list[Box]) -> None:
    """Draw rows where they overlap `placed` least, preferring early spots, and add their box to `placed`."""
    width = max(style.text_width(row.text) for row in rows) + 2 * style.pad
    height = len(rows) * style.row
    room = max(canvas.shape[1] - width, 0), max(canvas.shape[0] - height, 0)
    boxes, costs = [], []
    for rank, (x, y) in enumerate(spots):
        inside = min(max(x, 0), room[0]), min(max(y, 0), room[1])
        box = Box(*inside, inside[0] + width, inside[1] + height)
        moved = abs(x - inside[0]) + abs(y - inside[1])
        boxes.append(box)
        costs.append(sum(box.intersection(other) for other in placed) + (0.01 * rank * box.area) + moved * style.row)
    best = boxes[int(np.argmin(costs))]
    placed.append(best)
    x1, y1 = _point(best.x1, best.y1)
    for index, row in enumerate(rows):
        _row(canvas, x1, y1 + index * style.row, row, style, width)


def _row(canvas: np.ndarray, x: int, y: int, row: _Row, style: _Style, width: int) -> None:
    """Draw one row: a dark plate with text and a confidence bar at its lower edge; a badge is as wide as its text."""
    color = _mix(GREY, row.color, row.fresh)
    own = style.text_width(row.text) + 2 * style.pad
    plate = canvas[y : y + style.row, x : x + (own if row.solid else width)]
    if not plate.size:  # below a small image
        return
    if row.solid:
        plate[:] = color
    else:
        plate[:] = cv2.convertScaleAbs(plate, alpha=0.3)
        bar = max(round(2 * style.scale), 1)
        plate[-bar:, : round(plate.shape[1] * min(max(row.bar, 0.0), 1.0))] = color
    origin = x + style.pad, y + round(0.72 * style.row)
    ink = BLACK if row.solid else _mix(GREY, WHITE, row.fresh)
    cv2.putText(canvas, row.text, origin, FONT, style.font, ink, style.line, cv2.LINE_AA)


def _mix(old: Color, new: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(old, new, strict=True))
    return red, green, blue


def _point(x: float, y: float) -> Point:
    return round(x), round(y)
