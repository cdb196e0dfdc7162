"""``napari-dispr evaluate``: errors against known 3D shapes, also by cross-validation."""

import argparse
import sys
from pathlib import Path
from typing import Any

from napari_dispr.commands.common import (
    add_command,
    add_settings,
    asked_to_stop,
    check_folder,
    given_settings,
    run_with_progress,
)
from napari_dispr.errors import InputError
from napari_dispr.settings import (
    CrossValidateSettings,
    EvaluateSettings,
    PredictSettings,
)

_GO_ON = "napari-dispr: saved; go on with the same command and --resume."


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "evaluate", evaluate, "errors against known 3D shapes")
    command.add_argument("dataset", type=Path, help="folder of train|test/{obj,image,mask}, or one such part")
    command.add_argument(
        "--methods",
        default="model,cylinder,ellipsoid",
        help="methods with commas between: model, fits, names or files of models, with folds also presets; "
        "the first is tested against the others (%(default)s)",
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--save-shapes", action="store_true", help="also write shapes/METHOD/NAME.tif")
    command.add_argument("--resume", action="store_true", help="go on with what --out holds")
    command.add_argument(
        "--class-table", type=Path, help="with folds: CSV of name and class (names without their last digits)"
    )
    command.add_argument(
        "--classes", help="with folds: test only cells of these, with commas between; all are trained on"
    )
    command.add_argument(
        "--training",
        default="",
        help="with folds: other settings of training, as steps=500,processes=1; of one method as "
        "shapr.minutes=30",
    )
    add_settings(command, EvaluateSettings)
    folds = CrossValidateSettings.model_fields["folds"]
    command.add_argument("--folds", metavar="N", help=folds.description)  # without it there are none
    add_settings(command, CrossValidateSettings, CrossValidateSettings.model_fields.keys() - {"folds"})
    add_settings(command, PredictSettings, set(PredictSettings.model_fields) - {"scale", "pixel_size"})


def evaluate(options: argparse.Namespace) -> None:
    """``napari-dispr evaluate``."""
    compared = given_settings(options, EvaluateSettings)
    given = {name: getattr(options, name) for name in PredictSettings.model_fields if name in options}
    settings = given_settings(
        argparse.Namespace(**{**given, "pixel_size": None, "scale": None}), PredictSettings
    )
    check_folder(options.out)
    from napari_dispr.cells.folders import read_dataset, read_notes
    from napari_dispr.evaluation.evaluate import iter_evaluate, methods_of, voxel_of

    size, unit = voxel_of(read_notes(options.dataset), compared.pixel_size)
    asked: dict[str, Any] = {
        "definitions": compared.definitions,
        "voxel_size": size,
        "unit": unit,
        "save_shapes": options.save_shapes,
    }
    if options.folds is not None:
        _cross_validate(options, settings, asked)
        return
    for name in ("preset", "init", "minutes", "fold", "classes", "class_table", "training"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} is of training: give --folds with it.")
    methods = methods_of(_names(options.methods), settings)
    events = iter_evaluate(
        read_dataset(options.dataset, need_objects=True),
        methods,
        members=settings.members,
        seed=settings.seed,
        out=options.out,
        resume=options.resume,
        **asked,
    )
    try:
        summary = run_with_progress(events)
    except KeyboardInterrupt:
        print(_GO_ON, file=sys.stderr)
        raise
    _tell(summary, options.out)


def _cross_validate(options: argparse.Namespace, settings: PredictSettings, asked: dict[str, Any]) -> None:
    if options.model is not None:
        raise InputError("With --folds the model is trained anew: give --init to say from which it begins.")
    from napari_dispr.evaluation.cross_validation import iter_cross_validate

    with asked_to_stop() as signals:
        events = iter_cross_validate(
            options.dataset,
            options.out,
            _names(options.methods),
            settings=given_settings(options, CrossValidateSettings),
            predict=settings,
            class_table=options.class_table,
            classes=None if options.classes is None else _names(options.classes),
            training=_training(options.training),
            resume=options.resume,
            stop=lambda: bool(signals),
            **asked,
        )
        summary = run_with_progress(events, _say)
    if summary is None:
        print(_GO_ON, file=sys.stderr)
        raise KeyboardInterrupt
    _tell(summary, options.out)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _training(text: str) -> dict[str, Any]:
    """Settings of training that were given as ``name=value,name=value``."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(not value for _, _, value in pairs):
        raise InputError(f"--training is {text!r}: give settings of training, as steps=500,processes=1.")
    return {name.strip(): None if value == "none" else value for name, _, value in pairs}


def _say(event: Any) -> None:
    """Where the training of a fold is."""
    from tqdm import tqdm

    kind = type(event).__name__
    if kind == "FoldBegins":
        tqdm.write(f"fold {event.fold} of {event.folds}: {event.method}, {event.cells} cells", sys.stderr)
    elif kind == "Ended" and event.model:
        tqdm.write(f"  {event.reason}: {event.model}", sys.stderr)


def _tell(summary: dict[str, Any], out: Path) -> None:
    from napari_dispr.evaluation.evaluate import FIGURE, TABLE
    from napari_dispr.evaluation.summary import summary_table

    print(summary_table(summary))
    print(f"\n{out / TABLE} has the tables for a paper, {out / FIGURE} the figure.")
