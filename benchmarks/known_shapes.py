"""Write known shapes, from which sampling starts, into a model file.

    python benchmarks/known_shapes.py red-blood-cell --red-cells DATASET --out MODEL
    python benchmarks/known_shapes.py generic --nuclei NUCLEI --out MODEL

DATASET holds the real red blood cells, NUCLEI the real nuclei (``real_nuclei.py``). Simulated cells join
them. For red blood cells the regression of volumes is fitted again, too. Afterwards ``calibrate.py`` or
``calibrate_generic.py`` fits the intervals again. To measure a model on real red blood cells that its known
shapes and its regression do not know, use `without` (``red_cell_kinds.py``).
"""

import argparse
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_nuclei import nuclei_to_train_on
from train_red_blood_cell import volume_of_all

from napari_dispr import grid
from napari_dispr.card import Quality
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.models.library import load_model
from napari_dispr.synthesis.bodies import oval
from napari_dispr.synthesis.generic import generic_training_cells, simulated_cell
from napari_dispr.synthesis.microscopy import picture
from napari_dispr.synthesis.red_cell_crops import membrane_picture, red_cell_volume
from napari_dispr.synthesis.red_cells import KINDS
from napari_dispr.training.known_shapes import known_shapes, versions

#: Share of the simulated red cells whose kinds are equally frequent; the others are as in the paper.
EVEN = 0.4
#: Heights of the real nuclei (see ``real_nuclei.HEIGHTS``): about as tall as wide. The network adds 8 %.
HEIGHTS = (-0.05, 0.4)
#: Share of the simulated cells of ``generic`` that are nearly ellipsoids, as most nuclei are.
OVALS = 2 / 3
#: Share of simulated red cells with a picture of another stain or microscope.
OTHER_PICTURES = 0.12
#: Versions of the real red blood cells, all cells in turn. They come before those of the simulated ones.
OF_REAL = 4500


def red_cells(count: int, seed: int) -> Iterator[TrainingCell]:
    """Simulated red blood cells, rare kinds more frequent than in the paper."""
    rng = np.random.default_rng((seed, 77))
    shares = np.array([share for _, share in KINDS.values()], np.float64)
    shares = (1 - EVEN) * shares / shares.sum() + EVEN / len(shares)
    for number in range(count):
        kind = str(rng.choice(list(KINDS), p=shares))
        obj, _ = red_cell_volume(kind, rng)
        image = picture(obj, rng) if rng.random() < OTHER_PICTURES else membrane_picture(obj, rng)
        mask = obj[grid.IMAGED_PLANE].astype(np.float32) / 255
        yield training_cell(f"{kind}-{seed}-{number:04d}", mask, image, obj)


def others(count: int, seed: int) -> Iterator[TrainingCell]:
    """Simulated cells of many kinds, most of them nearly ellipsoids, in random order."""
    kinds = generic_training_cells(count, seed)
    for number in range(count):
        rng = np.random.default_rng((seed, number, 78))
        if rng.random() < OVALS:
            obj, mask, image = simulated_cell(oval, rng)
            yield training_cell(f"oval-{seed}-{number:04d}", mask, image, obj)
        else:
            yield next(kinds)


def without(model: ShapeModel, cells: Sequence[CellFile], left_out: Collection[str]) -> ShapeModel:
    """A red blood cell model without the known shapes of some real cells, and its regression without them.

    Parameters
    ----------
    cells : sequence of CellFile
        All real cells from which the known shapes were made, in the order of their dataset.
    left_out : collection of str
        Names of those to take away.
    """
    known = model.known
    assert known is not None
    kept = [
        place
        for place in range(len(known.shapes))
        if place >= OF_REAL or cells[place % len(cells)].name not in left_out
    ]
    rows = ("shapes", "masks", "images", "has_image", "sized")
    volume = volume_of_all([cell for cell in cells if cell.name not in left_out])
    return replace(
        model,
        known=replace(known, **{name: getattr(known, name)[kept] for name in rows}),
        card=model.card.model_copy(update={"volume": volume}),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a name or a file")
    parser.add_argument("--red-cells", type=Path, help="dataset of real red blood cells")
    parser.add_argument("--nuclei", type=Path, help="folder of real nuclei")
    parser.add_argument("--simulated", type=int, help="simulated cells (5200 red cells, or 360 others)")
    parser.add_argument("--of-real", type=int, help="versions of the real cells (4500, or 1800)")
    parser.add_argument("--of-simulated", type=int, help="versions of the simulated cells (5200, or 1200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = load_model(options.model)
    if not isinstance(model, ShapeModel) or (options.red_cells is None) == (options.nuclei is None):
        parser.error("give a shape model, and either --red-cells or --nuclei")
    if options.nuclei is None:
        cells = read_dataset(options.red_cells, part="train", need_objects=True)
        real = [training_cell(c.name, c.mask, c.image, c.obj) for c in cells if c.obj is not None]
        made = list(red_cells(options.simulated or 5200, options.seed))
        counts = options.of_real or OF_REAL, options.of_simulated or 5200
    else:
        real = nuclei_to_train_on(options.nuclei, 400, options.seed, HEIGHTS)
        made = list(others(options.simulated or 360, options.seed))
        counts = options.of_real or 1800, options.of_simulated or 1200
    card = model.card
    drawn = [
        version
        for group, count, varied in zip((real, made), counts, (True, options.nuclei is not None), strict=True)
        for version in versions(
            group, count, card.truncation, card.typical_extent, options.seed, varied=varied
        )
    ]
    qualities = {
        name: Quality(sampler="euler", steps=steps) for name, steps in (("fast", 1), ("balanced", 2))
    }
    found: dict[str, Any] = {"qualities": qualities}
    if options.nuclei is None:
        found["volume"] = volume_of_all(cells)
    card = model.card.model_copy(update=found)
    replace(model, known=known_shapes(drawn), card=card).save(options.out, torch.float16)


if __name__ == "__main__":
    main()
