"""Train the shipped model ``generic`` on simulated cells of many kinds and on real nuclei.

    python benchmarks/train_generic.py NUCLEI --out RUN
    python benchmarks/train_generic.py NUCLEI --out RUN --resume

NUCLEI is the folder of ``benchmarks/real_nuclei.py``, of which some stacks are left out for good.
``benchmarks/calibrate_generic.py`` writes what these say into the card of the model.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from real_nuclei import LEFT_OUT, SOURCES, STACKS, nuclei_as_they_are, nuclei_to_train_on

from napari_dispr.card import Card, Quality
from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import DEFAULT, UNet3D
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.files import written_aside
from napari_dispr.models.library import load_model
from napari_dispr.settings import TrainSettings
from napari_dispr.synthesis.generic import KINDS, generic_training_cells
from napari_dispr.training.loop import iter_optimise
from napari_dispr.training.state import State

LIMITS = (
    "For nuclei and whole cells of blob-like shape, cut near their middle, as long as there is no model for "
    "yours. How tall such a shape is can hardly be read from a section: calibrate it with some cells of your "
    "own whose 3D shape you know, or train on them, as soon as you have them."
)
#: Without the two planes for the true size: it says nothing about cells in general.
PLANES = 4
#: Settings that can be changed.
_FREE = (
    *("steps", "minutes", "batch", "scored", "learning_rate", "adam_learning_rate", "warmup", "decay", "ema"),
    "seed",
)


def saved_cells(file: Path, make: list[TrainingCell] | None = None) -> list[TrainingCell]:
    """Training cells from a file, in which ``make`` is saved first, if it is given."""
    names = ("mask", "image", "signed_distance", "surface")
    if make is not None:
        with written_aside(file) as aside, aside.open("wb") as out:
            arrays = {f"{i}.{n}": getattr(c, n) for i, c in enumerate(make) for n in names}
            np.savez(out, allow_pickle=False, **arrays, names=np.array([c.name for c in make]))
    with np.load(file) as arrays:
        return [
            TrainingCell(str(name), *(arrays[f"{i}.{n}"] for n in names))
            for i, name in enumerate(arrays["names"])
        ]


def card(settings: TrainSettings, simulated: int, folder: Path, start: ShapeModel) -> Card:
    nuclei = [cell for name in STACKS if name not in LEFT_OUT for cell in nuclei_as_they_are(folder, name)]
    known = start.card.training
    return Card(
        name="generic",
        description="Nuclei and cells of many shapes, with a picture or with the mask alone.",
        licence="BSD-3-Clause",
        attribution=f"Trained on simulated cells of this package (kinds: {', '.join(KINDS)}) and on "
        f"{len(nuclei)} nuclei of {'; '.join(SOURCES.values())}. Left out: {', '.join(LEFT_OUT)}.",
        limits=LIMITS,
        truncation=settings.truncation,
        typical_extent=44.0,
        qualities={
            "fast": Quality(sampler="euler", steps=1),
            "balanced": Quality(sampler="euler", steps=4),
        },
        training={
            "cells": [cell.name for cell in nuclei],
            "simulated": simulated,
            "fingerprints": sorted({c.fingerprint for c in nuclei} | set(known.get("fingerprints", ()))),
            "shapes": sorted({c.shape_fingerprint for c in nuclei} | set(known.get("shapes", ()))),
            "started_from": start.hash,
            "runs": [*known.get("runs", ()), settings.model_dump()],
        },
    )


def widened(network: UNet3D) -> UNet3D:
    """The network of the start with the inputs of the new model."""
    return network.with_inputs(PLANES, DEFAULT.volumes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nuclei", type=Path, help="folder with image/ and labels/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", default="generic", help="model to start from: a name or a file (generic)")
    parser.add_argument("--simulated", type=int, default=1200, help="simulated cells (1200)")
    parser.add_argument("--real", type=int, default=600, help="versions of real nuclei (600)")
    parser.add_argument("--cells", type=Path, help="file for the simulated cells (OUT/simulated.npz)")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name in _FREE:
        default = TrainSettings.model_fields[name].default
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float if default is None else type(default), default=default
        )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainSettings(
        **{name: getattr(options, name) for name in _FREE},
        resliced=0.05,
        blended=0.1,
        image_dropout=0.25,
        scale_dropout=0.7,  # most samples are as the scale "auto" shows cells
    )
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    file = options.cells or out / "simulated.npz"
    simulated = saved_cells(
        file, None if file.exists() else list(generic_training_cells(options.simulated, seed=0))
    )
    real = nuclei_to_train_on(options.nuclei, options.real)
    print(f"{len(simulated)} simulated cells and {len(real)} versions of nuclei", flush=True)
    start = load_model(options.start)
    checkpoint = out / "checkpoint.pt"
    for report in iter_optimise(
        [*simulated, *real],
        checkpoint,
        settings,
        start=widened(start.network),
        resume=options.resume,
        device=devices.choose(options.device),
    ):
        print(json.dumps(asdict(report)), flush=True)
    state = State(settings, widened(start.network).config, torch.device("cpu"))
    state.load(checkpoint)
    own = card(settings, len(simulated), options.nuclei, start)
    model = ShapeModel(state.average, RectifiedFlow(settings.shift), own)
    model.save(out / "model.safetensors", torch.float16)


if __name__ == "__main__":
    main()
