"""Fine-tune ``generic`` as a user would and compare it, on cells kept apart, with ``generic`` and the fits.

    python benchmarks/fine_tune.py --cells DATASET --fold 2 --out RUN     # every fifth cell is kept apart
    python benchmarks/fine_tune.py --nuclei --out RUN                     # two simulated stacks, and a third

The training itself keeps some of its own cells apart, as always; those compared on are not among them.
RUN/fine_tune.json has the figures, of the members' mean volume and their consensus.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from train_red_blood_cell import split

import napari_dispr as nd
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.cells.stacks import cut_stacks
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.files import write_json
from napari_dispr.models.fits import FITS
from napari_dispr.models.sampling import as_method
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.scores import consensus_iou, energy_score
from napari_dispr.synthesis.stacks import simulate_stack
from napari_dispr.training.loop import Report

#: Whole nuclei of a simulated stack are 5 in 6 of these.
NUCLEI = 60


def simulated() -> tuple[list[CellFile], list[CellFile], DatasetNotes]:
    """Cells of two stacks, and of a third one at the same scale."""
    stacks = [replace(simulate_stack(NUCLEI, seed=seed), name=f"stack{seed}-") for seed in (11, 12, 13)]
    own = cut_stacks(stacks[:2])
    other = cut_stacks(stacks[2:], voxel_size=own.voxel_size)
    notes = DatasetNotes(voxel_size=own.voxel_size, unit=own.unit, source=["simulated"], plane=own.plane)
    return own.cells, other.cells, notes


def compared(folder: Path, cells: list[CellFile]) -> dict[str, dict[str, float]]:
    """Scores of saved shapes, by method."""
    truths = {cell.name: cell.obj > 127 for cell in cells if cell.obj is not None}
    table = {}
    for method in sorted(folder.iterdir()):
        rows = []
        for name, truth in truths.items():
            members = tifffile.imread(method / f"{name}.tif").reshape(-1, *truth.shape) > 0
            volume = np.mean([np.count_nonzero(member) for member in members]) / np.count_nonzero(truth)
            rows.append((energy_score(members, truth), consensus_iou(members, truth), abs(volume - 1)))
        energy, consensus, error = np.array(rows).T
        table[method.name] = {
            "energy_score": round(float(energy.mean()), 4),
            "consensus_iou": round(float(consensus.mean()), 4),
            "volume_error_median": round(float(np.median(error)), 4),
            "volume_error_mean": round(float(error.mean()), 4),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=Path, help="dataset folder")
    parser.add_argument("--fold", type=int, default=2, choices=range(5), help="which fifth is kept apart")
    parser.add_argument("--nuclei", action="store_true")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.nuclei:
        train, held_out, notes = simulated()
    elif options.cells:
        train, held_out = split(read_dataset(options.cells, "train", need_objects=True), options.fold)
        notes = DatasetNotes()
    else:
        parser.error("give --cells DATASET or --nuclei")
    write_dataset(options.out / "cells", train, notes)
    reports: list[Report] = []

    def note(event: Any) -> None:
        print(event, flush=True)
        if isinstance(event, Report):
            reports.append(event)

    begun = time.monotonic()
    model = nd.train(
        options.out / "cells", options.out / "tuned.safetensors", minutes=options.minutes, progress=note
    )
    seconds = time.monotonic() - begun
    settings = PredictSettings(quality="balanced")
    methods = {
        "tuned": as_method(model, settings),
        "generic": as_method(nd.load_model("generic"), settings),
        **FITS,
    }
    evaluate(held_out, methods, members=5, out=options.out / "held_out", save_shapes=True)
    rates = [report.samples_per_second for report in reports if report.phase == "flow"]
    result = {
        "trained_on": len(train),
        "compared_on": len(held_out),
        "minutes": options.minutes,
        "seconds_in_all": round(seconds),
        "cells_per_second": round(float(np.median(rates)), 2),
        "peak_memory_gb": max(report.memory_gb for report in reports),
        "steps": reports[-1].step,
        "own_scores": model.card.scores,
        "compared": compared(options.out / "held_out" / "shapes", held_out),
    }
    write_json(options.out / "fine_tune.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
