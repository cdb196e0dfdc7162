"""``napari-dispr predict``: ensembles of the cells in a picture or in a dataset folder."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.cells.file_pairs import is_zarr
from napari_dispr.commands import common
from napari_dispr.errors import InputError, counted
from napari_dispr.settings import PredictSettings

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_dispr.prediction.result import Prediction


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "predict", predict, "predict 3D shapes of cells; then use `report`, `export` or `rank`"
    )
    command.add_argument(
        "image",
        type=Path,
        help="2D picture (the pixel size that it states is used), 3D stack (with --planes), or a dataset "
        "folder with image/ and mask/",
    )
    command.add_argument(
        "labels", type=Path, nargs="?", help="segmentation of the picture, one value per cell"
    )
    command.add_argument("--out", type=Path, required=True, help="folder for the results")
    command.add_argument("--cells", help="labels of the cells, such as 3,7 (all)")
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a prediction in the folder (default: continue it if it was made in the same way)",
    )
    command.add_argument(
        "--planes",
        metavar="all|Z,Z,...",
        help="planes of a stack from which each cell is predicted: all (that have labels), or their numbers "
        "from 0, such as 3,5,9; a cell has the same label in all its planes",
    )
    common.add_spacing(command)
    common.add_channel(command)
    common.add_split(command)
    common.add_settings(command, PredictSettings)


def predict(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, PredictSettings)
    common.check_folder(options.out, "prediction.json")
    if options.labels is None and (not options.image.is_dir() or is_zarr(options.image)):
        raise InputError(f"There are no labels for {options.image}: give its segmentation after it.")
    if options.planes is None and (options.spacing, options.unit) != (None, None):
        raise InputError("--spacing and --unit are for stacks: give --planes, too, or leave them out.")
    from napari_dispr.models.library import read_card
    from napari_dispr.prediction.growing import iter_saved
    from napari_dispr.prediction.saving import earlier_prediction

    try:
        earlier = None if options.overwrite else earlier_prediction(options.out)
    except InputError as error:
        raise InputError(f"{error} Choose another folder, or --overwrite to replace it.") from None
    # Absolute, so that the files are found when the prediction is opened from another folder.
    inputs: dict[str, Any]
    if options.labels is None:
        inputs = {"dataset": str(options.image.absolute())}
        events = _predicted_dataset(options, settings, earlier)
    else:
        from napari_dispr.prediction.predict import iter_predict

        files = {"image_file": options.image, "labels_file": options.labels}
        inputs = {name: str(file.absolute()) for name, file in files.items()}
        if options.split:
            inputs["split"] = True
        if options.channel is not None:
            inputs["channel"] = options.channel
        if options.planes is None:
            picture = _picture(options, settings)
        else:
            picture, chosen = _stack(options)
            inputs |= chosen
        cells = common.whole_numbers("--cells", options.cells)
        events = iter_predict(cells=cells, earlier=earlier, **picture, **settings.model_dump())
    prediction = common.run_with_progress(iter_saved(events, options.out, inputs, added_to=earlier))
    card = read_card(settings.model)
    if options.labels and prediction.unit == "pixel" and settings.scale is None and card.voxel_size:
        common.warn(
            f"{card.name} knows how large its cells are, but {options.image} does not state the size of a "
            f"pixel: give --pixel-size, in {card.unit}s, for better shapes."
        )
    for warning in prediction.warnings:
        common.warn(warning)
    print(f"{counted(len(prediction), 'cell')}, {counted(prediction.members, 'member')} each: {options.out}")


def _predicted_dataset(
    options: argparse.Namespace, settings: PredictSettings, earlier: "Prediction | None"
) -> "Generator[Any, None, Prediction]":
    """Predict the cells of a dataset folder; yields the events of `iter_predict_crops`."""
    import numpy as np

    from napari_dispr.cells.folders import read_dataset
    from napari_dispr.models.library import load_model
    from napari_dispr.prediction.predict import iter_predict_crops

    for name in ("cells", "channel", "scale", "split", "planes"):
        if getattr(options, name) not in (None, False):
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
    size = settings.pixel_size or 1.0
    return iter_predict_crops(
        [file.crop(label) for label, file in enumerate(files, start=1)],
        model,
        settings,
        image_to_world=np.diag([size, size, 1.0]),
        unit=model.card.unit if settings.pixel_size else "pixel",
        names=names,
        earlier=earlier,
    )


def _picture(options: argparse.Namespace, settings: PredictSettings) -> dict[str, Any]:
    """Arguments of `iter_predict` for a picture of one plane."""
    import numpy as np

    from napari_dispr.cells.pictures import SERIES, axes_of, read_plane

    if planes := [length for letter, length in axes_of(options.labels).items() if letter in SERIES]:
        raise InputError(
            f"{options.labels} has {planes[0]} planes: give --planes all, or the numbers of the planes to "
            "use, such as --planes 3,5,9. Of a time series save one time point, or use napari-dispr batch."
        )
    labels = read_plane(options.labels, labels=True)
    picture: dict[str, Any] = {
        "image": read_plane(options.image, channel=options.channel),
        "labels": common.split_labels(labels, options, options.labels),
    }
    if settings.pixel_size is None and (sides := common.stated_pixel_size(options.image, options.labels)):
        picture |= {"image_to_world": np.diag([*sides, 1.0]), "unit": common.UNIT}
    return picture


def _stack(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `iter_predict` for the chosen planes of a stack, and what was chosen."""
    import numpy as np

    from napari_dispr.cells.stack_files import read_stack
    from napari_dispr.cells.stacks import checked_stack

    spacing, unit = common.given_spacing(options)
    stack = read_stack(options.image, options.labels, spacing, unit, channel=options.channel)
    if stack.unit == "pixel" and spacing is None:
        raise InputError(
            f"{options.image} does not say how far its planes are apart: give --spacing Z,Y,X, the distances "
            "between its voxels."
        )
    if stack.note:
        common.warn(stack.note)
    stack = checked_stack(replace(stack, labels=common.split_labels(stack.labels, options, options.labels)))
    assert stack.image is not None
    planes = _planes(options.planes, stack.labels)
    down, *in_plane = stack.spacing
    picture = {
        "image": stack.image[planes],
        "labels": stack.labels[planes],
        "depths": [float(f"{plane * down:.12g}") for plane in planes],
        "image_to_world": np.diag([*in_plane, 1.0]),
        "unit": stack.unit,
    }
    return picture, {"planes": planes, "spacing": list(stack.spacing)}


def _planes(text: str, labels: "NDArray[Any]") -> list[int]:
    """The planes in the option ``--planes``."""
    from napari_dispr.cells.planes import known_planes

    planes, known = common.whole_numbers("--planes", text), known_planes(labels)
    if planes is None:
        return known
    labelled = [z for z, plane in enumerate(labels) if plane.any()]
    for plane in planes:
        if not 0 <= plane < len(labels):
            raise InputError(
                f"There is no plane {plane}: choose among the planes 0 to {len(labels) - 1} of the stack."
            )
        if plane not in (*labelled, *known):
            raise InputError(
                f"Plane {plane} has no labels: leave it out, or segment the cells in it. Labels are in the "
                f"planes {', '.join(map(str, labelled))}."
            )
        if planes.count(plane) > 1:
            raise InputError(f"--planes has plane {plane} twice: give each plane once.")
    return sorted(planes)
