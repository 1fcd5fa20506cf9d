"""Frames are squashed, crops are padded and never stretched, and every box inside the image marks a patch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import MAX_BOXES, TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import PAD

SIZE = 48
FRAME_TASKS = [name for name, task in TASKS.items() if task.view == "frame"]
CROP_TASKS = [name for name, task in TASKS.items() if task.view != "frame"]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)


def extent(mask: np.ndarray) -> tuple[int, int]:
    """Width and height of the True region."""
    rows, columns = np.nonzero(mask)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (SIZE, SIZE), (7, 5), (1, 1)])
def test_every_view_is_a_square_uint8_copy(name: str, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    before = image.copy()
    view = views.view(image, TASKS[name], (Box.whole(image), Box.whole(image)), SIZE)
    assert view.shape == (SIZE, SIZE, 3) and view.dtype == np.uint8
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", FRAME_TASKS)
def test_a_frame_view_is_squashed_and_points_map_by_scale(name: str) -> None:
    image = np.zeros((60, 240, 3), np.uint8)
    image[15:30, 60:120] = 255  # x 1/4..1/2, y 1/4..1/2
    view = views.view(image, TASKS[name], (), SIZE)
    assert view[12:24, 12:24].min() == 255
    view[12:24, 12:24] = 0
    assert view.max() == 0


def test_all_frame_views_of_a_frame_are_equal() -> None:
    image = noise(60, 240)
    first, *others = (views.view(image, TASKS[name], (Box(1, 1, 9, 9),), SIZE) for name in FRAME_TASKS)
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("name", CROP_TASKS)
def test_a_crop_without_a_box_names_its_task(name: str) -> None:
    with pytest.raises(ValueError, match=f"view of '{name}' needs a box"):
        views.view(noise(9, 9), TASKS[name], (), SIZE)


@pytest.mark.parametrize("name", CROP_TASKS)
@pytest.mark.parametrize("box", [Box(100, 40, 130, 90), Box(20, 60, 90, 80), Box(15, 10, 75, 90)])
def test_a_crop_is_never_stretched(name: str, box: Box) -> None:
    image = np.zeros((160, 240, 3), np.uint8)
    region = views.square(box, TASKS[name])
    centre = [round(v) for v in region.center]
    cv2.circle(image, centre, round(region.width / 4), (255, 255, 255), -1)
    width, height = extent(views.view(image, TASKS[name], (box,), SIZE)[..., 0] > 128)
    assert abs(width - height) <= 1
    assert abs(width - SIZE / 2) <= 2  # a diameter of half the region


@pytest.mark.parametrize("name", CROP_TASKS)
@pytest.mark.parametrize("box", [Box(10, 20, 40, 110), Box(10, 20, 110, 40), Box(-5, -5, 3, 3)])
def test_a_crop_is_square_and_as_wide_as_its_box_or_wider(name: str, box: Box) -> None:
    region = views.square(box, TASKS[name])
    assert region.width == pytest.approx(region.height)
    assert region.center[0] == pytest.approx(box.center[0])
    assert region.x1 <= box.x1 and region.x2 >= box.x2 and region.y1 <= box.y1


def test_a_face_square_is_the_longer_side_with_a_margin() -> None:
    region = views.square(Box(100, 100, 120, 140), TASKS["expression"])  # longer side 40, margin 1.3: 52
    assert region.as_tuple() == pytest.approx((84, 94, 136, 146))


def test_the_upper_body_of_a_standing_person_ends_at_the_hip() -> None:
    region = views.square(Box(100, 50, 160, 250), TASKS["gesture"])  # 60 x 200: side 110, margin 1.06: 116.6
    assert region.as_tuple() == pytest.approx((71.7, 46.7, 188.3, 163.3))


def test_the_upper_body_of_a_wide_box_is_as_wide_as_the_box() -> None:
    region = views.square(Box(0, 0, 100, 100), TASKS["gesture"])  # 100 > 0.55 x 100
    assert region.as_tuple() == pytest.approx((-3, -3, 103, 103))


def test_outside_the_image_is_grey_and_inside_is_copied() -> None:
    image = noise(8, 10)
    crop = views.crop(image, Box(-2, -3, 6, 5), 8)
    assert (crop[:3] == PAD).all() and (crop[:, :2] == PAD).all()
    assert np.array_equal(crop[3:, 2:], image[:5, :6])


def test_a_crop_over_the_lower_right_corner_is_padded_there() -> None:
    image = noise(8, 10)
    crop = views.crop(image, Box(6, 4, 14, 12), 8)
    assert np.array_equal(crop[:4, :4], image[4:, 6:])
    assert (crop[4:] == PAD).all() and (crop[:, 4:] == PAD).all()


@pytest.mark.parametrize("box", [Box(-50, -50, -10, -10), Box(300, 10, 340, 50), Box(10, 500, 50, 540)])
def test_a_crop_outside_the_image_is_grey(box: Box) -> None:
    assert (views.crop(noise(160, 240), box, SIZE) == PAD).all()


def test_a_crop_smaller_than_a_pixel_is_that_pixel() -> None:
    image = noise(8, 10)
    assert (views.crop(image, Box(4.1, 5.1, 4.2, 5.2), 6) == image[5, 4]).all()


def test_a_crop_of_the_wanted_size_is_not_resampled() -> None:
    image = noise(100, 100)
    assert np.array_equal(
        views.crop(image, Box(10, 20, 10 + SIZE, 20 + SIZE), SIZE), image[20 : 20 + SIZE, 10 : 10 + SIZE]
    )


def test_shrinking_averages_areas() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2, ::2] = 200
    assert (views.resize(image, 2, 2) == 50).all()


@pytest.mark.parametrize(
    ("shape", "size", "blur"),
    [((576, 1152), 144, 0), ((1344, 2688), 336, 0)]  # areas of whole pixels
    + [((345, 601), 144, 0), ((480, 640), 144, 0), ((720, 1280), 336, 0), ((575, 1152), 144, 0)]  # in one step
    + [((720, 1280), 144, 4), ((1080, 1920), 144, 4), ((2160, 3840), 336, 4)],
)
def test_shrinking_in_steps_averages_nearly_the_same_areas(shape: tuple[int, int], size: int, blur: int) -> None:
    image = noise(*shape)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    one_step = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    resized = views.resize(image, size, size)
    assert np.abs(resized - one_step).max() < 3  # of 255: each step rounds
    assert abs(float(resized.mean() - one_step.mean())) < 0.5


def test_normalised_values_are_those_worked_out_by_hand() -> None:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1] = (255, 51, 102)  # 1.0, 0.2, 0.4
    encoder = EncoderConfig(mean=(0.5, 0.4, 0.2), std=(0.25, 0.5, 0.1))
    array = views.normalise(image, encoder)
    assert array.shape == (1, 3, 2, 2) and array.dtype == np.float32 and array.flags.c_contiguous
    assert array[0, :, 0, 1] == pytest.approx((2.0, -0.4, 2.0), abs=1e-5)
    assert array[0, :, 1, 0] == pytest.approx((-2.0, -0.8, -2.0), abs=1e-5)


def test_normalising_does_not_depend_on_the_batch() -> None:
    images = np.stack([noise(8, 8), noise(8, 8)[::-1]])
    together = views.normalise(images, EncoderConfig())
    assert np.array_equal(together[1], views.normalise(images[1:], EncoderConfig())[0])


def rows(*lines: str) -> np.ndarray:
    return np.array([[c == "#" for c in line] for line in lines]).reshape(-1)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [  # an image of 120 x 60, patches of 30 x 15
        ([Box(30, 15, 60, 30)], rows("....", ".#..", "....", "....")),
        ([Box(29, 14, 61, 31)], rows("###.", "###.", "###.", "....")),
        ([Box(0, 0, 120, 60)], rows("####", "####", "####", "####")),
        ([Box(70, 20, 71, 21)], rows("....", "..#.", "....", "....")),
        ([Box(59.5, 29.5, 60.5, 30.5)], rows("....", ".##.", ".##.", "....")),
        ([Box(-50, -50, 5, 5)], rows("#...", "....", "....", "....")),
        ([Box(110, 50, 500, 500)], rows("....", "....", "....", "...#")),
        ([Box(0, 0, 10, 60), Box(100, 0, 120, 10)], rows("#..#", "#...", "#...", "#...")),
        ([Box(0, 0, 40, 10), Box(20, 0, 70, 10)], rows("###.", "....", "....", "....")),
        ([Box(130, 10, 150, 20)], rows("....", "....", "....", "....")),
        ([Box(0, -20, 20, 0)], rows("....", "....", "....", "....")),
        ([], rows("....", "....", "....", "....")),
    ],
)
def test_a_box_marks_the_patches_it_intersects(boxes: list[Box], expected: np.ndarray) -> None:
    mask = views.box_mask(boxes, width=120, height=60, grid=4)
    assert mask.dtype == bool and mask.shape == (16,)
    assert np.array_equal(mask, expected)


def test_a_box_of_one_pixel_marks_a_patch_anywhere() -> None:
    for x in range(0, 97, 3):
        for y in range(0, 61, 3):
            mask = views.box_mask([Box(x, y, x + 1, y + 1)], 98, 62, 12).reshape(12, 12)
            assert mask[int((y + 0.5) / 62 * 12), int((x + 0.5) / 98 * 12)]
            assert mask.sum() <= 4


@pytest.mark.parametrize("width", [120, 480, 600, 720, 1080, 1920])
def test_a_box_ending_on_a_patch_edge_does_not_spill_over(width: int) -> None:
    for k in range(11):
        edge = width // 12
        mask = views.box_mask([Box(k * edge, 0, (k + 1) * edge, 10)], width, 120, 12).reshape(12, 12)
        assert np.flatnonzero(mask[0]).tolist() == [k]


@pytest.mark.parametrize("grid", [12, 24])
def test_marked_patches_cover_the_box_by_less_than_a_patch_more(grid: int) -> None:
    generator = np.random.default_rng(3)
    for _ in range(200):
        (x1, x2), (y1, y2) = np.sort(generator.uniform(0, 640, 2)), np.sort(generator.uniform(0, 480, 2))
        box = Box(x1, y1, x2 + 1, y2 + 1).clipped(640, 480)
        if box is None:
            continue
        r, c = np.nonzero(views.box_mask([box], 640, 480, grid).reshape(grid, grid))
        wide, high = 640 / grid, 480 / grid  # of a patch
        assert 0 <= box.x1 - c.min() * wide < wide and 0 <= (c.max() + 1) * wide - box.x2 < wide
        assert 0 <= box.y1 - r.min() * high < high and 0 <= (r.max() + 1) * high - box.y2 < high


def test_marked_patches_match_the_box_in_the_frame_view() -> None:
    image = np.zeros((60, 240, 3), np.uint8)
    box = Box(80, 15, 140, 30)
    image[15:30, 80:140] = 255
    shown = views.view(image, TASKS["gaze"], (), SIZE)[..., 0] > 0
    patches = shown.reshape(4, 12, 4, 12).any((1, 3)).reshape(-1)
    assert np.array_equal(patches, views.box_mask([box], 240, 60, 4))


def painted(height: int, width: int, subject: Box) -> np.ndarray:
    """A black image with the subject painted white."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = (round(v) for v in subject.as_tuple())
    image[y1:y2, x1:x2] = 255
    return image


def shown_height(image: np.ndarray, name: str, box: Box) -> float:
    """Height of the white region in the view, as a share of the view's."""
    return extent(views.view(image, TASKS[name], (box,), 144)[..., 0] > 128)[1] / 144


@pytest.mark.parametrize("name", ["expression", "looking_at_me"])
def test_a_face_is_as_large_in_a_dataset_crop_as_on_the_robot(name: str) -> None:
    # A dataset's image is cut tightly around the face and passed whole; the robot's face is a box in a frame.
    dataset = painted(200, 200, Box(40, 30, 160, 170))
    robot = painted(480, 640, Box(300 + 12, 100 + 9, 300 + 48, 100 + 51))
    a = shown_height(dataset, name, Box.whole(dataset))
    b = shown_height(robot, name, Box(300, 100, 360, 160))
    assert a == pytest.approx(b, abs=0.03)


@pytest.mark.parametrize(("height", "width"), [(800, 600), (600, 600), (600, 800)])
def test_a_head_is_as_large_in_a_gesture_image_as_on_the_robot(height: int, width: int) -> None:
    # A photograph that shows a person from head to hip, passed whole, against a box of the person from head to foot.
    # A head is 1/7.5 of a standing person.
    tall = min(height, width) / views.UPPER_BODY
    dataset = painted(height, width, Box(width / 2 - 30, 0, width / 2 + 30, tall / 7.5))
    robot = painted(480, 640, Box(300, 20, 340, 20 + 400 / 7.5))
    a = shown_height(dataset, "gesture", Box.whole(dataset))
    b = shown_height(robot, "gesture", Box(260, 20, 380, 420))
    assert a == pytest.approx(b, rel=0.35 if width > height else 0.1)


def test_coordinates_are_normalised_clipped_and_zero_without_a_box() -> None:
    coordinates = views.box_coordinates([Box(-20, 30, 100, 60)], 200, 120)
    assert coordinates.dtype == np.float32 and coordinates.shape == (MAX_BOXES, 4)
    assert coordinates.tolist() == [[0.0, 0.25, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]
    assert not views.box_coordinates([Box(300, 0, 400, 50)], 200, 120).any()  # outside


def test_more_boxes_than_a_view_may_mark_are_refused() -> None:
    with pytest.raises(ValueError, match="3 boxes; at most 2 can be marked"):
        views.box_coordinates([Box(0, 0, 9, 9)] * 3, 20, 20)
