"""Predictions of balls, whose true measures are known."""

from functools import cache

import numpy as np
import pandas as pd

from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.cells.cropping import crop_cell
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure
from napari_dispr.shapes.ensemble import Ensemble

UP = np.indices(grid.SHAPE).transpose(1, 2, 3, 0) - [grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE]
DISTANCE = np.linalg.norm(UP, axis=-1)


CALIBRATION = Calibration(scores=tuple(np.linspace(-2.0, 2.0, 19).tolist()), floor=0.1, sd=0.05, members=2)


def ball(label, centre, radii, zoom=0.5, to_world=None):
    """Balls of ``radii`` voxels about a pixel (y, x)."""
    to_world = np.eye(3) if to_world is None else to_world
    affine = grid.pixel_to_world(to_world) @ grid.grid_to_pixel(zoom, centre)
    distance = np.stack([np.clip(radius - DISTANCE, -8, 8) for radius in radii]).astype(np.float32)
    return Ensemble(label, distance, affine, "micrometer", zoom)


def prediction_of(*ensembles, to_world=None, **more):
    to_world = np.eye(3) if to_world is None else to_world
    cells = {ensemble.label: ensemble for ensemble in ensembles}
    return Prediction(cells, image_to_world=to_world, unit="micrometer", **more)


def rotated(degrees, scale, translate):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c * scale, -s * scale, translate[0]], [s * scale, c * scale, translate[1]], [0, 0, 1]])


CENTRES = {2: (40.0, 50.0), 5: (90.0, 120.0)}


RADIUS = 18.0


FRAMES = {
    "plain": {},
    "scaled": {"scale": (0.1, 0.1), "units": ("micrometer", "micrometer")},
    "moved": {"scale": (0.25, 0.25), "translate": (-30, 12)},
    "turned": {"scale": (0.1, 0.1), "rotate": 35, "translate": (5, -3)},
    "sheared": {"scale": (0.5, 0.5), "shear": [0.2], "rotate": -70},
    "oblong pixels": {"scale": (0.1, 0.12)},
    "mirrored": {"affine": np.array([[0, 0.3, 7], [0.3, 0, -2], [0, 0, 1]])},
}


def discs() -> np.ndarray:
    """Two round cells."""
    labels = np.zeros((130, 170), np.uint16)
    y, x = np.indices(labels.shape)
    for label, (cy, cx) in CENTRES.items():
        labels[(y - cy) ** 2 + (x - cx) ** 2 < RADIUS**2] = label
    return labels


def balls(
    labels: np.ndarray, to_world: np.ndarray, cells: tuple[int, ...] = (2, 5), members: int = 2
) -> Prediction:
    """The truth of `discs` if they are sections of balls; each member a voxel smaller than the one before."""
    z, y, x = np.indices(grid.SHAPE)
    ensembles = {}
    for label in cells:
        crop = crop_cell(None, labels, label, zoom=1.2)
        middle = (grid.SIZE - 1) / 2
        radius = np.sqrt((z - grid.IMAGED_PLANE) ** 2 + (y - middle) ** 2 + (x - middle) ** 2)
        distance = np.stack([RADIUS * 1.2 - radius - member for member in range(members)])
        affine = grid.pixel_to_world(to_world) @ crop.grid_to_pixel
        ensembles[label] = Ensemble(label, distance.astype(np.float32), affine, "pixel", 1.2)
    return Prediction(
        ensembles, provenance={"model": "balls", "settings": {"seed": 3}}, image_to_world=to_world
    )


@cache
def table(cells: tuple[int, ...] = (2, 5)) -> pd.DataFrame:
    """Measures of `balls` in pixels: quicker than those of each frame, where these do not matter."""
    return measure(balls(discs(), np.eye(3), cells))
