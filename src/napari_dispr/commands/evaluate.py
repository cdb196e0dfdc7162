"""``napari-dispr evaluate``: errors against known 3D shapes."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands.common import (
    add_command,
    add_settings,
    check_folder,
    given_settings,
    run_with_progress,
)
from napari_dispr.settings import PredictSettings


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "evaluate", evaluate, "errors against known 3D shapes")
    command.add_argument("dataset", type=Path, help="folder of train|test/{obj,image,mask}, or one such part")
    command.add_argument(
        "--methods",
        default="model,cylinder,ellipsoid",
        help="methods with commas between: model, fits, names or files of models (%(default)s)",
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--save-shapes", action="store_true", help="also write shapes/METHOD/NAME.tif")
    add_settings(command, PredictSettings, set(PredictSettings.model_fields) - {"scale", "pixel_size"})


def evaluate(options: argparse.Namespace) -> None:
    """``napari-dispr evaluate``."""
    settings = given_settings(options, PredictSettings)
    check_folder(options.out)
    from napari_dispr.cells.folders import read_dataset
    from napari_dispr.evaluation import iter_evaluate, summary_table
    from napari_dispr.methods import methods_of

    methods = methods_of(options.methods.split(","), settings)
    events = iter_evaluate(
        read_dataset(options.dataset, need_objects=True),
        methods,
        members=settings.members,
        seed=settings.seed,
        out=options.out,
        save_shapes=options.save_shapes,
    )
    print(summary_table(run_with_progress(events)))
