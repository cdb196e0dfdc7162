"""Write into the card of a model the intervals of cells of which several planes are known.

    python benchmarks/calibrate_planes.py red-blood-cell --red-cells DATASET --simulated 60 --out MODEL
    python benchmarks/calibrate_planes.py generic --nuclei NUCLEI --out MODEL

DATASET holds the real red blood cells; each fifth is drawn without its own known shapes, but the network has
seen the cells. Simulated ones are of seeds that the model has not seen. Of NUCLEI (``real_nuclei.py``) those
are drawn that ``generic`` was not trained on, those of the embryo at both readings of its spacing. Each cell
is drawn several times, with random planes as real stacks have them. The coverage is that of cells left out of
the fit with all their versions.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from calibrate_generic import left_out
from known_shapes import without
from train_red_blood_cell import split

from napari_dispr.cells.cropping import Crop
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.cells.training_cells import training_cell
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.models.library import load_model
from napari_dispr.planes import mean_gap
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.intervals import LEVEL, calibrate_planes, read_interval
from napari_dispr.synthesis.red_cell_crops import simulated_red_cell
from napari_dispr.synthesis.red_cells import KINDS
from napari_dispr.training.augmentation import unaugmented
from napari_dispr.training.calibrate import measures_of, true_measures
from napari_dispr.training.known import further_planes

#: Seed of the simulated cells, apart from those trained with, and parts of the cross-validation of the fit.
SEED, PARTS = 3000, 10


@dataclass(frozen=True)
class Drawn:
    """The members of a cell with some planes, measured."""

    cell: str
    kind: str
    planes: int
    gap: float
    members: dict[str, np.ndarray]
    truth: dict[str, float]


def simulated(count: int) -> list[CellFile]:
    """Cells of all kinds in turn."""
    cells = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        cell = simulated_red_cell(kind, np.random.default_rng((SEED, number)))
        cells.append(CellFile(f"simulated {kind} {number}", cell.mask, cell.image, cell.obj))
    return cells


def with_planes(cells: Iterable[CellFile], versions: int, seed: int) -> Iterator[tuple[CellFile, Crop]]:
    """Each cell so often, with different planes."""
    for number, cell in enumerate(cells):
        assert cell.obj is not None
        sample = unaugmented(training_cell(cell.name, cell.mask, cell.image, cell.obj))
        for version in range(versions):
            planes = further_planes(sample, np.random.default_rng((seed, number, version)))
            if planes:
                yield cell, replace(cell.crop(1), planes=planes)


def drawn(model: ShapeModel, cells: list[CellFile], kind: str, options: argparse.Namespace) -> list[Drawn]:
    """The members of cells with random planes."""
    pairs = list(with_planes(cells, options.versions, options.seed))
    crops = [replace(crop, label=label) for label, (_, crop) in enumerate(pairs, start=1)]
    settings = PredictSettings(members=options.members, quality=options.quality)
    rows = []
    for event in iter_predict_crops(crops, model, settings, image_to_world=np.eye(3)):
        if isinstance(event, CellDone):
            cell, crop = pairs[event.label - 1]
            rows.append(
                Drawn(
                    cell.name,
                    kind,
                    1 + len(crop.planes),
                    mean_gap(crop.mask, crop.planes),
                    measures_of(list(event.ensemble.signed_distance)),
                    true_measures(cell),
                )
            )
            if len(rows) % 20 == 0:
                print(f"{model.name}: {len(rows)} of {len(crops)}", flush=True)
    return rows


def covered(rows: list[Drawn]) -> pd.DataFrame:
    """Whether the interval of each measure holds the truth, for cells left out of the fit."""
    names = sorted({row.cell for row in rows})
    part = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % PARTS, strict=True))
    found = []
    for number in range(PARTS):
        rest = [row for row in rows if part[row.cell] != number]
        fitted = calibrate_planes([r.gap for r in rest], [r.members for r in rest], [r.truth for r in rest])
        for row in rows:
            own = next((one.measures for one in fitted if row.gap <= one.gap), None)
            if part[row.cell] != number or own is None:
                continue
            for name, calibration in own.items():
                low, high = read_interval(row.members[name], calibration)
                ends = {"covered": low <= row.truth[name] <= high, "width": high / low}
                found.append(
                    {"kind": row.kind, "planes": row.planes, "gap": row.gap, "measure": name, **ends}
                )
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="name or file")
    parser.add_argument("--red-cells", type=Path, help="dataset of real red blood cells")
    parser.add_argument("--nuclei", type=Path, help="folder of real nuclei")
    parser.add_argument("--simulated", type=int, default=0, help="simulated red blood cells (0)")
    parser.add_argument("--versions", type=int, default=4, help="sets of planes of each cell (4)")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--seed", type=int, default=0, help="of the planes")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = load_model(options.model)
    assert isinstance(model, ShapeModel)
    rows = []
    if options.nuclei is not None:
        rows += drawn(model, [c for own in left_out(options.nuclei).values() for c in own], "real", options)
    if options.red_cells is not None:
        cells = read_dataset(options.red_cells, part="train", need_objects=True)
        for fold in range(5):
            own = split(cells, fold)[1]
            rows += drawn(without(model, cells, {cell.name for cell in own}), own, "real", options)
    rows += drawn(model, simulated(options.simulated), "simulated", options)
    fitted = calibrate_planes([r.gap for r in rows], [r.members for r in rows], [r.truth for r in rows])
    print(f"{len(rows)} ensembles; classes up to a gap of {', '.join(f'{one.gap:.2f}' for one in fitted)}")
    table = covered(rows)
    table["class"] = np.digitize(table["gap"], [one.gap for one in fitted[:-1]], right=True)
    table["planes"] = pd.cut(table["planes"], [1, 2, 3, 5, 10], labels=["2", "3", "4-5", "6-10"])
    print(f"coverage of the {LEVEL:.0%} interval, and upper / lower end at the median")
    for by in (["measure"], ["measure", "class"], ["measure", "planes"], ["measure", "kind"]):
        summary = table.groupby(by, observed=True).agg(
            cells=("covered", "size"), covered=("covered", "mean"), width=("width", "median")
        )
        print(summary.round(3).to_string(), end="\n\n")
    card = model.card.model_copy(update={"plane_intervals": fitted})
    replace(model, card=card).save(options.out, torch.float16)


if __name__ == "__main__":
    main()
