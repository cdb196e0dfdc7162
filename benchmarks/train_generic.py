"""Train the shipped model ``generic`` on simulated cells of many kinds and on real nuclei.

    python benchmarks/train_generic.py NUCLEI --out RUN
    python benchmarks/train_generic.py NUCLEI --out RUN --resume

NUCLEI is the folder of ``benchmarks/real_nuclei.py``, of which some stacks are left out for good.
``benchmarks/calibrate_generic.py`` writes what these say into the card of the model.
"""

import argparse
from pathlib import Path

import torch
from real_nuclei import LEFT_OUT, SOURCES, STACKS, nuclei_as_they_are, nuclei_to_train_on
from training_run import FREE, add_options, saved_cells, trained

from napari_dispr.card import Card, Quality
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import DEFAULT
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.models.library import load_model
from napari_dispr.settings import TrainSettings
from napari_dispr.synthesis.generic import KINDS, generic_training_cells

LIMITS = (
    "For nuclei and whole cells of blob-like shape, cut near their middle, as long as there is no model for "
    "yours. How tall such a shape is can hardly be read from a section: calibrate it with some cells of your "
    "own whose 3D shape you know, or train on them, as soon as you have them."
)
#: Without the two planes for the true size: it says nothing about cells in general.
PLANES = 4


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nuclei", type=Path, help="folder with image/ and labels/")
    parser.add_argument("--start", default="generic", help="model to start from: a name or a file (generic)")
    parser.add_argument("--simulated", type=int, default=1200, help="simulated cells (1200)")
    parser.add_argument("--real", type=int, default=600, help="versions of real nuclei (600)")
    add_options(parser, FREE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainSettings(
        **{name: getattr(options, name) for name in FREE},
        resliced=0.05,
        blended=0.1,
        image_dropout=0.25,
        scale_dropout=0.7,  # most samples are as the scale "auto" shows cells
    )
    simulated = saved_cells(
        options.cells or options.out / "simulated.npz",
        lambda: generic_training_cells(options.simulated, seed=0),
    )
    real = nuclei_to_train_on(options.nuclei, options.real)
    print(f"{len(simulated)} simulated cells and {len(real)} versions of nuclei", flush=True)
    start = load_model(options.start)
    network = start.network.with_inputs(PLANES, DEFAULT.volumes)
    state = trained([*simulated, *real], settings, options, network.config, start=network)
    own = card(settings, len(simulated), options.nuclei, start)
    model = ShapeModel(state.average, RectifiedFlow(settings.shift), own)
    model.save(options.out / "model.safetensors", torch.float16)


if __name__ == "__main__":
    main()
