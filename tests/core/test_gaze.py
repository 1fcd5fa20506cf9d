"""Points and heatmaps are an inverse pair; the Gaussian is the reference's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sf_ros.core import gaze

SIZE, SIGMA = 64, 3.0


def test_the_gaussian_has_the_values_worked_out_by_hand() -> None:
    heatmap = gaze.encode((0.5, 0.25), SIZE, SIGMA)  # column 32, row 16
    assert heatmap.shape == (SIZE, SIZE) and heatmap.dtype == np.float32
    assert heatmap[16, 32] == 1
    assert heatmap[16, 35] == pytest.approx(math.exp(-0.5))  # one sigma
    assert heatmap[13, 35] == pytest.approx(math.exp(-1.0))  # one sigma both ways
    assert heatmap[16, 41] == pytest.approx(math.exp(-4.5))  # three sigma: the last cell
    assert heatmap[16, 42] == 0 and heatmap[16, 22] == 0 and heatmap[26, 32] == 0


def test_the_gaussian_fills_a_window_of_19_cells() -> None:
    heatmap = gaze.encode((0.5, 0.5), SIZE, SIGMA)
    rows, columns = np.nonzero(heatmap)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (23, 41, 23, 41)
    assert len(rows) == 19 * 19
    assert np.array_equal(heatmap, heatmap.T)


@pytest.mark.parametrize(
    ("point", "cell"), [((0, 0), (0, 0)), ((1, 1), (63, 63)), ((1 / 64, 0), (0, 1)), ((0.999, 0.0), (0, 63))]
)
def test_the_peak_is_the_cell_of_the_point_also_on_the_border(point: tuple, cell: tuple) -> None:
    heatmap = gaze.encode(point, SIZE, SIGMA)
    assert heatmap[cell] == 1 and np.count_nonzero(heatmap == 1) == 1


@pytest.mark.parametrize("point", [None, (-0.01, 0.5), (0.5, 1.01), (float("nan"), 0.5)])
def test_a_gaze_out_of_the_image_is_a_map_of_zeros(point: tuple | None) -> None:
    heatmap = gaze.encode(point, SIZE, SIGMA)
    assert heatmap.shape == (SIZE, SIZE) and heatmap.dtype == np.float32
    assert not heatmap.any()


@pytest.mark.parametrize("size", [5, 16, 64])
def test_decode_returns_the_encoded_point_within_half_a_cell(size: int) -> None:
    for x, y in np.random.default_rng(1).random((200, 2)):
        (decoded_x, decoded_y), value = gaze.decode(gaze.encode((x, y), size, SIGMA))
        assert abs(decoded_x - x) <= 0.5 / size + 1e-9
        assert abs(decoded_y - y) <= 0.5 / size + 1e-9
        assert value == 1


def test_encode_returns_the_decoded_map() -> None:
    heatmap = gaze.encode((0.3, 0.8), SIZE, SIGMA)
    assert np.array_equal(gaze.encode(gaze.decode(heatmap)[0], SIZE, SIGMA), heatmap)


def test_decode_reads_x_from_the_column_and_y_from_the_row() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 3] = 0.25
    assert gaze.decode(heatmap) == ((0.875, 0.375), 0.25)


def test_a_gaussians_spread_is_its_own_covariance() -> None:
    heatmap = gaze.encode((0.5, 0.25), SIZE, SIGMA)
    centre = gaze.decode(heatmap)[0]
    assert gaze.spread(heatmap, centre) * SIZE**2 == pytest.approx(SIGMA**2 * np.eye(2), rel=0.05, abs=1e-6)
    assert gaze.spread(0.01 + 0.4 * heatmap, centre) == pytest.approx(gaze.spread(heatmap, centre), rel=0.1)


def test_a_second_peak_widens_the_spread_towards_it() -> None:
    left, right = gaze.encode((0.25, 0.5), SIZE, SIGMA), gaze.encode((0.75, 0.5), SIZE, SIGMA)
    spread = gaze.spread(left + 0.5 * right, gaze.decode(left)[0])
    assert spread[0, 0] > 20 * spread[1, 1] and abs(spread[0, 1]) < spread[1, 1]


def test_a_single_cell_spreads_as_a_cell_does() -> None:
    heatmap = np.zeros((4, 8), np.float32)
    heatmap[1, 3] = 0.25
    assert gaze.spread(heatmap, gaze.decode(heatmap)[0]) == pytest.approx(np.diag([1 / 8**2, 1 / 4**2]) / 12)
