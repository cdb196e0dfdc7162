"""``napari-dispr predict``: the ensembles of a picture's cells, or of a dataset folder's."""

import argparse
import sys
from pathlib import Path
from typing import Any

from napari_dispr.commands.common import (
    add_command,
    add_settings,
    check_folder,
    given_settings,
    read_picture,
    run_and_save,
    whole_numbers,
)
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "predict", predict, "draw the ensembles of cells")
    command.add_argument("image", type=Path, help="2D picture, or a dataset folder of image/ and mask/")
    command.add_argument("labels", type=Path, nargs="?", help="its segmentation, one value a cell")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--cells", help="labels of the cells, as 3,7 (all)")
    add_settings(command, PredictSettings)


def predict(options: argparse.Namespace) -> None:
    """``napari-dispr predict``."""
    settings = given_settings(options, PredictSettings)
    check_folder(options.out)
    if options.labels is None and not options.image.is_dir():
        raise InputError(f"{options.image} comes without labels: give its segmentation after it.")
    from napari_dispr.models.library import load_model
    from napari_dispr.prediction.predict import iter_predict, iter_predict_crops

    if options.labels is None:
        import numpy as np

        from napari_dispr.cells.folders import read_dataset

        for name in ("cells", "scale"):
            if getattr(options, name) is not None:
                raise InputError(f"The cells of a dataset folder are taken as they are: leave --{name} out.")
        files = read_dataset(options.image)
        model = load_model(settings.model)
        names = {label: file.name for label, file in enumerate(files, start=1)}
        if len(set(names.values())) < len(names):
            raise InputError(f"{options.image} has cells of one name in train and test: give one part of it.")
        crops = [file.crop(label) for label, file in enumerate(files, start=1)]
        size = settings.pixel_size or 1.0
        events = iter_predict_crops(
            crops,
            model,
            settings,
            image_to_world=np.diag([size, size, 1.0]),
            unit=model.card.unit if settings.pixel_size else "pixel",
            names=names,
        )
    else:
        events = iter_predict(
            read_picture(options.image),
            read_picture(options.labels),
            cells=whole_numbers("--cells", options.cells),
            **settings.model_dump(),
        )
    inputs = (
        {"dataset": options.image}
        if options.labels is None
        else {"image_file": options.image, "labels_file": options.labels}
    )
    prediction = run_and_save(events, options.out, {kind: str(path) for kind, path in inputs.items()})
    for warning in prediction.warnings:
        print(f"napari-dispr: {warning}", file=sys.stderr)
    print(f"{len(prediction)} cells, {prediction.members} members each: {options.out}")
