"""Train the shipped model ``red-blood-cell``: without every fifth of its cells (held out), and on all cells.

    python benchmarks/train_red_blood_cell.py DATASET --start generic --fold 2 --out RUN/2   # 5 folds: 0 to 4
    python benchmarks/train_red_blood_cell.py DATASET --start generic --fold 2 --out RUN/2 --resume
    python benchmarks/train_red_blood_cell.py DATASET --start generic --all --out RUN/all

Each run starts from the model ``--start``, which has seen no real cell. The run of a fold ends with
predicting its held-out cells (FOLD/ensembles) and evaluating them (FOLD/held_out). The shipped model is
trained in the same way on all cells; ``benchmarks/calibrate.py`` writes the results of the folds into its
card.
"""

import argparse
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from training_run import FREE, add_options, saved_cells, trained

from napari_dispr.card import Card, Quality, VolumeRegression
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.cells.volume import fit_volume
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import DEFAULT
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.evaluation.summary import summary_table
from napari_dispr.models.library import load_model
from napari_dispr.models.sampling import as_method
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings, TrainSettings
from napari_dispr.synthesis.red_cell_crops import (
    VOXEL_SIZE,
    RedCellCrop,
    red_cell_training_cells,
    simulated_red_cell,
)
from napari_dispr.synthesis.red_cells import KINDS

ATTRIBUTION = (
    "Trained on 108 red blood cells of Simionato et al. 2021 (PLOS Comput. Biol. 17(5), e1008934) as "
    "segmented by Waibel et al. 2022 for SHAPR (doi 10.5281/zenodo.7031924), from marrlab/SHAPR_torch, "
    "Copyright (C) 2022 Dominik Waibel & Bastian Rieck."
)
LIMITS = (
    "For confocal pictures of red blood cells, or cells much like them, cut near their middle. It has seen "
    "real clusters, keratocytes, knizocytes and multilobate cells, and simulated cells of all kinds; of "
    "spherocytes, discocytes, stomatocytes, echinocytes and acanthocytes it has seen simulated ones only. "
    "The voxel size of 0.14 micrometer is an estimate."
)

#: Settings that can be changed.
_FREE = (*FREE, "blended", "resliced", "projections", "further_planes", "workers")
#: Kinds of which there are no real cells.
COMMON = tuple(kind for kind in KINDS if kind not in ("knizocyte", "keratocyte", "multilobate", "cluster"))
#: So many simulated cells of each join the real ones in the regression of volumes, and its weight against the
#: volume of a member (docs/model.md).
_REGRESSED, _SHARE = 30, 0.65


def split(cells: list[CellFile], fold: int = 2) -> tuple[list[CellFile], list[CellFile]]:
    """Training and held-out cells of one of five folds: every fifth of each class (its name)."""
    train: list[CellFile] = []
    held_out: list[CellFile] = []
    seen: dict[str, int] = {}
    for cell in sorted(cells, key=lambda cell: cell.name):
        kind = cell.name.rstrip("0123456789")
        (held_out if seen.get(kind, 0) % 5 == fold else train).append(cell)
        seen[kind] = seen.get(kind, 0) + 1
    return train, held_out


@cache
def _simulated_to_regress() -> list[RedCellCrop]:
    """Simulated cells of the kinds of which there are no real ones, of seeds of their own."""
    places = product(enumerate(COMMON), range(_REGRESSED))
    return [
        simulated_red_cell(kind, np.random.default_rng((7001, place, number)))
        for (place, kind), number in places
    ]


def volume_of_all(real: list[CellFile]) -> VolumeRegression:
    """Volume by mask and picture, learned from real cells and simulated ones of the other kinds."""
    cells = [*real, *_simulated_to_regress()]
    volumes = [float(np.count_nonzero(cell.obj > 127)) for cell in cells if cell.obj is not None]
    fitted = fit_volume([cell.mask for cell in cells], [cell.image for cell in cells], volumes)
    return fitted.model_copy(update={"share": _SHARE})


def card(
    settings: TrainSettings, train: list[CellFile], made: list[TrainingCell], start: ShapeModel | None
) -> Card:
    return Card(
        name="red-blood-cell",
        description="Red blood cells of all kinds, confocal, their membrane stained.",
        licence="BSD-3-Clause",
        attribution=ATTRIBUTION,
        limits=LIMITS,
        truncation=settings.truncation,
        typical_extent=50.0,
        voxel_size=VOXEL_SIZE,
        qualities={
            "fast": Quality(sampler="euler", steps=1),
            "balanced": Quality(sampler="euler", steps=4),
        },
        training={
            "cells": [cell.name for cell in train],
            "simulated": len(made),
            "fingerprints": sorted(
                {cell.fingerprint for cell in train}
                | set(start.card.training.get("fingerprints", ()) if start else ())
            ),
            "started_from": start.hash if start else None,
            "runs": [*(start.card.training["runs"] if start else []), settings.model_dump()],
        },
        volume=volume_of_all(train),
    )


def check_unseen(model: ShapeModel, held_out: list[CellFile]) -> None:
    """Check that a model was not trained on the held-out cells."""
    seen = set(model.card.training.get("fingerprints", ()))
    if known := [cell.name for cell in held_out if cell.fingerprint in seen]:
        raise InputError(
            f"{model.name} was trained on {known[0]}, which should be held out: give the fold that it left "
            "out."
        )


def predict_held_out(model: ShapeModel, held_out: list[CellFile], out: Path) -> None:
    """Evaluate the held-out cells (out/held_out) and save their ensembles (out/ensembles)."""
    check_unseen(model, held_out)
    methods = {q: as_method(model, PredictSettings(quality=q)) for q in model.card.qualities}
    summary = evaluate(held_out, methods, members=5, out=out / "held_out", save_shapes=True)
    print(summary_table(summary))
    (out / "ensembles").mkdir(exist_ok=True)
    for label, cell in enumerate(held_out, start=1):
        settings = PredictSettings(quality="balanced")
        events = iter_predict_crops([cell.crop(label)], model, settings, image_to_world=np.eye(3))
        done = [event.ensemble for event in events if isinstance(event, CellDone)]
        distance = done[0].signed_distance.astype(np.float16)
        np.savez_compressed(out / "ensembles" / f"{cell.name}.npz", signed_distance=distance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--all", action="store_true", help="hold no cells out")
    parser.add_argument("--fold", type=int, default=2, choices=range(5), help="which fifth is held out")
    parser.add_argument("--start", help="model to start from: a name or a file")
    parser.add_argument("--simulated", type=int, default=900, help="simulated cells (900)")
    add_options(parser, _FREE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainSettings(**{name: getattr(options, name) for name in _FREE})

    cells = read_dataset(options.dataset, part="train", need_objects=True)
    train, held_out = (cells, []) if options.all else split(cells, options.fold)
    real = [training_cell(c.name, c.mask, c.image, c.obj) for c in train if c.obj is not None]
    made = saved_cells(
        options.cells or options.out / "simulated.npz",
        lambda: red_cell_training_cells(options.simulated, seed=0),
    )[: options.simulated]
    # Half of all samples are of real cells.
    prepared = real * max(1, round(len(made) / len(real))) + made
    start = load_model(options.start) if options.start else None
    if start:
        check_unseen(start, held_out)
    network = start.network.with_inputs(DEFAULT.planes, DEFAULT.volumes) if start else None
    print(
        f"{len(train)} real and {len(made)} simulated cells to train on, {len(held_out)} held out", flush=True
    )
    state = trained(prepared, settings, options, start=network)
    model = ShapeModel(state.average, RectifiedFlow(settings.shift), card(settings, train, made, start))
    file = options.out / "model.safetensors"
    model.save(file, torch.float16)
    if held_out:  # with 16-bit weights, as the model is used
        predict_held_out(ShapeModel.load(file), held_out, options.out)


if __name__ == "__main__":
    main()
