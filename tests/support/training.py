"""Short runs of the training loop with a tiny network."""

import torch

from napari_dispr.settings import TrainSettings
from napari_dispr.training.loop import iter_optimise
from support.models import TINY

SHORT = TrainSettings(steps=6, batch=2, warmup=2)
#: As little as can be trained.
LITTLE = {"steps": 4, "batch": 2, "validations": 2, "validation_cells": 1, "warmup": 1, "processes": 1}
CHECKPOINT = "checkpoint.pt"
#: Differs between two runs.
TIMES = {"clock"}


def content(folder):
    whole = torch.load(folder / CHECKPOINT, weights_only=True)
    return {name: value for name, value in whole.items() if name not in TIMES}


def train(cells, out, settings=SHORT, **options):
    return list(iter_optimise(cells, out / CHECKPOINT, settings, config=TINY, report_every=1, **options))
