"""Simulated cells to train and test on."""

import numpy as np

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.synthesis.phantoms import phantom
from napari_dispr.synthesis.red_cell_crops import membrane_picture


def cell_of(kind: str, seed: int = 0) -> TrainingCell:
    rng = np.random.default_rng(seed)
    obj = phantom(kind, rng)
    return training_cell(kind, obj[32].astype(np.float32) / 255, membrane_picture(obj, rng), obj)


def phantom_file(kind, seed):
    rng = np.random.default_rng(seed)
    obj = phantom(kind, rng)
    return CellFile(f"{kind}{seed}", obj[32].astype(np.float32) / 255, membrane_picture(obj, rng), obj)


Z, Y, X = np.ogrid[:64, :64, :64]


def ball(radius, centre=(32, 31.5, 31.5)):
    return (Z - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (X - centre[2]) ** 2 < radius**2


def cell(name, radius=16, centre=(32, 31.5, 31.5)):
    obj = ball(radius, centre)
    mask = obj[32].astype(np.float32)
    return CellFile(name, mask, (0.2 + 0.6 * mask).astype(np.float32), obj.astype(np.uint8) * 255)
