"""Rooms and gardens: backgrounds and furniture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from training.data.scenes.painter import Camera, Painter, darker, lighter

Color = tuple[int, int, int]

# Walls, floors and furnishings of the test split never occur in train or val.
_TRAIN_WALLS = ("plain", "stripes", "dots", "panels")
_TEST_WALLS = ("checks", "bricks", "waves")
WALL_PATTERNS = {"train": _TRAIN_WALLS, "val": _TRAIN_WALLS, "test": _TEST_WALLS}
_TRAIN_KINDS = ("room", "room", "room", "garden")
_TEST_KINDS = ("hall", "hall", "hall", "beach")
ROOM_KINDS = {"train": _TRAIN_KINDS, "val": _TRAIN_KINDS, "test": _TEST_KINDS}
_TRAIN_COLORS = (
    (214, 205, 188),
    (178, 196, 205),
    (205, 186, 180),
    (190, 204, 176),
    (222, 214, 222),
    (150, 165, 178),
    (196, 178, 150),
)
_TEST_COLORS = ((230, 222, 196), (165, 186, 180), (188, 172, 192), (210, 196, 168), (142, 150, 142))
WALL_COLORS = {"train": _TRAIN_COLORS, "val": _TRAIN_COLORS, "test": _TEST_COLORS}
_TRAIN_FLOORS = ((150, 112, 78), (120, 118, 120), (172, 150, 120), (104, 84, 70))
_TEST_FLOORS = ((128, 96, 92), (150, 156, 150), (92, 98, 108))
FLOOR_COLORS = {"train": _TRAIN_FLOORS, "val": _TRAIN_FLOORS, "test": _TEST_FLOORS}
_TRAIN_WOODS = ((150, 104, 62), (196, 160, 116), (92, 70, 54))
_TEST_WOODS = ((120, 60, 44), (205, 205, 200), (70, 84, 92))
WOOD_COLORS = {"train": _TRAIN_WOODS, "val": _TRAIN_WOODS, "test": _TEST_WOODS}


@dataclass(frozen=True)
class Furniture:
    """A wooden box: `center` and `size` (3,) in camera metres; `kind` is 'table', 'counter' or 'desk'."""

    kind: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: Color

    @property
    def top(self) -> float:
        """Height of the upper face (camera y, metres)."""
        return self.center[1] - self.size[1] / 2


@dataclass(frozen=True)
class Room:
    """A background: 'room', 'garden', 'hall' or 'beach'. `seed` fixes its details; lengths in metres."""

    split: str
    kind: str
    wall: str
    wall_color: Color
    floor_color: Color
    camera_height: float
    depth: float
    seed: int
    furniture: tuple[Furniture, ...] = ()


def sample_room(rng: np.random.Generator, split: str) -> Room:
    """A random empty room of the split."""
    jitter = rng.integers(-12, 13, 6)
    wall = np.clip(np.array(WALL_COLORS[split][rng.integers(len(WALL_COLORS[split]))]) + jitter[:3], 0, 255)
    floor = np.clip(np.array(FLOOR_COLORS[split][rng.integers(len(FLOOR_COLORS[split]))]) + jitter[3:], 0, 255)
    return Room(
        split=split,
        kind=str(rng.choice(ROOM_KINDS[split])),
        wall=str(rng.choice(WALL_PATTERNS[split])),
        wall_color=tuple(int(c) for c in wall),
        floor_color=tuple(int(c) for c in floor),
        camera_height=float(rng.uniform(1.2, 1.5)),
        depth=float(rng.uniform(3.6, 6.0)),
        seed=int(rng.integers(2**31)),
    )


def draw_background(room: Room, camera: Camera) -> np.ndarray:
    """The empty room as a new RGB image (H, W, 3) uint8; the same room gives the same image."""
    return _background(room, camera).copy()


@lru_cache(maxsize=2)
def _background(room: Room, camera: Camera) -> np.ndarray:
    rng = np.random.default_rng(room.seed)
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    horizon = camera.center_px[1] + camera.focal_px * room.camera_height / room.depth
    if room.kind in ("garden", "beach"):
        _outdoors(image, room, rng, camera)
    else:
        _wall(image, room, rng, int(horizon))
        _floor(image, room, rng, int(horizon), camera)
        _furnish(image, room, rng, int(horizon))
    return image


def draw_furniture(painter: Painter, item: Furniture) -> None:
    """Draw a box: the front, the lit top and the visible side."""
    (cx, cy, cz), (w, h, d) = item.center, item.size
    left, right, top, bottom, near, far = cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2, cz - d / 2, cz + d / 2
    bias = cz - near  # sorted by the front edge, in front of everything behind the box
    painter.polygon(
        [(left, top, near), (right, top, near), (right, bottom, near), (left, bottom, near)], item.color, outline=0.005
    )
    if top > 0:
        face = [(left, top, far), (right, top, far), (right, top, near), (left, top, near)]
        painter.polygon(face, lighter(item.color, 0.25), bias=bias - 0.01, outline=0.004)
    if left > 0 or right < 0:
        x = left if left > 0 else right
        side = [(x, top, far), (x, top, near), (x, bottom, near), (x, bottom, far)]
        painter.polygon(side, darker(item.color, 0.7), bias=bias - 0.01)
    if item.kind != "table":
        for share in (0.33, 0.66):
            x = left + share * w
            painter.line([(x, top, near), (x, bottom, near)], darker(item.color, 0.75), width=0.012, bias=0.002)


def _wall(image: np.ndarray, room: Room, rng: np.random.Generator, bottom: int) -> None:
    """Paint the back wall with its pattern, from the top of the image to row `bottom`."""
    width = image.shape[1]
    image[:bottom] = room.wall_color
    mark = tuple(int(c) for c in darker(room.wall_color, rng.uniform(0.82, 0.95)))
    if rng.random() < 0.4:
        mark = tuple(int(c) for c in lighter(room.wall_color, rng.uniform(0.2, 0.5)))
    step = int(rng.integers(26, 70))
    if room.wall == "stripes":
        for x in range(int(rng.integers(step)), width, step):
            image[:bottom, x : x + step // 2] = mark
    elif room.wall == "dots":
        for row, y in enumerate(range(step // 2, bottom, step)):
            for x in range((row % 2) * step // 2, width, step):
                cv2.circle(image[:bottom], (x, y), step // 6, mark, -1, cv2.LINE_AA)
    elif room.wall == "panels":
        for x in range(int(rng.integers(step)), width, 2 * step):
            cv2.rectangle(image[:bottom], (x, 20), (x + int(1.7 * step), bottom - 25), mark, 2)
    elif room.wall == "checks":
        for row, y in enumerate(range(0, bottom, step)):
            for x in range((row % 2) * step, width, 2 * step):
                image[y : min(y + step, bottom), x : x + step] = mark
    elif room.wall == "bricks":
        step = max(18, step // 2)
        for row, y in enumerate(range(0, bottom, step)):
            image[y : min(y + 2, bottom)] = mark
            for x in range((row % 2) * step, width, 2 * step):
                image[y : min(y + step, bottom), x : x + 2] = mark
    elif room.wall == "waves":
        xs = np.arange(0, width + 8, 8)
        for y in range(0, bottom + step, step):
            ys = y + 0.25 * step * np.sin(xs * 2 * np.pi / (3 * step))
            cv2.polylines(
                image[:bottom], [np.stack([xs, ys], 1).astype(np.int32)], False, mark, max(2, step // 8), cv2.LINE_AA
            )
    if rng.random() < 0.45:  # a darker side wall
        x = int(rng.uniform(0.06, 0.25) * width)
        side = np.array([(0, 0), (x, 0), (x, bottom), (0, bottom)])
        side[:, 0] = side[:, 0] if rng.random() < 0.5 else width - 1 - side[:, 0]
        cv2.fillPoly(image, [side.astype(np.int32)], darker(room.wall_color, 0.84))


def _floor(image: np.ndarray, room: Room, rng: np.random.Generator, top: int, camera: Camera) -> None:
    """Paint the floor from row `top` down, with planks (train), tiles (test) or a rug, and the skirting board."""
    height, width = image.shape[:2]
    image[top:] = room.floor_color
    seam = darker(room.floor_color, 0.8)
    vanish = np.array(camera.center_px)
    if rng.random() < 0.7:
        for x in range(-1200, width + 1200, 90 if room.kind == "room" else 130):
            share = (top - vanish[1]) / (height - vanish[1])
            start = vanish + (np.array([x, height]) - vanish) * share
            cv2.line(image, tuple(start.astype(int).tolist()), (x, height), seam, 1, cv2.LINE_AA)
    if room.kind == "hall":
        for depth in np.arange(1.4, room.depth, 0.6):
            y = int(vanish[1] + camera.focal_px * room.camera_height / depth)
            cv2.line(image, (0, y), (width, y), seam, 1)
    elif rng.random() < 0.4:
        center = (int(rng.uniform(0.2, 0.8) * width), min(height + 10, top + 60))
        cv2.ellipse(
            image, center, (int(rng.integers(120, 260)), 36), 0, 0, 360, _vivid_color(rng, room), -1, cv2.LINE_AA
        )
    cv2.rectangle(image, (0, top - 7), (width, top), lighter(room.wall_color, 0.5), -1)


def _vivid_color(rng: np.random.Generator, room: Room) -> Color:
    """A strong colour; the hue ranges of train and test alternate."""
    hue = rng.integers(0, 6) * 30 + (0 if room.split != "test" else 15) + rng.uniform(0, 12)
    pixel = np.uint8([[[int(hue) % 180, rng.integers(60, 160), rng.integers(90, 220)]]])
    return tuple(int(c) for c in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])


def _furnish(image: np.ndarray, room: Room, rng: np.random.Generator, bottom: int) -> None:
    """Paint windows, doors, shelves (train) or curtains, cupboards, boards (test) on the back wall."""
    width = image.shape[1]
    kinds = ("window", "door", "shelf") if room.kind == "room" else ("curtain", "cupboard", "board")
    woods = WOOD_COLORS[room.split]
    for slot in range(4):
        if rng.random() < 0.4:
            continue
        wood = woods[rng.integers(len(woods))]
        x, w = int((slot + rng.uniform(0, 0.35)) * width / 4), int(rng.uniform(70, 120))
        kind = str(rng.choice(kinds))
        if kind in ("door", "cupboard"):
            top = bottom - int(rng.uniform(190, 260)) if kind == "door" else bottom - int(rng.uniform(90, 190))
            cv2.rectangle(image, (x, top), (x + w, bottom), wood, -1)
            for inset in (0.1, 0.55) if kind == "door" else (0.08,):
                y = int(top + inset * (bottom - top))
                cv2.rectangle(image, (x + 10, y), (x + w - 10, y + int(0.35 * (bottom - top))), darker(wood, 0.8), 2)
            cv2.circle(image, (x + w - 12, (top + bottom) // 2), 4, (215, 190, 110), -1, cv2.LINE_AA)
        elif kind in ("window", "board"):
            top, h = int(rng.uniform(15, 60)), int(rng.uniform(80, 140))
            cv2.rectangle(image, (x, top), (x + w, top + h), (188, 214, 234) if kind == "window" else (62, 88, 76), -1)
            cv2.rectangle(image, (x, top), (x + w, top + h), wood, 5)
            if kind == "window":
                cv2.line(image, (x + w // 2, top), (x + w // 2, top + h), wood, 4)
                cv2.line(image, (x, top + h // 2), (x + w, top + h // 2), wood, 4)
        elif kind == "curtain":
            color = _vivid_color(rng, room)
            cv2.rectangle(image, (x, 0), (x + w // 2, bottom - 12), color, -1)
            for fold in range(x + 6, x + w // 2, 12):
                cv2.line(image, (fold, 0), (fold, bottom - 12), darker(color, 0.8), 3)
        else:
            y = int(rng.uniform(60, 200))
            cv2.rectangle(image, (x, y), (x + w, y + 8), wood, -1)
            for book in range(x + 4, x + w - 8, 11):
                tall = int(rng.uniform(18, 42))
                cv2.rectangle(image, (book, y - tall), (book + 8, y - 1), _vivid_color(rng, room), -1)


def _outdoors(image: np.ndarray, room: Room, rng: np.random.Generator, camera: Camera) -> None:
    """Paint sky and ground with a garden (train) or a beach (test)."""
    width = image.shape[1]
    horizon = int(camera.center_px[1] + rng.uniform(-5, 25))
    blend = np.linspace(0, 1, horizon)[:, None, None]
    low, high = ((225, 232, 236), (130, 175, 222)) if room.kind == "garden" else ((245, 224, 200), (120, 190, 205))
    image[:horizon] = ((1 - blend) * np.array(high) + blend * np.array(low)).astype(np.uint8)
    for _ in range(int(rng.integers(0, 4))):
        center = (int(rng.uniform(0, width)), int(rng.uniform(20, horizon * 0.6)))
        cv2.ellipse(
            image,
            center,
            (int(rng.uniform(40, 90)), int(rng.uniform(10, 22))),
            0,
            0,
            360,
            (246, 246, 248),
            -1,
            cv2.LINE_AA,
        )
    if room.kind == "garden":
        image[horizon:] = (112, 150, 84)
        for _ in range(int(rng.integers(1, 4))):
            x, w, h = int(rng.uniform(0, width)), int(rng.uniform(60, 130)), int(rng.uniform(50, 120))
            house = room.wall_color
            cv2.rectangle(image, (x, horizon - h), (x + w, horizon + 8), house, -1)
            roof = np.array([(x - 10, horizon - h), (x + w + 10, horizon - h), (x + w // 2, horizon - h - 45)])
            cv2.fillPoly(image, [roof], (160, 84, 70), cv2.LINE_AA)
            cv2.rectangle(image, (x + w // 3, horizon - h + 18), (x + w // 2, horizon - h + 40), (84, 100, 118), -1)
        for _ in range(int(rng.integers(2, 7))):
            x, size = int(rng.uniform(0, width)), int(rng.uniform(22, 55))
            cv2.rectangle(image, (x - 4, horizon - size), (x + 4, horizon + 12), (104, 78, 58), -1)
            green = (int(rng.uniform(60, 100)), int(rng.uniform(115, 150)), int(rng.uniform(55, 85)))
            cv2.circle(image, (x, horizon - size - size // 3), size, green, -1, cv2.LINE_AA)
    else:
        image[horizon : horizon + 45] = (84, 150, 178)
        image[horizon + 45 :] = (222, 204, 164)
        for _ in range(int(rng.integers(1, 4))):
            x, h = int(rng.uniform(0, width)), int(rng.uniform(30, 90))
            hill = np.array([(x - 2 * h, horizon), (x, horizon - h), (x + 2 * h, horizon)])
            cv2.fillPoly(image, [hill], (132, 146, 158), cv2.LINE_AA)
        for _ in range(int(rng.integers(0, 3))):
            x, y = int(rng.uniform(0, width)), horizon + int(rng.uniform(20, 80))
            cv2.line(image, (x, y), (x, y - 120), (235, 235, 230), 4)
            cv2.ellipse(image, (x, y - 110), (60, 34), 0, 180, 360, _vivid_color(rng, room), -1, cv2.LINE_AA)
