"""Train the shipped model ``red-blood-cell``: once with cells kept apart, for its scores, and then on all.

    python benchmarks/train_red_blood_cell.py DATASET --out RUN            # every fifth cell kept apart
    python benchmarks/train_red_blood_cell.py DATASET --out RUN --resume   # goes on exactly
    python benchmarks/train_red_blood_cell.py DATASET --out RUN2 --all --steps 800 \\
        --start RUN/model.safetensors

The first run's model gives the card its scores (``napari-dispr evaluate`` on RUN/held_out); the
second goes on from it with all the cells and is what is shipped.
"""

import argparse
import json
from pathlib import Path

import torch

from napari_dispr.card import Card, Quality
from napari_dispr.cells.augmentation import training_cell
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import DEFAULT
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.settings import TrainSettings
from napari_dispr.training import CHECKPOINT, State, iter_train

ATTRIBUTION = (
    "Trained on 108 red blood cells of Simionato et al. 2021 (PLOS Comput. Biol. 17(5), e1008934) as "
    "segmented by Waibel et al. 2022 for SHAPR (doi 10.5281/zenodo.7031924), from marrlab/SHAPR_torch, "
    "Copyright (C) 2022 Dominik Waibel & Bastian Rieck."
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


def card(settings: TrainSettings, train: list[CellFile], held_out: list[CellFile]) -> Card:
    return Card(
        name="red-blood-cell",
        description="Red blood cells (clusters, keratocytes, knizocytes, multilobate cells), confocal.",
        licence="BSD-3-Clause",
        attribution=ATTRIBUTION,
        truncation=settings.truncation,
        typical_extent=50.0,
        qualities={
            "fast": Quality(sampler="dpm-solver++", steps=2),
            "balanced": Quality(sampler="dpm-solver++", steps=8),
        },
        training={
            "settings": settings.model_dump(),
            "cells": [cell.name for cell in train],
            "held_out": [cell.name for cell in held_out],
            "fingerprints": [cell.fingerprint for cell in train],
        },
    )


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
    prepared = [training_cell(c.name, c.mask, c.image, c.obj) for c in train]
    start = ShapeModel.load(options["start"]).network if options["start"] else None
    out: Path = options["out"]
    print(f"{len(train)} cells to train on, {len(held_out)} kept apart", flush=True)
    for report in iter_train(prepared, out, settings, start=start, resume=options["resume"]):
        print(json.dumps({"step": report.step, "loss": round(report.loss, 5),
                          "samples_per_second": round(report.samples_per_second, 2)}), flush=True)  # fmt: skip
    state = State(settings, start.config if start else DEFAULT, torch.device("cpu"))
    state.load(out / CHECKPOINT)
    model = ShapeModel(state.average, RectifiedFlow(settings.shift), card(settings, train, held_out))
    model.save(out / "model.safetensors", torch.float16)


if __name__ == "__main__":
    main()
