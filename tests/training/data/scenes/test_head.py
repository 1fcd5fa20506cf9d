"""Heads: eyes show the gaze, the mouth shows the expression, and the test split has assets of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from training.data.scenes.painter import Camera, Painter
from training.data.scenes.person.head import ASSETS, EXPRESSIONS, FaceAppearance, draw_head, sample_appearance

CAMERA = Camera(width=240, height=240, focal_px=520.0, center_px=(120.0, 120.0))
CENTER = np.array([0.0, 0.0, 1.6])
AT_CAMERA = np.array([0.0, 0.0, -1.0])
IRIS = (20.0, 60.0, 250.0)
SCLERA_MIN = 235


def turned(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    """Head to camera; positive yaw appearances image right, positive pitch appearances down."""
    y, p = np.radians([yaw_deg, pitch_deg])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return about_y @ about_x


def looking(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    return turned(yaw_deg, pitch_deg) @ AT_CAMERA


@pytest.fixture
def appearance() -> FaceAppearance:
    sampled = sample_appearance(np.random.default_rng(3), "train")
    plain = {"beard": "", "glasses": "", "hat": "", "blush": 0.0, "freckles": False}
    return replace(sampled, skin=(222.0, 172.0, 132.0), hair_style="short", iris_color=IRIS, **plain)


def draw(appearance, gaze=AT_CAMERA, expression="neutral", rotation=None, seed=5, **options) -> np.ndarray:
    painter = Painter(CAMERA)
    rng = None if seed is None else np.random.default_rng(seed)
    rotation = np.eye(3) if rotation is None else rotation
    draw_head(painter, CENTER, rotation, gaze, expression, 1.0, appearance, rng, **options)
    image = np.full((CAMERA.height, CAMERA.width, 3), 128, np.uint8)
    painter.paint(image)
    return image


def iris_middle(image: np.ndarray, end_column: int) -> np.ndarray:
    """Mean position (x, y) of iris-blue pixels left of a column: of the left eye in the draw."""
    rgb = image[:, :end_column].astype(int)
    rows, columns = np.nonzero((rgb[..., 2] > 150) & (rgb[..., 2] - rgb[..., 0] > 100))
    assert len(rows) > 4
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("yaw", [0, 45, -45])
def test_every_pair_of_expressions_differs_in_many_pixels(appearance, yaw):
    images = {name: draw(appearance, expression=name, rotation=turned(yaw)).astype(int) for name in EXPRESSIONS}
    for a, b in combinations(EXPRESSIONS, 2):
        changed = (np.abs(images[a] - images[b]).sum(axis=2) > 60).sum()
        assert changed > 40, (a, b)


def test_the_seed_determines_the_head(appearance):
    assert np.array_equal(draw(appearance, seed=1), draw(appearance, seed=1))
    assert np.array_equal(draw(appearance, seed=None), draw(appearance, seed=None))
    assert not np.array_equal(draw(appearance, seed=1), draw(appearance, seed=2))


@pytest.mark.parametrize("head_yaw", [0, 25])
def test_the_iris_moves_towards_the_gaze(appearance, head_yaw):
    head = turned(head_yaw)
    nose = CAMERA.project((CENTER - 0.1 * head[:, 2])[None])[0]
    ahead, right, left, up, down = (
        iris_middle(draw(appearance, head @ looking(yaw, pitch), rotation=head), int(nose[0]))
        for yaw, pitch in ((0, 0), (12, 0), (-12, 0), (0, -12), (0, 12))
    )
    assert right[0] > ahead[0] + 1 and left[0] < ahead[0] - 1
    assert up[1] < ahead[1] - 0.5 and down[1] > ahead[1] + 0.5


def test_the_eyes_stop_at_their_limits(appearance):
    assert np.array_equal(draw(appearance, looking(35.0)), draw(appearance, looking(60.0)))
    assert not np.array_equal(draw(appearance, looking(35.0)), draw(appearance, looking(25.0)))


def test_hidden_eyes_do_not_reveal_the_gaze(appearance):
    hidden = frozenset({"eyes"})
    reference = draw(appearance, looking(30.0), hide=hidden)
    assert np.array_equal(reference, draw(appearance, looking(-20.0, 20.0), hide=hidden))
    assert not np.array_equal(reference, draw(appearance, looking(30.0)))


@pytest.mark.parametrize("expression", EXPRESSIONS[1:])
def test_a_hidden_mouth_does_not_reveal_the_expression(appearance, expression):
    hidden = frozenset({"mouth"})
    assert np.array_equal(draw(appearance, hide=hidden), draw(appearance, expression=expression, hide=hidden))
    assert not np.array_equal(draw(appearance), draw(appearance, expression=expression))


def test_hiding_brows_changes_only_the_brows(appearance):
    changed = np.nonzero((draw(appearance) != draw(appearance, hide=frozenset({"brows"}))).any(axis=2))
    assert len(changed[0]) > 20
    assert changed[0].max() < 120  # above the middle of the head


def test_closed_eyes_show_no_iris(appearance):
    closed = draw(appearance, looking(20.0), blink=1.0)
    assert not ((closed[..., 2].astype(int) - closed[..., 0]) > 100).any()
    assert np.array_equal(closed, draw(appearance, looking(-20.0), blink=1.0))


@pytest.mark.parametrize("yaw", [120, 180, -135])
def test_the_back_of_the_head_shows_no_face(appearance, yaw):
    back = turned(yaw)
    image = draw(appearance, back @ AT_CAMERA, "happiness", back)
    assert np.array_equal(image, draw(appearance, back @ looking(20), "anger", back))
    assert not (image > SCLERA_MIN).all(axis=2).any()
    assert (draw(appearance) > SCLERA_MIN).all(axis=2).any()


@pytest.mark.parametrize(
    "field", ["skins", "hair_styles", "hair_colors", "iris_colors", "glasses", "hats", "hat_colors"]
)
def test_train_and_test_splits_share_no_face_asset(field):
    test = set(getattr(ASSETS["test"], field))
    assert test and test.isdisjoint(getattr(ASSETS["train"], field))
    assert test.isdisjoint(getattr(ASSETS["val"], field))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("age", ["child", "adult", "elder"])
def test_appearances_fit_their_split_and_age(split, age):
    rng, pool = np.random.default_rng(0), ASSETS[split]
    appearances = [sample_appearance(rng, split, age) for _ in range(60)]
    for one in appearances:
        assert one.skin in pool.skins and one.hair_style in pool.hair_styles and one.iris_color in pool.iris_colors
        assert one.glasses in ("", *pool.glasses) and one.hat in ("", *pool.hats)
        assert one.age == age and not (age == "child" and one.beard)
    assert len({one.skin for one in appearances}) > 3


def test_every_asset_can_be_drawn_from_all_sides(appearance):
    for pool in (ASSETS["train"], ASSETS["test"]):
        for index, style in enumerate(pool.hair_styles):
            glasses, hat = pool.glasses[index % 2], ("", *pool.hats)[index % (len(pool.hats) + 1)]
            for yaw in (0, 60, 120, 180):
                dressed = replace(appearance, hair_style=style, glasses=glasses, hat=hat, age="elder", freckles=True)
                assert (draw(dressed, rotation=turned(yaw)) != 128).any(axis=2).sum() > 2000


@pytest.mark.parametrize("yaw", [0, 50, 180])
def test_the_face_outline_surrounds_the_center(appearance, yaw):
    outline = draw_head(Painter(CAMERA), CENTER, turned(yaw), AT_CAMERA, "neutral", 1.0, appearance)
    assert outline.shape[1] == 3
    pixels = CAMERA.project(outline)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    assert (low < 120).all() and (high > 120).all()
    height_px = 0.22 * CAMERA.focal_px / CENTER[2]
    assert 0.8 * height_px < high[1] - low[1] < 1.15 * height_px


def test_a_childs_head_is_smaller(appearance):
    full, small = (
        draw_head(Painter(CAMERA), CENTER, np.eye(3), AT_CAMERA, "neutral", 1.0, appearance, scale=scale)
        for scale in (1.0, 0.85)
    )
    assert np.allclose((small - CENTER) / 0.85, full - CENTER)


def test_unknown_names_are_refused(appearance):
    with pytest.raises(ValueError, match="joy"):
        draw(appearance, expression="joy")
    with pytest.raises(ValueError, match="nose"):
        draw(appearance, hide=frozenset({"nose"}))
    with pytest.raises(ValueError, match="dev"):
        sample_appearance(np.random.default_rng(0), "dev")
    with pytest.raises(ValueError, match="teen"):
        sample_appearance(np.random.default_rng(0), "train", "teen")
