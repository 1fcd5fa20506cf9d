"""A calibration as a picture: where the corners were, how far off they are, how sure the model is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.camera.fit import Fit, Residuals
from calibration.camera.uncertainty import uncertainty_px

LEVELS_PX = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # of the uncertainty's map
MAP = (48, 36)  # its points, columns and rows
MAX_BARS = 60  # views whose names still fit
BAR_LABELS_PT = 180  # width of their panel, for the names' letters


def draw(found: Residuals, path: Path, title: str) -> None:
    """Write the picture (PNG): corners over the uncertainty of a Fit, errors per view, and all errors together."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width, height = found.views[0].size
    figure = pyplot.figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplot_mosaic("PPB;PPE", width_ratios=(1, 1, 1))
    figure.suptitle(title)

    picture = panels["P"]
    if isinstance(found, Fit):
        columns, rows = np.linspace(0, width - 1, MAP[0]), np.linspace(0, height - 1, MAP[1])
        grid = np.stack(np.meshgrid(columns, rows), axis=-1)
        spread = uncertainty_px(found.camera, found.covariance, grid.reshape(-1, 2)).reshape(grid.shape[:2])
        filled = picture.contourf(columns, rows, spread, levels=LEVELS_PX, cmap="Greens", extend="both")
        figure.colorbar(filled, ax=picture, shrink=0.7, label="uncertainty of the model, px", ticks=LEVELS_PX)
    corners, distances = np.concatenate([view.pixels for view in found.views]), _distances(found)
    dots = picture.scatter(*corners.T, c=distances, s=5, cmap="autumn_r", vmin=0, vmax=np.quantile(distances, 0.99))
    figure.colorbar(dots, ax=picture, shrink=0.7, label="error of a corner, px")
    picture.set(xlim=(0, width), ylim=(height, 0), aspect="equal", title=f"corners of {len(found.views)} views")

    bars = panels["B"]
    bars.bar(range(len(found.views)), found.view_rms_px, color="tab:blue")
    bars.axhline(found.rms_px, color="black", linewidth=0.8)
    bars.set(title="error of each view", ylabel="RMS, px")
    if len(found.views) <= MAX_BARS:
        names = [view.name for view in found.views]
        bars.set_xticks(range(len(names)), names, rotation=90, fontsize=min(7, BAR_LABELS_PT / len(names)))

    errors, reach = panels["E"], max(float(np.quantile(distances, 0.995)), 0.05)
    errors.scatter(*np.concatenate(found.errors).T, s=3, alpha=0.4)
    errors.set(title="errors of all corners", xlabel="x, px", ylabel="y, px", aspect="equal")
    errors.set(xlim=(-reach, reach), ylim=(reach, -reach))
    errors.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _distances(found: Residuals) -> np.ndarray:
    return np.linalg.norm(np.concatenate(found.errors), axis=1)
