"""``napari-dispr denoise``: the steps from noise to shape of a member of a saved prediction."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import counted
from napari_dispr.settings import PredictSettings


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "denoise", denoise, "write the steps from noise to shape of a member"
    )
    command.add_argument("folder", type=Path, help="folder of a saved prediction")
    command.add_argument("--cell", type=int, required=True, help="label of the cell")
    command.add_argument(
        "--member", type=int, default=0, help=f"number of the member, {common.FROM_0} (%(default)s)"
    )
    command.add_argument("--out", type=Path, required=True, help="file to write: NAME.ome.tif or NAME.png")
    command.add_argument(
        "--model", help="file of the model of the prediction, if `models list` does not have it"
    )
    command.add_argument(
        "--steps",
        type=int,
        help="evaluations of the network; more make a finer path (default: as for the member)",
    )
    common.add_settings(command, PredictSettings, {"device"})


def denoise(options: argparse.Namespace) -> None:
    from napari_dispr.shapes.denoising import TITLE

    is_picture = options.out.suffix.lower() == ".png"
    common.check_suffix(options.out, ".tif", ".tiff", ".png", mark="napari-dispr" if is_picture else TITLE)
    from napari_dispr.prediction.denoising import iter_denoising
    from napari_dispr.prediction.saving import load_prediction

    prediction = load_prediction(options.folder)
    path = common.run_with_progress(
        iter_denoising(
            prediction,
            options.cell,
            options.member,
            steps=options.steps,
            model=options.model,
            device=options.device or "auto",
        )
    )
    if is_picture:
        from napari_dispr.export.pictures import save_denoising

        save_denoising(options.out, path)
    else:
        path.save_tiff(options.out)
    rejected = options.member in prediction.rejected.get(options.cell, ())
    end = "the member" if path.is_member else "a rejected member" if rejected else "near the member"
    print(f"{counted(len(path), 'frame')}, from noise to {end}: {options.out}")
