"""Pixels and rays are an inverse pair for every distortion model; geometry is refused without calibration."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.camera import CalibrationError, Camera

K = (525.0, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0)
LENSES = {
    "none": ("plumb_bob", ()),
    "plumb_bob": ("plumb_bob", (-0.35, 0.14, 0.001, -0.0008, -0.02)),
    "rational_polynomial": ("rational_polynomial", (0.4, -0.2, 0.0004, -0.0003, 0.05, 0.7, -0.1, 0.02)),
    "equidistant": ("equidistant", (-0.02, 0.005, -0.002, 0.0003)),
}
CORNERS = np.array([(0.0, 0.0), (639.0, 0.0), (320.0, 240.0), (17.5, 450.25), (639.0, 479.0)])


def camera(name: str = "none") -> Camera:
    model, distortion = LENSES[name]
    return Camera.from_info(640, 480, K, distortion, model, "lens")


@pytest.mark.parametrize("name", LENSES)
def test_a_pixels_ray_projects_back_to_the_pixel(name: str) -> None:
    rays = camera(name).rays(CORNERS)
    assert np.linalg.norm(rays, axis=1) == pytest.approx(1)
    assert camera(name).pixels(3.7 * rays) == pytest.approx(CORNERS, abs=1e-3)


def test_a_fisheyes_ray_projects_back_beyond_90_degrees() -> None:
    lens = Camera.from_info(
        640, 480, (200, 0, 320, 0, 200, 240, 0, 0, 1), LENSES["equidistant"][1], "equidistant", "lens"
    )
    edge = np.array([(2.0, 240.0), (0.0, 0.0)])
    rays = lens.rays(edge)
    assert (rays[:, 2] < 0).all()  # behind the camera's plane
    assert lens.pixels(2.0 * rays) == pytest.approx(edge, abs=1e-3)


def test_a_fisheye_without_coefficients_or_rectified() -> None:
    fisheye = Camera.from_info(640, 480, K, (0.0,) * 4, "equidistant", "lens")
    angle = np.radians(40)
    seen = fisheye.pixels(np.array([[np.sin(angle), 0, np.cos(angle)]]))[0]
    assert seen == pytest.approx([319.5 + 525 * angle, 239.5])
    rectified = Camera.from_info(640, 480, K, (), "equidistant", "lens")
    assert rectified.rays(CORNERS) == pytest.approx(camera().rays(CORNERS))


@pytest.mark.parametrize("given", [2, 3, 4, 5, 6, 8, 12])
def test_missing_coefficients_are_zero(given: int) -> None:
    short, full = ((0.1, -0.05, *(0.0,) * (length - 2)) for length in (given, 14))
    lenses = [Camera.from_info(640, 480, K, distortion, "plumb_bob", "lens") for distortion in (short, full)]
    assert lenses[0].rays(CORNERS) == pytest.approx(lenses[1].rays(CORNERS), abs=1e-9)


def test_more_coefficients_than_a_model_has_are_refused() -> None:
    with pytest.raises(CalibrationError, match="15 coefficients; 'plumb_bob' has 14 at most"):
        Camera.from_info(640, 480, K, (0.1,) * 15, "plumb_bob", "lens")


def test_the_centre_points_ahead_and_the_right_half_right() -> None:
    middle, right, below = camera().rays(np.array([(319.5, 239.5), (319.5 + 525, 239.5), (319.5, 239.5 + 520)]))
    assert middle == pytest.approx([0, 0, 1])
    assert right == pytest.approx(np.array([1, 0, 1]) / np.sqrt(2))
    assert below == pytest.approx(np.array([0, 1, 1]) / np.sqrt(2))


def test_a_resized_image_has_the_same_rays() -> None:
    small = camera("plumb_bob").scaled(320, 120)
    assert small.rays(CORNERS * [0.5, 0.25]) == pytest.approx(camera("plumb_bob").rays(CORNERS), abs=1e-9)


def test_a_region_keeps_the_rays_of_its_pixels() -> None:
    whole, pixels = camera("plumb_bob"), np.array([(200.0, 150.0), (300.0, 222.0)])
    assert whole.cropped(160, 120, 320, 240).rays(pixels - (160, 120)) == pytest.approx(whole.rays(pixels))
    assert whole.binned(2, 4).rays(pixels / (2, 4)) == pytest.approx(whole.rays(pixels))
    for region in ((400, 0, 320, 240), (0, 0, 0, 0), (-1, 0, 9, 9)):
        with pytest.raises(CalibrationError, match="not inside the image of 640x480"):
            whole.cropped(*region)
    with pytest.raises(CalibrationError, match="Binning"):
        whole.binned(641, 1)


def test_a_camera_fits_images_of_its_shape_only() -> None:
    assert camera().fitted(320, 240).matrix[0, 0] == 525 / 2
    assert camera().fitted(319, 240).width == 319  # rounded by a resizer
    for size in ((1280, 720), (480, 640), (320, 120)):
        with pytest.raises(CalibrationError, match=f"640x480, and the images are {size[0]}x{size[1]}"):
            camera().fitted(*size)


def test_rectification_turns_the_rays_into_the_frame() -> None:
    turned = Camera.from_info(640, 480, K, (), "plumb_bob", "lens", (0, 0, 1, 0, 1, 0, -1, 0, 0))
    assert turned.rays(np.array([(319.5, 239.5)]))[0] == pytest.approx([1, 0, 0])
    pixels = np.array([(100.0, 50.0)])
    assert turned.pixels(2 * turned.rays(pixels)) == pytest.approx(pixels)
    assert Camera.from_info(640, 480, K, (), "plumb_bob", "lens", (0.0,) * 9).rays(pixels) == pytest.approx(
        camera().rays(pixels)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": (0.0,) * 9}, "no calibration"),
        ({"k": ()}, "no calibration"),
        ({"k": K[:8]}, "8 numbers"),
        ({"k": (np.nan, *K[1:])}, "no calibration"),
        ({"k": (525.0, 0, 0, 0, 520, 0, 319.5, 239.5, 1)}, "form"),  # columns first
        ({"k": (1050.0, 0, 640, 0, 1040, 480, 0, 0, 1)}, "centre at 640,480, outside .* 640x480"),
        ({"k": (0.004, 0, 320, 0, 0.004, 240, 0, 0, 1)}, "0.004; expected pixels"),
        ({"width": 0}, "0x480"),
        ({"model": "omni", "d": (0.1,)}, "'omni'"),
        ({"d": (np.nan, 0, 0, 0, 0)}, "not finite"),
        ({"d": (-5.0, 0, 0, 0, 0)}, "cannot be undone"),
        ({"r": (2.0, 0, 0, 0, 2, 0, 0, 0, 2)}, "R of camera_info"),
        ({"r": (1.0, 0, 0)}, "R of camera_info"),
    ],
)
def test_geometry_is_refused_without_a_calibration(change: dict, words: str) -> None:
    fields = {"width": 640, "height": 480, "k": K, "d": (), "model": "plumb_bob", "frame_id": "lens"} | change
    with pytest.raises(CalibrationError, match=words):
        Camera.from_info(**fields)
