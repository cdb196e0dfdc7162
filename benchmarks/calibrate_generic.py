"""Write into the card of the model ``generic`` what the nuclei say that it was not trained on.

    python benchmarks/calibrate_generic.py RUN/model.safetensors NUCLEI --cells RUN/simulated.npz --out MODEL

Prints the scores of each stack left out, and those of ellipsoid and cylinder; those of the mouse embryo
also at the spacing at which its nuclei are about as tall as wide. Intervals are fitted to these nuclei, and
warnings to all nuclei and some of the simulated cells. Also prints the share of warnings for nuclei of stacks
that the fit has not seen, as they are, inverted and blurred.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_nuclei import LEFT_OUT, MENDED, STACKS, nuclei_as_they_are, source_of
from scipy.ndimage import gaussian_filter
from training_run import saved_cells

from napari_dispr.card import Calibration
from napari_dispr.cells.features import features
from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.novelty import Seen, fit_novelty, novelty_reason
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.models.fits import FITS
from napari_dispr.shapes.intervals import CALIBRATED, calibrate, read_interval
from napari_dispr.training.calibrate import measures_of, true_measures
from napari_dispr.training.finish import Scored, scored
from napari_dispr.training.validation import CellScores, score_cell

RIVALS = ("ellipsoid", "cylinder")
CPU = torch.device("cpu")


def left_out(folder: Path) -> dict[str, list[CellFile]]:
    """The nuclei left out, by stack and reading of its spacing."""
    found = {}
    for name in LEFT_OUT:
        found[name] = nuclei_as_they_are(folder, name)
        if (mended := MENDED.get(source_of(name))) is not None:
            found[f"{name}, mended"] = nuclei_as_they_are(folder, name, mended)
    return found


def line(scores: list[CellScores]) -> str:
    error = np.abs([one.volume - 1 for one in scores])
    bias = np.median([one.volume - 1 for one in scores])
    together = [
        (np.median(values), np.mean(values))
        for values in ([s.consensus_iou for s in scores], [s.energy_score for s in scores])
    ]
    texts = [f"{median:.3f} / {mean:.3f}" for median, mean in [(np.median(error), error.mean()), *together]]
    return f"volume {texts[0]} (bias {bias:+.3f}), consensus {texts[1]}, energy {texts[2]}"


def evaluated(model: ShapeModel, cells: dict[str, list[CellFile]]) -> tuple[dict[str, Any], Scored]:
    """Scores for the card by stack, and all cells together; prints them with the rivals'."""
    summaries, everything = {}, Scored({quality: [] for quality in model.card.qualities}, [])
    for name, own in cells.items():
        found = scored(model, own, CPU, lambda: False, lambda: None)
        for quality, scores in found.scores.items():
            print(f"{name}, {len(own)} nuclei: {quality}: {line(scores)}", flush=True)
            everything.scores[quality].extend(scores)
        everything.ensembles.extend(found.ensembles)
        for rival in RIVALS:
            scores = [score_cell(FITS[rival], cell, "balanced", CPU)[0] for cell in own]
            print(f"{name}: {rival}: {line(scores)}", flush=True)
        summaries[name] = found.summary | {"note": "nuclei of stacks that it was not trained on"}
    return summaries, everything


def fitted_intervals(found: Scored, cells: list[CellFile]) -> dict[str, Calibration]:
    """Intervals; prints how often those of 90 % hold the truth, in tenfold cross-validation."""
    estimates = [measures_of(list(ensemble.signed_distance)) for ensemble in found.ensembles]
    truths = [true_measures(cell) for cell in cells]
    fold = np.random.default_rng(0).permutation(len(cells)) % 10
    inside: dict[str, list[tuple[bool, float]]] = {}
    for number in range(10):
        rest = np.flatnonzero(fold != number)
        own = calibrate([estimates[i] for i in rest], [truths[i] for i in rest])
        for i in np.flatnonzero(fold == number):
            for name in CALIBRATED:
                low, high = read_interval(estimates[i][name], own[name])
                inside.setdefault(name, []).append((low <= truths[i][name] <= high, high / low))
    for name, pairs in inside.items():
        share, width = np.mean([p[0] for p in pairs]), np.median([p[1] for p in pairs])
        print(f"90 % interval of {name}: holds {share:.2f}, upper / lower end {width:.2f}")
    return calibrate(estimates, truths)


def check_warnings(usual: list[Seen], nuclei: dict[str, list[CellFile]], extent: float) -> None:
    """Print the share of warnings for the nuclei of stacks that the fit has not seen."""
    warned: dict[str, list[bool]] = {}
    for name in (*LEFT_OUT, "human_cells3d"):
        cells = nuclei[name]
        rest = [(c.mask, c.image) for other, own in nuclei.items() if other != name for c in own]
        fitted = fit_novelty([*usual, *rest], extent=extent)
        for cell in cells:
            assert cell.image is not None
            seen = {
                name: cell.image,
                "as they are": cell.image,
                "inverted": cell.image[cell.mask > 0.5].max() - cell.image,
                "blurred, sigma 3": gaussian_filter(cell.image, 3),
            }
            for what, image in seen.items():
                found = novelty_reason(fitted, features(cell.mask, image), sized=False)
                warned.setdefault(what, []).append(found is not None)
    for what, found in warned.items():
        print(f"warnings, {what}: {np.mean(found):.2f} of {len(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("nuclei", type=Path, help="folder with image/ and labels/")
    parser.add_argument("--cells", type=Path, help="the simulated training cells; without, warnings stay")
    parser.add_argument("--usual", type=int, default=300, help="so many simulated cells are usual (300)")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    model = ShapeModel.load(options.model)
    cells = left_out(options.nuclei)
    summaries, found = evaluated(model, cells)
    together = [cell for own in cells.values() for cell in own]
    intervals = fitted_intervals(found, together)
    update: dict[str, Any] = {"scores": summaries, "intervals": intervals}
    if options.cells is not None:
        usual: list[Seen] = [(cell.mask, cell.image) for cell in saved_cells(options.cells)[: options.usual]]
        nuclei = {name: nuclei_as_they_are(options.nuclei, name) for name in STACKS}
        extent = model.card.typical_extent
        check_warnings(usual, nuclei, extent)
        real = [(cell.mask, cell.image) for own in nuclei.values() for cell in own]
        novelty = fit_novelty([*usual, *real], extent=extent)
        # Cells of all sizes are usual: their size, in this unit, never decides.
        size = novelty.groups["size"].model_copy(update={"unit": 1e6})
        update["novelty"] = novelty.model_copy(update={"groups": {**novelty.groups, "size": size}})
    model = replace(model, card=model.card.model_copy(update=update))
    model.save(options.out, torch.float16)


if __name__ == "__main__":
    main()
