"""A real cell that is left out of a model is unknown to its known shapes and to its regression of volumes."""

import importlib
from pathlib import Path

import numpy as np

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile
from napari_dispr.models.library import load_model

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def ball(number):
    z, y, x = np.indices(grid.SHAPE) - grid.IMAGED_PLANE
    radius = 10 + 0.5 * number
    obj = np.where(z**2 + y**2 + x**2 < radius**2, 255, 0).astype(np.uint8)
    mask = (obj[grid.IMAGED_PLANE] > 0).astype(np.float32)
    image = np.random.default_rng(number).random(mask.shape, np.float32) * mask
    return CellFile(f"A_{number}", mask, image, obj)


def test_cells_left_out(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    known, train = (importlib.import_module(name) for name in ("known_shapes", "train_red_blood_cell"))
    monkeypatch.setattr(train, "_simulated_to_regress", list)
    cells, model = [ball(number) for number in range(25)], load_model("red-blood-cell")
    fewer = known.without(model, cells, {"A_3", "A_9"})
    assert len(model.known.shapes) - len(fewer.known.shapes) == 2 * known.OF_REAL / 25
    assert fewer.card.volume == train.volume_of_all([c for c in cells if c.name not in ("A_3", "A_9")])
    assert len(fewer.card.volume.cells) == 23
