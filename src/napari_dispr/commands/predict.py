"""``napari-dispr predict``: ensembles of the cells in a picture or in a dataset folder."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = common.add_command(
        commands, "predict", predict, "predict 3D shapes of cells; then use `report`, `export` or `rank`"
    )
    command.add_argument(
        "image",
        type=Path,
        help="2D picture (the pixel size that it states is used), or a dataset folder with image/ and mask/",
    )
    command.add_argument("labels", type=Path, nargs="?", help="segmentation of the picture, one value a cell")
    command.add_argument("--out", type=Path, required=True, help="folder for the results")
    command.add_argument("--cells", help="labels of the cells, such as 3,7 (all)")
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a prediction in the folder (default: continue it if it was made in the same way)",
    )
    common.add_split(command)
    common.add_settings(command, PredictSettings)


def predict(options: argparse.Namespace) -> None:
    """``napari-dispr predict``."""
    settings = common.given_settings(options, PredictSettings)
    common.check_folder(options.out, "prediction.json")
    if options.labels is None and not options.image.is_dir():
        raise InputError(f"There are no labels for {options.image}: give its segmentation after it.")
    import numpy as np

    from napari_dispr.models.library import load_model
    from napari_dispr.prediction.predict import iter_predict, iter_predict_crops

    earlier = None if options.overwrite else common.earlier_prediction(options.out)
    if options.labels is None:
        from napari_dispr.cells.folders import read_dataset

        for name in ("cells", "scale", "split"):
            if getattr(options, name):
                raise InputError(
                    f"--{name} is not for dataset folders, whose cells are used as they are: leave it out."
                )
        files = read_dataset(options.image)
        model = load_model(settings.model)
        names = {label: file.name for label, file in enumerate(files, start=1)}
        if len(set(names.values())) < len(names):
            raise InputError(
                f"{options.image} has cells with the same name in train and test: give one of these folders."
            )
        crops = [file.crop(label) for label, file in enumerate(files, start=1)]
        size = settings.pixel_size or 1.0
        events = iter_predict_crops(
            crops,
            model,
            settings,
            image_to_world=np.diag([size, size, 1.0]),
            unit=model.card.unit if settings.pixel_size else "pixel",
            names=names,
            earlier=earlier,
        )
    else:
        image = common.read_picture(options.image)
        labels = common.read_picture(options.labels, labels=True)
        frame: dict[str, Any] = {}
        if settings.pixel_size is None and (sides := common.stated_pixel_size(options.image, options.labels)):
            frame = {"image_to_world": np.diag([*sides, 1.0]), "unit": common.UNIT}
        events = iter_predict(
            image,
            common.split_labels(labels, options, options.labels),
            cells=common.whole_numbers("--cells", options.cells),
            earlier=earlier,
            **frame,
            **settings.model_dump(),
        )
    inputs: dict[str, Any] = (
        {"dataset": str(options.image)}
        if options.labels is None
        else {"image_file": str(options.image), "labels_file": str(options.labels)}
    )
    if options.split:
        inputs["split"] = True
    prediction = common.run_and_save(events, options.out, inputs, added_to=earlier)
    for warning in prediction.warnings:
        common.warn(warning)
    print(f"{len(prediction)} cells, {prediction.members} members each: {options.out}")
