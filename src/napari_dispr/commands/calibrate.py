"""``napari-dispr calibrate``: fit a model to a few known cells, without training."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings


def add(commands: Any) -> None:
    command = common.add_command(
        commands,
        "calibrate",
        calibrate,
        "fit heights, intervals and warnings of a model to 5 or more cells of known shape; no training",
    )
    command.add_argument("model", help="name from `models list`, or a file")
    command.add_argument(
        "dataset", type=Path, help="folder with train/{obj,image,mask}, as `dataset` writes it"
    )
    command.add_argument("--out", type=Path, help="model file to write, NAME.safetensors")
    command.add_argument(
        "--name", help="instead of --out: name of the new model, which you can then choose in Predict"
    )
    command.add_argument("--licence", help="text for the card: licence of the model")
    command.add_argument("--data-note", help="text for the card: where the cells come from")
    common.add_settings(command, PredictSettings, {"device"})


def calibrate(options: argparse.Namespace) -> None:
    from napari_dispr.models.library import new_model_path

    if (options.out is None) == (options.name is None):
        raise InputError("Say where the new model goes: give either --out NAME.safetensors or --name NAME.")
    out = options.out if options.name is None else new_model_path(options.name)
    if not options.dataset.is_dir():
        raise InputError(f"There is no folder {options.dataset}: check its path.")
    from napari_dispr.training.calibrate import in_words, iter_calibrate, warnings_of

    model = common.run_with_progress(
        iter_calibrate(
            options.model,
            options.dataset,
            out,
            device=options.device or "auto",
            licence=options.licence or "",
            data_note=options.data_note or "",
        )
    )
    for warning in warnings_of(model.card):
        common.warn(warning)
    print(f"{model.name}: {out}")
    print(in_words(model.card))
