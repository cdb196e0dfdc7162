"""Fine-tune ``generic`` as a user would; compare it on held-out cells with ``generic`` and the fits.

    python benchmarks/fine_tune.py --cells DATASET --fold 2 --out RUN     # every fifth cell is held out
    python benchmarks/fine_tune.py --nuclei --out RUN                     # two simulated stacks, and a third

The training uses some of its own cells for validation, as always; the held-out cells are others.
RUN/fine_tune.json has the results; RUN/held_out the whole evaluation.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from train_red_blood_cell import split

import napari_dispr as nd
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.cells.stacks import cut_stacks
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.files import write_json
from napari_dispr.models.fits import FITS
from napari_dispr.models.sampling import as_method
from napari_dispr.settings import PredictSettings
from napari_dispr.synthesis.stacks import simulate_stack
from napari_dispr.training.loop import Report

#: Nuclei in a simulated stack; about 5 of 6 are not cut by its border.
NUCLEI = 60


def simulated() -> tuple[list[CellFile], list[CellFile], DatasetNotes]:
    """Cells of two stacks for training, and of a third one at the same scale, held out."""
    stacks = [replace(simulate_stack(NUCLEI, seed=seed), name=f"stack{seed}-") for seed in (11, 12, 13)]
    own = cut_stacks(stacks[:2])
    other = cut_stacks(stacks[2:], voxel_size=own.voxel_size)
    notes = DatasetNotes(voxel_size=own.voxel_size, unit=own.unit, source=["simulated"], plane=own.plane)
    return own.cells, other.cells, notes


def scores(method: dict[str, Any]) -> dict[str, float]:
    """The main scores of a method in the summary of an evaluation."""
    volume = method["estimate"]["volume"]
    return {
        "energy_score": round(method["energy_score"]["mean"], 4),
        "consensus_iou": round(method["consensus_iou"]["mean"], 4),
        "volume_error_median": round(volume["median"], 4),
        "volume_error_mean": round(volume["mean"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=Path, help="dataset folder")
    parser.add_argument("--fold", type=int, default=2, choices=range(5), help="which fifth is held out")
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

    start = time.monotonic()
    model = nd.train(
        options.out / "cells", options.out / "tuned.safetensors", minutes=options.minutes, progress=note
    )
    seconds = time.monotonic() - start
    settings = PredictSettings(quality="balanced")
    methods = {
        "tuned": as_method(model, settings),
        "generic": as_method(nd.load_model("generic"), settings),
        **FITS,
    }
    summary = evaluate(held_out, methods, members=5, out=options.out / "held_out")
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
        "compared": {name: scores(method) for name, method in summary["methods"].items()},
    }
    write_json(options.out / "fine_tune.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
