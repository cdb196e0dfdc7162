"""Train the shipped model ``red-blood-cell``: once with cells kept apart, for its scores, and then on all.

    python benchmarks/train_red_blood_cell.py DATASET --out RUN            # every fifth cell kept apart
    python benchmarks/train_red_blood_cell.py DATASET --out RUN --resume   # goes on exactly
    python benchmarks/train_red_blood_cell.py DATASET --out RUN2 --all --steps 800 \\
        --start RUN/model.safetensors

The first run ends with an evaluation of the cells kept apart, which stands in its card and in
RUN/held_out. The second goes on from it with all the cells and is what is shipped; its card repeats
the first one's scores and says so.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from napari_dispr.card import Card, Quality
from napari_dispr.cells.augmentation import training_cell
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import DEFAULT
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.evaluation import FIT_METHODS, evaluate, summary_table
from napari_dispr.prediction import model_method
from napari_dispr.settings import PredictSettings, TrainSettings
from napari_dispr.training import CHECKPOINT, State, iter_train

ATTRIBUTION = (
    "Trained on 108 red blood cells of Simionato et al. 2021 (PLOS Comput. Biol. 17(5), e1008934) as "
    "segmented by Waibel et al. 2022 for SHAPR (doi 10.5281/zenodo.7031924), from marrlab/SHAPR_torch, "
    "Copyright (C) 2022 Dominik Waibel & Bastian Rieck."
)
LIMITS = (
    "For confocal pictures of red blood cells, or cells much like them, cut near their middle. Spherocytes, "
    "discocytes, stomatocytes, echinocytes and acanthocytes were not in the training data. The voxel size of "
    "the training data is not known: sizes come from the picture's own pixel size."
)


def split(cells: list[CellFile]) -> tuple[list[CellFile], list[CellFile]]:
    """Training and held-out cells: in every class (the name up to its number), every fifth is held out."""
    train, held_out = [], []
    seen: dict[str, int] = {}
    for cell in sorted(cells, key=lambda cell: cell.name):
        kind = cell.name.rstrip("0123456789")
        (held_out if seen.get(kind, 0) % 5 == 2 else train).append(cell)
        seen[kind] = seen.get(kind, 0) + 1
    return train, held_out


def card(settings: TrainSettings, train: list[CellFile], start: Card | None) -> Card:
    return Card(
        name="red-blood-cell",
        description="Red blood cells (clusters, keratocytes, knizocytes, multilobate cells), confocal.",
        licence="BSD-3-Clause",
        attribution=ATTRIBUTION,
        limits=LIMITS,
        truncation=settings.truncation,
        typical_extent=50.0,
        qualities={
            "fast": Quality(sampler="dpm-solver++", steps=2),
            "balanced": Quality(sampler="dpm-solver++", steps=8),
        },
        training={
            "cells": [cell.name for cell in train],
            "fingerprints": [cell.fingerprint for cell in train],
            "runs": [*(start.training["runs"] if start else []), settings.model_dump()],
        },
        scores=start.scores if start else {},
    )


def scores(model: ShapeModel, train: list[CellFile], held_out: list[CellFile], out: Path) -> dict[str, Any]:
    """How a model does on cells that it was not trained on, as its card says it."""
    told: dict[str, Any] = {
        "cells": [cell.name for cell in held_out],
        "trained_on": [cell.name for cell in train],
        "note": "of a model trained on the cells in trained_on; the shipped one went on from it with all",
    }
    methods = {q: model_method(model, PredictSettings(quality=q)) for q in model.card.qualities}
    summary = evaluate(held_out, {**methods, **FIT_METHODS}, members=5, out=out, save_shapes=True)
    print(summary_table(summary))
    for quality in methods:
        told[quality] = {name: summary["methods"][quality][name] for name in summary["measures"]}
        told[quality]["ensemble"] = of_ensembles(held_out, out / "shapes" / quality)
        print(quality, json.dumps(told[quality]["ensemble"]))
    return told


def of_ensembles(held_out: list[CellFile], shapes: Path) -> dict[str, float]:
    """What the members of a cell tell together: mean volume, consensus, energy score under 1 - IoU."""

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        return float((a & b).sum() / (a | b).sum())

    volume, consensus, energy = [], [], []
    for cell in held_out:
        assert cell.obj is not None
        truth = cell.obj > 127
        members = tifffile.imread(shapes / f"{cell.name}.tif") > 0
        n = len(members)
        volume.append(members.sum() / n / truth.sum() - 1)
        consensus.append(overlap(members.mean(axis=0) >= 0.5, truth))
        apart = sum(1 - overlap(a, b) for a in members for b in members) / (n * (n - 1))
        energy.append(np.mean([1 - overlap(member, truth) for member in members]) - apart / 2)
    return {
        "volume_error_median": float(np.median(np.abs(volume))),
        "volume_error_mean": float(np.mean(np.abs(volume))),
        "volume_bias": float(np.mean(volume)),
        "consensus_iou_mean": float(np.mean(consensus)),
        "energy_score_mean": float(np.mean(energy)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--all", action="store_true", help="keep no cells apart")
    parser.add_argument("--start", type=Path, help="model file to begin from")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, field in TrainSettings.model_fields.items():
        kind = type(field.default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default)
    options = vars(parser.parse_args())
    torch.set_num_threads(options["threads"])
    settings = TrainSettings(**{name: options[name] for name in TrainSettings.model_fields})

    cells = read_dataset(options["dataset"], part="train", need_objects=True)
    train, held_out = (cells, []) if options["all"] else split(cells)
    prepared = [training_cell(c.name, c.mask, c.image, c.obj) for c in train if c.obj is not None]
    start = ShapeModel.load(options["start"]) if options["start"] else None
    network = start.network if start else None
    out: Path = options["out"]
    print(f"{len(train)} cells to train on, {len(held_out)} kept apart", flush=True)
    for report in iter_train(prepared, out, settings, start=network, resume=options["resume"]):
        rate = round(report.samples_per_second, 2)
        line = {"step": report.step, "loss": round(report.loss, 5), "samples_per_second": rate}
        print(json.dumps(line), flush=True)
    state = State(settings, network.config if network else DEFAULT, torch.device("cpu"))
    state.load(out / CHECKPOINT)
    told = card(settings, train, start.card if start else None)
    model = ShapeModel(state.average, RectifiedFlow(settings.shift), told)
    model.save(out / "model.safetensors", torch.float16)
    if held_out:
        model = ShapeModel.load(out / "model.safetensors")  # as it is used: with 16-bit weights
        found = scores(model, train, held_out, out / "held_out")
        model.card = told.model_copy(update={"scores": found})
        model.save(out / "model.safetensors", torch.float16)


if __name__ == "__main__":
    main()
