"""Write into the card of a model what intervals and warnings are computed from, and its scores.

    python benchmarks/calibrate.py MODEL --dataset DATASET --ensembles DIR --out MODEL2
    python benchmarks/calibrate.py MODEL --dataset DATASET --out MODEL2 --check

Warnings are fitted to the cells of DATASET that MODEL was trained on, compared with simulated cells of other
kinds. Intervals are fitted to ensembles of cells that their model was NOT trained on (cross-validation):
DIR/NAME.npz with ``signed_distance`` (member, 64, 64, 64), and the true objects in DATASET. ``--check``
prints, by sixfold cross-validation over the cells, the share of warnings for cells as they are, inverted,
blurred, and of simulated kinds that the fit has not seen.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_dispr.card import Calibration, Card
from napari_dispr.cells.features import features
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.cells.novelty import Seen, fit_novelty, novelty_reason
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.models.library import read_card
from napari_dispr.shapes.intervals import calibrate, read_interval
from napari_dispr.synthesis.generic import KINDS, UNSEEN_KINDS, simulated_cell
from napari_dispr.synthesis.red_cell_crops import red_cell_training_cells
from napari_dispr.training.calibrate import measures_of, true_measures

FOLDS = 6


def simulated(kinds: Sequence[str], of_each: int, seed: int) -> list[Seen]:
    """Masks and pictures of simulated cells."""
    rng = np.random.default_rng(seed)
    return [simulated_cell(kind, rng)[1:] for kind in kinds for _ in range(of_each)]


def usual(count: int) -> list[Seen]:
    """Simulated red blood cells of all kinds, their pictures like the real ones."""
    return [(cell.mask, cell.image) for cell in red_cell_training_cells(count, seed=2, other_pictures=0)]


def drawn(path: Path, members: int) -> dict[str, np.ndarray]:
    """Measure the first members of an ensemble, in voxels."""
    with np.load(path, allow_pickle=False) as file:
        # Measured on the smooth surface, as the shapes of users are.
        if "signed_distance" not in file:
            raise InputError(f"{path} has no signed_distance: predict the ensemble again.")
        shapes = list(file["signed_distance"][:members].astype(np.float32))
    if len(shapes) < members:
        raise InputError(f"{path} has {len(shapes)} members: predict {members}, or give a smaller --members.")
    return measures_of(shapes)


def intervals(cells: list[CellFile], folder: Path, members: int) -> dict[str, Calibration]:
    """Calibrate all measures; print the coverage on cells left out of the fit.

    The names of simulated cells have a hyphen.
    """
    known = [cell for cell in cells if (folder / f"{cell.name}.npz").is_file()]
    estimates, truths = [], []
    for cell in known:
        estimates.append(drawn(folder / f"{cell.name}.npz", members))
        truths.append(true_measures(cell))
    print(f"intervals: {len(known)} of {len(cells)} cells have an ensemble of {members}")
    real = np.array(["-" not in cell.name for cell in known])
    # Users have real cells: they count as much as the simulated ones.
    times = np.where(real, max(round(np.sum(~real) / max(real.sum(), 1)), 1), 1)

    def fit(places: NDArray[np.int_]) -> dict[str, Calibration]:
        again = np.repeat(places, times[places])
        return calibrate([estimates[i] for i in again], [truths[i] for i in again])

    fitted = fit(np.arange(len(known)))
    fold = np.random.default_rng(0).permutation(len(known)) % 10
    covered: dict[tuple[str, float], list[tuple[bool, float]]] = {}
    for number in range(10):
        own = fit(np.flatnonzero(fold != number))
        for i in np.flatnonzero(fold == number):
            for name, calibration in own.items():
                for level in (0.5, 0.8, 0.9):
                    low, high = read_interval(estimates[i][name], calibration, level)
                    inside = low <= truths[i][name] <= high
                    covered.setdefault((name, level), []).append((inside, high / low))
                    if name == "volume":
                        whose = "volume, real" if real[i] else "volume, simulated"
                        covered.setdefault((whose, level), []).append((inside, high / low))
    for (name, level), pairs in covered.items():
        coverage, width = np.mean([p[0] for p in pairs]), np.median([p[1] for p in pairs])
        measure = name.split(",")[0]
        values = np.array([truth[measure] for truth in truths])
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        print(
            f"  {name:20s} {level:.0%}: coverage {coverage:.3f}, upper / lower end {width:.2f} at the median "
            f"(of all the truths: {ends[1] / ends[0]:.2f}), floor {fitted[name.split(',')[0]].floor:.3f}"
        )
    return fitted


def scores(evaluation: Path, held_out: Card) -> dict[str, Any]:
    """Scores for a card, from the evaluation of a model on held-out cells and the card of that model."""
    summary, settings = (
        json.loads((evaluation / f"{name}.json").read_text("utf-8")) for name in ("summary", "evaluation")
    )
    parts = {"members": summary["measures"], "together": summary["together"]}
    return {
        "cells": list(settings["cells"]),
        "trained_on": held_out.training["cells"],
        "note": "of a model trained in the same way on the cells in trained_on, by napari-dispr evaluate",
        "software": summary["software"],
        **{
            quality: {"n": own["n"], "estimate": own["estimate"]}
            | {part: {name: own[name] for name in names} for part, names in parts.items()}
            for quality, own in summary["methods"].items()
        },
    }


def check(cells: list[Seen], strangers: list[Seen], extent: float) -> None:
    """Print the share of warnings, at the scale of the training data, for cells left out of the fit."""
    unseen = simulated(UNSEEN_KINDS, 40, seed=1)
    fold = np.random.default_rng(0).permutation(len(cells)) % FOLDS
    warned: dict[str, list[bool]] = {}
    for number in range(FOLDS):
        own = fit_novelty([cells[i] for i in np.flatnonzero(fold != number)], strangers, extent=extent)
        for i in np.flatnonzero(fold == number):
            mask, image = cells[i]
            assert image is not None
            seen = {
                "as they are": image,
                "inverted": image[mask > 0.5].max() - image,
                "blurred, sigma 2.5": gaussian_filter(image, 2.5),
                "without picture": None,
            }
            for name, plane in seen.items():
                warned.setdefault(name, []).append(
                    novelty_reason(own, features(mask, plane), sized=True) is not None
                )
        share = unseen[number::FOLDS]
        warned.setdefault("simulated, unseen kinds", []).extend(
            novelty_reason(own, features(mask, image), sized=True) is not None for mask, image in share
        )
    for name, found in warned.items():
        print(f"  {name:24s} {np.mean(found):.3f} of {len(found)} warned of")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path, nargs="+", required=True, help="one or more")
    parser.add_argument("--usual", type=int, default=0, help="so many simulated red cells are usual, too (0)")
    parser.add_argument("--ensembles", type=Path, help="folder with NAME.npz of a cross-validation")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--strangers", type=int, default=30, help="simulated cells of each other kind (30)")
    parser.add_argument("--check", action="store_true")
    parser.add_argument(
        "--held-out", type=Path, help="held_out folder of train_red_blood_cell.py: scores ..."
    )
    parser.add_argument("--held-out-model", type=Path, help="... and the model file that was evaluated")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    model = ShapeModel.load(options.model)
    cells = [
        cell
        for folder in options.dataset
        for cell in read_dataset(folder, need_objects=options.ensembles is not None)
    ]
    trained_on = set(model.card.training.get("fingerprints", ()))
    own: list[Seen] = [(cell.mask, cell.image) for cell in cells if cell.fingerprint in trained_on]
    own += usual(options.usual)
    extent = model.card.typical_extent
    strangers = simulated([kind for kind in KINDS if kind != "biconcave"], options.strangers, seed=0)
    found: dict[str, Any] = {}
    if own:
        found["novelty"] = fit_novelty(own, strangers, extent=extent)
        print(f"novelty: {len(own)} training cells, {len(strangers)} simulated strangers")
    if options.check:
        check(own, strangers, extent)
    if options.ensembles is not None:
        found["intervals"] = intervals(cells, options.ensembles, options.members)
    if options.held_out is not None:
        found["scores"] = scores(options.held_out, read_card(options.held_out_model))
    model = replace(model, card=model.card.model_copy(update=found))
    model.save(options.out, torch.float16)


if __name__ == "__main__":
    main()
