"""The report image of a calibration: corners, their errors and the model's uncertainty."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.camera.bundle_adjustment import uncertainty_px
from calibration.camera.fit import Fit, Residuals

LEVELS_PX = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # contours of the uncertainty map
MAP = (48, 36)  # columns and rows of the uncertainty map
MAX_BARS = 60  # views whose names still fit
BAR_LABELS_PT = 180  # width of the bar panel


def draw(residuals: Residuals, path: Path, title: str) -> None:
    """Write the report (PNG): corners over the uncertainty of a Fit, errors per view, and all errors together."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width, height = residuals.views[0].size
    figure = pyplot.figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplot_mosaic("IIB;IIE", width_ratios=(1, 1, 1))
    figure.suptitle(title)

    image = panels["I"]
    if isinstance(residuals, Fit):
        columns, rows = np.linspace(0, width - 1, MAP[0]), np.linspace(0, height - 1, MAP[1])
        grid = np.stack(np.meshgrid(columns, rows), axis=-1)
        spread = uncertainty_px(residuals.camera, residuals.covariance, grid.reshape(-1, 2)).reshape(grid.shape[:2])
        filled = image.contourf(columns, rows, spread, levels=LEVELS_PX, cmap="Greens", extend="both")
        figure.colorbar(filled, ax=image, shrink=0.7, label="uncertainty of the model, px", ticks=LEVELS_PX)
    corners, distances = np.concatenate([view.pixels for view in residuals.views]), _distances(residuals)
    dots = image.scatter(*corners.T, c=distances, s=5, cmap="autumn_r", vmin=0, vmax=np.quantile(distances, 0.99))
    figure.colorbar(dots, ax=image, shrink=0.7, label="error of a corner, px")
    image.set(xlim=(0, width), ylim=(height, 0), aspect="equal", title=f"corners of {len(residuals.views)} views")

    bars = panels["B"]
    bars.bar(range(len(residuals.views)), residuals.view_rms_px, color="tab:blue")
    bars.axhline(residuals.rms_px, color="black", linewidth=0.8)
    bars.set(title="error of each view", ylabel="RMS, px")
    if len(residuals.views) <= MAX_BARS:
        names = [view.name for view in residuals.views]
        bars.set_xticks(range(len(names)), names, rotation=90, fontsize=min(7, BAR_LABELS_PT / len(names)))

    errors, reach = panels["E"], max(float(np.quantile(distances, 0.995)), 0.05)
    errors.scatter(*np.concatenate(residuals.errors).T, s=3, alpha=0.4)
    errors.set(title="errors of all corners", xlabel="x, px", ylabel="y, px", aspect="equal")
    errors.set(xlim=(-reach, reach), ylim=(reach, -reach))
    errors.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _distances(residuals: Residuals) -> np.ndarray:
    return np.linalg.norm(np.concatenate(residuals.errors), axis=1)
