"""How well models draw simulated red blood cells of each kind, of which the truth is known.

    python benchmarks/red_cell_kinds.py --models red-blood-cell OLD.safetensors --of-each 8 --out DIR

The cells come from other seeds than those trained with. DIR/red_cell_kinds.json holds the figures,
DIR/cells the cells, and DIR/MODEL/KIND-000.npz the members, to look at and to calibrate with.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_dispr.cells.folders import CellFile, DatasetNotes, write_dataset
from napari_dispr.files import write_json
from napari_dispr.models.fits import cylinder, ellipsoid
from napari_dispr.models.library import load_model
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.scores import consensus_iou, energy_score
from napari_dispr.synthesis.red_cell_crops import VOXEL_SIZE, simulated_red_cell
from napari_dispr.synthesis.red_cells import KINDS

#: Trained with are cells number 0 and up of seed 0.
SEED = 1000
#: Kinds of which there are no real cells to train with.
COMMON = tuple(kind for kind in KINDS if kind not in ("knizocyte", "keratocyte", "multilobate", "cluster"))


def simulated(of_each: int, seed: int) -> list[CellFile]:
    """So many cells of each kind."""
    cells = []
    for place, kind in enumerate(KINDS):
        for number in range(of_each):
            cell = simulated_red_cell(kind, np.random.default_rng((seed, place, number)))
            cells.append(CellFile(f"{kind}-{number:03d}", cell.mask, cell.image, cell.obj))
    return cells


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["red-blood-cell"], help="names or files")
    parser.add_argument("--of-each", type=int, default=8, help="cells of each kind (8)")
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--auto", action="store_true", help="hide how large the cells really are")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cells = simulated(options.of_each, options.seed)
    if not (options.out / "cells").exists():
        notes = DatasetNotes(voxel_size=VOXEL_SIZE, unit="micrometer", source=[f"simulated, {options.seed}"])
        write_dataset(options.out / "cells", cells, notes)
    truths = {cell.name: cell.obj > 127 for cell in cells if cell.obj is not None}
    found: dict[str, dict[str, dict[str, float]]] = {
        "cylinder": {cell.name: scored(cylinder(cell.mask)[None], truths[cell.name]) for cell in cells},
        "ellipsoid": {cell.name: scored(ellipsoid(cell.mask)[None], truths[cell.name]) for cell in cells},
    }
    for given in options.models:
        model, name = load_model(given), Path(given).stem
        crops = [cell.crop(label) for label, cell in enumerate(cells, start=1)]
        if options.auto:
            crops = [replace(crop, known_scale=None) for crop in crops]
        settings = PredictSettings(quality=options.quality)
        (options.out / name).mkdir(parents=True, exist_ok=True)
        found[name] = {}
        for event in iter_predict_crops(crops, model, settings, image_to_world=np.eye(3)):
            if isinstance(event, CellDone):
                cell = cells[event.label - 1]
                members = event.ensemble.members
                found[name][cell.name] = scored(members, truths[cell.name])
                np.savez_compressed(
                    options.out / name / f"{cell.name}.npz",
                    signed_distance=event.ensemble.signed_distance.astype(np.float16),
                )
    table = {}
    for name, rows in found.items():
        kinds = {
            kind: summarised([row for cell, row in rows.items() if cell.rsplit("-", 1)[0] == kind])
            for kind in KINDS
        }
        common = [row for cell, row in rows.items() if cell.rsplit("-", 1)[0] in COMMON]
        table[name] = {**kinds, "common kinds": summarised(common), "all": summarised(list(rows.values()))}
        for kind, row in table[name].items():
            figures = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if key != "cells")
            print(f"{name:24s} {kind:20s} {figures}", flush=True)
    write_json(options.out / "red_cell_kinds.json", {"seed": options.seed, "methods": table})


if __name__ == "__main__":
    main()
