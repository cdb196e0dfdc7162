"""Train the shipped model ``generic`` on simulated cells of many kinds, without any real cell.

    python benchmarks/train_generic.py --out RUN            # simulates the cells first
    python benchmarks/train_generic.py --out RUN --resume   # continues from the last state

The simulated cells are saved in RUN/cells.npz.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from napari_dispr.card import Card, Quality
from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import DEFAULT
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.files import written_aside
from napari_dispr.settings import TrainSettings
from napari_dispr.synthesis.generic import KINDS, generic_training_cells
from napari_dispr.training.loop import iter_optimise
from napari_dispr.training.state import State

LIMITS = (
    "For nuclei and whole cells of blob-like shape, cut near their middle, as long as there is no model for "
    "yours. It has seen simulated shapes and pictures only, and how tall such a shape is can hardly be told "
    "from a section: train on some 3D stacks of your own cells as soon as you have them."
)


def simulated(count: int, file: Path) -> list[TrainingCell]:
    """The training cells, read from ``file`` if it exists."""
    names = ("mask", "image", "signed_distance", "surface")
    if not file.exists():
        cells = list(generic_training_cells(count, seed=0))
        with written_aside(file) as aside, aside.open("wb") as out:
            arrays = {f"{i}.{n}": getattr(c, n) for i, c in enumerate(cells) for n in names}
            np.savez(out, allow_pickle=False, **arrays, names=np.array([c.name for c in cells]))
    with np.load(file) as arrays:
        return [
            TrainingCell(str(name), *(arrays[f"{i}.{n}"] for n in names))
            for i, name in enumerate(arrays["names"][:count])
        ]


def card(settings: TrainSettings, cells: list[TrainingCell]) -> Card:
    return Card(
        name="generic",
        description="Nuclei and cells of many shapes, with a picture or with the mask alone.",
        licence="BSD-3-Clause",
        attribution=f"Trained on {len(cells)} simulated cells of this package (kinds: {', '.join(KINDS)}).",
        limits=LIMITS,
        truncation=settings.truncation,
        typical_extent=44.0,
        qualities={
            "fast": Quality(sampler="euler", steps=1),
            "balanced": Quality(sampler="euler", steps=4),
        },
        training={"cells": [], "simulated": len(cells), "fingerprints": [], "runs": [settings.model_dump()]},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, value in {"steps": 1700, "scored": 0.25, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainSettings(
        steps=options.steps,
        scored=options.scored,
        seed=options.seed,
        resliced=0.05,
        blended=0.1,
        image_dropout=0.25,
        scale_dropout=1.0,  # how large cells really are says nothing here
    )
    options.out.mkdir(parents=True, exist_ok=True)
    cells = simulated(options.cells, options.out / "cells.npz")
    checkpoint = options.out / "checkpoint.pt"
    for report in iter_optimise(cells, checkpoint, settings, resume=options.resume):
        print(json.dumps(asdict(report)), flush=True)
    state = State(settings, DEFAULT, torch.device("cpu"))
    state.load(checkpoint)
    # It was trained without the true size of cells, so the input planes for that are removed.
    network = state.average.with_inputs(4, DEFAULT.volumes)
    model = ShapeModel(network, RectifiedFlow(settings.shift), card(settings, cells))
    model.save(options.out / "model.safetensors", torch.float16)


if __name__ == "__main__":
    main()
