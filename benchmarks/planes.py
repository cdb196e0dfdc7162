"""What further planes gain, and what it gains to call a projection a projection: figures of docs/planes.md.

    python benchmarks/planes.py --red-cells DATASET --out OUT [--every 1] [--planes 1,2,3,5,9]
    python benchmarks/planes.py --nuclei NUCLEI --out OUT [--every 1] [--planes 1,2,3,5]
    python benchmarks/planes.py --projections 20

DATASET: every fifth of the real red blood cells of each class; the known shapes made from them are taken
away, but the network of the shipped model has seen the cells. NUCLEI: those that ``generic`` was not trained
on. Projections are of simulated red blood cells.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibrate_generic import left_out
from known_shapes import without
from red_cell_kinds import scored
from train_red_blood_cell import split

from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.cells.training_cells import training_cell
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.evaluation.planes import in_planes
from napari_dispr.evaluation.summary import summary_table
from napari_dispr.models.interpolation import INTERPOLATION
from napari_dispr.models.library import load_model
from napari_dispr.models.sampling import as_method
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.synthesis.red_cell_crops import simulated_red_cell
from napari_dispr.synthesis.red_cells import KINDS
from napari_dispr.training.augmentation import unaugmented
from napari_dispr.training.known import projected

#: Seed of the simulated cells, apart from those trained with.
SEED = 8000


def held_out_red_cells(model: ShapeModel, folder: Path, every: int) -> tuple[ShapeModel, list[CellFile]]:
    """The cells, and the model without their known shapes."""
    cells = read_dataset(folder, part="train", need_objects=True)
    chosen = split(cells)[1][::every]
    model = without(model, cells, {cell.name for cell in chosen})
    training = {name: note for name, note in model.card.training.items() if name != "fingerprints"}
    return replace(model, card=model.card.model_copy(update={"training": training})), chosen


def left_out_nuclei(folder: Path, every: int) -> list[CellFile]:
    """Each once; those of the embryo with mended spacing."""
    stacks = left_out(folder)
    return [cell for name, own in stacks.items() if f"{name}, mended" not in stacks for cell in own][::every]


def compare_projections(model: ShapeModel, count: int, settings: PredictSettings) -> None:
    """Print scores of cells drawn from their silhouette, taken as a section and as a projection."""
    rows: dict[str, list[list[float]]] = {"section": [], "projection": []}
    for number in range(count):
        made = simulated_red_cell(list(KINDS)[number % len(KINDS)], np.random.default_rng((SEED, number)))
        cell = CellFile(f"cell {number}", made.mask, made.image, made.obj)
        sample = unaugmented(training_cell(cell.name, cell.mask, cell.image, made.obj))
        seen = projected(sample, np.random.default_rng((1, number)))
        crop = replace(cell.crop(number + 1), mask=seen.mask, image=seen.image)
        for kind, found in rows.items():
            crops = [replace(crop, picture=kind)]
            for event in iter_predict_crops(crops, model, settings, image_to_world=np.eye(3)):
                if isinstance(event, CellDone):
                    scores = scored(event.ensemble.members, seen.signed_distance > 0)
                    found.append([scores[name] for name in ("volume", "consensus", "energy")])
    section, projection = (np.array(found) for found in rows.values())
    gain = projection - section
    for name, values in (("section", section), ("projection", projection), ("gain", gain)):
        print(
            f"{name:12s} volume {np.median(values[:, 0]):.3f} (median), means {values.mean(axis=0).round(3)}"
        )
    print(f"standard errors of the gains {(gain.std(axis=0, ddof=1) / np.sqrt(count)).round(3)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--red-cells", type=Path, help="dataset of real red blood cells")
    parser.add_argument("--nuclei", type=Path, help="folder of real nuclei")
    parser.add_argument("--projections", type=int, help="number of simulated red blood cells")
    parser.add_argument("--model", help="name or file (red-blood-cell, or generic for nuclei)")
    parser.add_argument("--planes", default="1,2,3,5,9")
    parser.add_argument("--every", type=int, default=1, help="every nth of these cells (1: all)")
    parser.add_argument("--quality", default="fast")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model or ("generic" if options.nuclei else "red-blood-cell"))
    assert isinstance(model, ShapeModel)
    settings = PredictSettings(quality=options.quality)
    if options.projections:
        compare_projections(model, options.projections, settings)
        return
    if options.out is None or (options.nuclei is None) == (options.red_cells is None):
        parser.error("give --projections, or --out and either --red-cells or --nuclei")
    if options.nuclei:
        cells = left_out_nuclei(options.nuclei, options.every)
    else:
        model, cells = held_out_red_cells(model, options.red_cells, options.every)
    methods = {model.name: as_method(model, settings), INTERPOLATION.name: INTERPOLATION}
    compared = in_planes(methods, [int(count) for count in options.planes.split(",")])
    print(summary_table(evaluate(cells, compared, members=5, out=options.out, definitions="ours")))


if __name__ == "__main__":
    main()
