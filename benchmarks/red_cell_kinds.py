"""How well models draw simulated red blood cells of each kind, of which the truth is known.

    python benchmarks/red_cell_kinds.py --models red-blood-cell OLD.safetensors --of-each 8 --out DIR
    python benchmarks/red_cell_kinds.py --of-each 6 --out DIR --real DATASET --nuclei NUCLEI

The second command also prints the table of README, with all real red blood cells of DATASET and with every
fifth, each fifth drawn by a model whose known shapes and regression of volumes are without it, and with the
scores of ``generic`` on the nuclei left out (``calibrate_generic.py``).

The cells come from other seeds than those trained with, or with ``--other`` from a second source
(``other_red_cells.py``). DIR/red_cell_kinds.json holds the figures,
DIR/cells the cells, and DIR/MODEL/KIND-000.npz the members, to look at and to calibrate with; DIR/held_out
those of the real cells.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibrate_generic import left_out
from known_shapes import without
from numpy.typing import NDArray
from other_red_cells import other_red_cells
from scipy.ndimage import affine_transform
from train_red_blood_cell import COMMON, split

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE, box_centre
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.cells.novelty import at_extent
from napari_dispr.cells.training_cells import larger_side
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.files import write_json
from napari_dispr.models.fits import cylinder, ellipsoid
from napari_dispr.models.library import load_model, read_card
from napari_dispr.models.method import Method
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.scores import consensus_iou, energy_score
from napari_dispr.synthesis.red_cell_crops import VOXEL_SIZE, simulated_red_cell
from napari_dispr.synthesis.red_cells import KINDS

#: Trained with are cells number 0 and up of seed 0.
SEED = 1000


def simulated(of_each: int, seed: int) -> list[CellFile]:
    """So many cells of each kind."""
    cells = []
    for place, kind in enumerate(KINDS):
        for number in range(of_each):
            cell = simulated_red_cell(kind, np.random.default_rng((seed, place, number)))
            cells.append(CellFile(f"{kind}-{number:03d}", cell.mask, cell.image, cell.obj))
    return cells


def at_auto(cell: CellFile, extent: float) -> CellFile:
    """The cell at the scale "auto": its mask has the given extent, whatever its true size."""
    box = grid.box_of(cell.mask > INSIDE)
    assert box is not None
    zoom = extent / larger_side(cell.mask)
    middle = np.array([grid.IMAGED_PLANE, *box_centre(box)]) - np.array(grid.MIDDLE) / zoom
    obj = affine_transform(cell.known_object.astype(np.float32), np.eye(3) / zoom, middle, order=1)
    mask, image = at_extent(cell.mask, cell.image, extent)
    return CellFile(cell.name, mask, image, obj.astype(np.uint8))


def scored(members: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Relative error of the estimate of the volume, IoU of the consensus, and energy score."""
    volume = np.mean([np.count_nonzero(member) for member in members])
    return {
        "volume": abs(float(volume / np.count_nonzero(truth)) - 1),
        "bias": float(volume / np.count_nonzero(truth)) - 1,
        "consensus": float(consensus_iou(members, truth)),
        "energy": float(energy_score(members, truth)),
    }


def summarised(rows: list[dict[str, float]]) -> dict[str, float]:
    """Median error of the volume, means of the others."""
    table = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    table["volume_mean"] = table.pop("volume")
    return {"volume_median": float(np.median([row["volume"] for row in rows])), **table, "cells": len(rows)}


def drawn(
    model: ShapeModel | Method, cells: list[CellFile], quality: str, folder: Path, *, auto: bool = False
) -> dict[str, dict[str, float]]:
    """Draw cells into a folder, at their true size or at the scale "auto"; the scores of each."""
    folder.mkdir(parents=True, exist_ok=True)
    if auto:
        cells = [at_auto(cell, model.card.typical_extent) for cell in cells]
    crops = [cell.crop(label) for label, cell in enumerate(cells, start=1)]
    if auto:
        crops = [replace(crop, known_scale=None) for crop in crops]
    rows = {}
    for event in iter_predict_crops(crops, model, PredictSettings(quality=quality), image_to_world=np.eye(3)):
        if isinstance(event, CellDone):
            cell, ensemble = cells[event.label - 1], event.ensemble
            assert cell.obj is not None
            rows[cell.name] = scored(ensemble.members, cell.obj > 127)
            np.savez_compressed(
                folder / f"{cell.name}.npz", signed_distance=ensemble.signed_distance.astype(np.float16)
            )
    return rows


def fitted(cells: list[CellFile]) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of the fits of each cell."""
    fits = {"cylinder": cylinder, "ellipsoid": ellipsoid}
    return {
        name: {
            cell.name: scored(fit(cell.mask)[None], cell.obj > 127) for cell in cells if cell.obj is not None
        }
        for name, fit in fits.items()
    }


def markdown(title: str, ours: dict[str, float], fits: dict[str, dict[str, float]]) -> str:
    """A row of README's table: ours, ellipsoid and cylinder for each score."""
    methods = (ours, fits["ellipsoid"], fits["cylinder"])
    scores = ("volume_median", "consensus", "energy")
    cells = (", ".join(f"{one[score]:.3f}".removeprefix("0") for one in methods) for score in scores)
    return f"| {title} | {' | '.join(cells)} |"


def print_table(options: argparse.Namespace, kinds: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print README's table; ``kinds`` are the summaries of the simulated cells by method and kind."""
    print("| ours, ellipsoid, cylinder | volume error | consensus IoU | energy score |")
    print("| --- | --- | --- | --- |")
    ours, common = Path(options.models[0]).stem, "common kinds"
    fits = {name: kinds[name][common] for name in ("ellipsoid", "cylinder")}
    count = kinds[ours][common]["cells"]
    print(markdown(f"{count} simulated red blood cells of common kinds", kinds[ours][common], fits))
    cells = read_dataset(options.real, part="train", need_objects=True)
    model = load_model(options.models[0])
    assert isinstance(model, ShapeModel)
    members = {}
    for fold in range(5):
        _, real = split(cells, fold)
        unknowing = without(model, cells, {cell.name for cell in real})
        members |= drawn(unknowing, real, options.quality, options.out / "held_out")
    for real in (cells, split(cells)[1]):
        fits = {name: summarised(list(rows.values())) for name, rows in fitted(real).items()}
        ours = summarised([members[cell.name] for cell in real])
        print(markdown(f"{len(real)} real ones of four rare kinds", ours, fits))
    card = read_card("generic")
    keys = {"consensus": "consensus_iou", "energy": "energy_score", "volume_median": "volume_error_median"}
    for stack, cells in left_out(options.nuclei).items():
        own = {name: card.scores[stack]["balanced"][key] for name, key in keys.items()}
        fits = {name: summarised(list(rows.values())) for name, rows in fitted(cells).items()}
        print(markdown(f"{len(cells)} nuclei, {stack}", own, fits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["red-blood-cell"], help="names or files")
    parser.add_argument("--of-each", type=int, default=8, help="cells of each kind (8)")
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--other", action="store_true", help="cells of the common kinds from a second source")
    parser.add_argument("--auto", action="store_true", help="draw them at the scale auto, too")
    parser.add_argument("--real", type=Path, help="dataset of real red blood cells, for the table of README")
    parser.add_argument("--nuclei", type=Path, help="folder of real nuclei")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cells = (other_red_cells if options.other else simulated)(options.of_each, options.seed)
    if not (options.out / "cells").exists():
        notes = DatasetNotes(voxel_size=VOXEL_SIZE, unit="micrometer", source=[f"simulated, {options.seed}"])
        write_dataset(options.out / "cells", cells, notes)
    found = fitted(cells)
    for given in options.models:
        model, name = load_model(given), Path(given).stem
        found[name] = drawn(model, cells, options.quality, options.out / name)
        if options.auto:
            own = drawn(model, cells, options.quality, options.out / f"{name}-auto", auto=True)
            found[f"{name}, auto"] = own
    table = {}
    for name, rows in found.items():
        kinds = {
            kind: summarised([row for cell, row in rows.items() if cell.rsplit("-", 1)[0] == kind])
            for kind in KINDS
            if any(cell.startswith(f"{kind}-") for cell in rows)
        }
        common = [row for cell, row in rows.items() if cell.rsplit("-", 1)[0] in COMMON]
        table[name] = {**kinds, "common kinds": summarised(common), "all": summarised(list(rows.values()))}
        for kind, row in table[name].items():
            figures = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if key != "cells")
            print(f"{name:24s} {kind:20s} {figures}", flush=True)
    write_json(options.out / "red_cell_kinds.json", {"seed": options.seed, "methods": table})
    if options.real is not None:
        print_table(options, table)


if __name__ == "__main__":
    main()
