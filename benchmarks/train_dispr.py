"""Train DISPR as published without every fifth cell, and evaluate it on the cells held out.

    python benchmarks/train_dispr.py DATASET --out RUN [--minutes 13] [--sampler ddim --evaluations 50]
    python benchmarks/train_dispr.py DATASET --out RUN --resume

The network, loss and optimiser are those of the preset ``dispr``; the cells held out are those of
``train_red_blood_cell.py``. Like the original, it samples with the weights of the last step: after 8,500
steps their moving average still holds 43 % of the first weights. After ``--minutes`` of training the steps so
far are evaluated; ``--resume`` goes on with the others. The paper samples with ddpm and 1000 evaluations.
"""

import argparse
import time
from pathlib import Path

import torch
from train_red_blood_cell import ATTRIBUTION, check_unseen, split
from training_run import trained

from napari_dispr.card import Card
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import NetworkConfig
from napari_dispr.diffusion.original import dispr_qualities
from napari_dispr.diffusion.process import GaussianDiffusion
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.evaluation.summary import summary_table
from napari_dispr.models.sampling import as_method
from napari_dispr.settings import PredictSettings, TrainSettings
from napari_dispr.training.objectives import topology_of
from napari_dispr.training.plan import preset_settings
from napari_dispr.training.train import prepared_cell

#: A network for a trial without a GPU.
TINY = NetworkConfig(channel_mult=(1,), attention_downsamplings=(), fold=8, isotropic=True)


def card(steps: int, settings: TrainSettings, train: list[CellFile]) -> Card:
    return Card(
        name=f"dispr-{steps}",
        description=f"DISPR's network and process, trained for {steps:,} steps.",
        licence="BSD-3-Clause",
        attribution=ATTRIBUTION,
        representation="occupancy",
        qualities=dispr_qualities(1000),
        training={
            "cells": [cell.name for cell in train],
            "fingerprints": sorted(cell.fingerprint for cell in train),
            "steps": steps,
            "runs": [settings.model_dump()],
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=8500)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="longest training in this call")
    parser.add_argument("--sampler", default="ddpm")
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to try this script")
    options = parser.parse_args()
    if options.tiny:  # it folds the volume, and such networks would sample in bfloat16
        devices.fast_dtype = lambda device: torch.float32
    out = options.out
    settings = preset_settings("dispr", steps=options.steps)
    assert isinstance(settings, TrainSettings)
    config = TINY if options.tiny else topology_of(settings)
    train, held_out = split(read_dataset(options.dataset, part="train", need_objects=True))
    print(f"{len(train)} cells to train on, {len(held_out)} held out", flush=True)
    until = time.monotonic() + 60 * options.minutes
    cells = [prepared_cell(cell, settings) for cell in train]
    state = trained(cells, settings, options, config, stop=lambda: time.monotonic() > until)
    model = ShapeModel(state.network, GaussianDiffusion(), card(state.step, settings, train))
    model.save(out / "model.safetensors", torch.float16)
    model = ShapeModel.load(out / "model.safetensors")
    check_unseen(model, held_out)
    how = {"sampler": options.sampler, "steps": options.evaluations, "device": options.device}
    method = as_method(model, PredictSettings(quality="paper", **how))
    place = out / f"held_out_{state.step}_{options.sampler}_{options.evaluations}"
    resume = (place / "errors.partial.csv").exists()
    summary = evaluate(
        held_out, {model.name: method}, members=options.members, out=place, resume=resume, save_shapes=True
    )
    print(summary_table(summary))


if __name__ == "__main__":
    main()
