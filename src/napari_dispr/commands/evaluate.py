"""``napari-dispr evaluate``: errors against known 3D shapes, also by cross-validation."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.files import folder_locked
from napari_dispr.settings import (
    CrossValidateSettings,
    EvaluateSettings,
    PredictSettings,
    checked_settings,
)

if TYPE_CHECKING:
    from napari_dispr.models.method import Method

_STOPPED = "saved; continue with the same command and --resume."
#: One of these is in the folder of an evaluation.
_FILES = ("cross_validation.json", "evaluation.json", "evaluation.partial.json")
#: Options that have a meaning only with --folds.
_FOLD_OPTIONS = ("preset", "init", "minutes", "fold", "classes", "class_table", "training")


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "evaluate", evaluate, "compare predicted with known 3D shapes; writes tables and figures"
    )
    common.add_dataset(command)
    command.add_argument(
        "--methods",
        default="model,cylinder,ellipsoid",
        help="methods, separated by commas: model, fits, names or files of models; with --folds presets; "
        "the first is tested against each other one (%(default)s)",
    )
    command.add_argument("--save-shapes", action="store_true", help="also write shapes/METHOD/NAME.tif")
    command.add_argument("--resume", action="store_true", help="continue the evaluation in --out")
    command.add_argument("--classes", help="with --folds: test only these classes, separated by commas")
    command.add_argument(
        "--training",
        default="",
        help="with --folds: settings of `train`, such as steps=500,processes=1; for one method: "
        "shapr.minutes=30",
    )
    command.add_argument(
        "--steps",
        help="evaluations of the network for each shape, in place of those of the quality; several, such as "
        "1,2,4,8, are compared with each other and plotted in steps.png",
    )
    command.add_argument(
        "--planes",
        help="numbers of planes, such as 1,2,3,5,9, compared and plotted in planes.png: the methods "
        "also get sections of the object at further depths; compare with the method interpolation",
    )
    common.add_settings(command, EvaluateSettings)
    about = CrossValidateSettings.about("folds")
    command.add_argument("--folds", metavar="N", help=about)  # no default: without it, no folds
    common.add_settings(command, CrossValidateSettings, CrossValidateSettings.model_fields.keys() - {"folds"})
    sampling = PredictSettings.model_fields.keys() - {"scale", "pixel_size", "picture", "steps"}
    common.add_settings(command, PredictSettings, sampling)


def evaluate(options: argparse.Namespace) -> None:
    compared, each = common.given_settings(options, EvaluateSettings), _sampling(options)
    settings = each[0]
    common.check_folder(options.out, *_FILES)
    if not options.resume and any((options.out / name).exists() for name in _FILES):
        raise InputError(
            f"{options.out} already holds an evaluation: continue it with --resume, or choose another folder."
        )
    from napari_dispr.cells.folders import read_dataset, read_notes
    from napari_dispr.evaluation.evaluate import iter_evaluate, voxel_of
    from napari_dispr.models.sampling import unused_settings

    size, unit = voxel_of(read_notes(options.dataset), compared.pixel_size)
    how: dict[str, Any] = {
        "definitions": compared.definitions,
        "voxel_size": size,
        "unit": unit,
        "save_shapes": options.save_shapes,
    }
    if options.folds is not None:
        if options.planes:
            raise InputError("--planes is not for cross-validation: leave it or --folds out.")
        _cross_validate(options, settings, how)
        return
    for name in _FOLD_OPTIONS:
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} is for cross-validation: give --folds as well.")
    planes = common.whole_numbers("--planes", options.planes)
    if planes and len(each) > 1:
        raise InputError("--planes and several --steps cannot be compared at once: leave one out.")
    methods = _methods(options.methods, each)
    unused = [unused_settings(method, settings) for method in methods.values()]
    if all(unused):
        common.warn(unused[0])
    if planes:
        from napari_dispr.evaluation.planes import in_planes

        methods = in_planes(methods, planes)
    events = iter_evaluate(
        read_dataset(options.dataset, need_objects=True),
        methods,
        members=settings.members,
        seed=settings.seed,
        out=options.out,
        resume=options.resume,
        **how,
    )
    try:
        with folder_locked(options.out):
            summary = common.run_with_progress(events)
    except KeyboardInterrupt:
        common.warn(_STOPPED)
        raise
    _print(summary, options.out)


def _sampling(options: argparse.Namespace) -> list[PredictSettings]:
    """How models are sampled, for each number of steps."""
    several = options.steps.split(",") if options.steps and options.folds is None else [options.steps]
    # The option pixel_size is not a setting of sampling here.
    given = {name: getattr(options, name) for name in PredictSettings.model_fields if name in options}
    given = {name: value for name, value in given.items() if value is not None and name != "pixel_size"}
    return [
        checked_settings(PredictSettings, given | ({} if steps is None else {"steps": steps}))
        for steps in dict.fromkeys(several)
    ]


def _methods(text: str, each: list[PredictSettings]) -> "dict[str, Method]":
    """The methods by name; a shape model is one method for each number of evaluations."""
    from napari_dispr.evaluation.evaluate import methods_of

    names = _names(text)
    if len(each) == 1:
        return methods_of(names, each[0])
    by_steps = [methods_of(names, settings) for settings in each]
    found: dict[str, Method] = {}
    for name in by_steps[0]:
        for methods in by_steps:
            steps = methods[name].provenance.get("steps")
            found.setdefault(f"{name} {steps}" if steps else name, methods[name])
    return found


def _cross_validate(options: argparse.Namespace, settings: PredictSettings, how: dict[str, Any]) -> None:
    if options.model is not None:
        raise InputError("With --folds the model is trained: give --init to choose the model to start from.")
    from napari_dispr.evaluation.cross_validation import iter_cross_validate

    with common.stop_signals() as signals:
        events = iter_cross_validate(
            options.dataset,
            options.out,
            _names(options.methods),
            settings=common.given_settings(options, CrossValidateSettings),
            predict=settings,
            class_table=options.class_table,
            classes=None if options.classes is None else _names(options.classes),
            training=_training(options.training),
            resume=options.resume,
            stop=lambda: bool(signals),
            **how,
        )
        summary = common.run_with_progress(events, _report_training)
    if summary is None:
        common.warn(_STOPPED)
        raise KeyboardInterrupt
    _print(summary, options.out)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _training(text: str) -> dict[str, Any]:
    """The settings in an option such as ``name=value,name=value``."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(not value for _, _, value in pairs):
        raise InputError(f"--training is {text!r}: give settings such as steps=500,processes=1.")
    return {name.strip(): None if value == "none" else value for name, _, value in pairs}


def _report_training(event: Any) -> None:
    from tqdm import tqdm

    from napari_dispr.evaluation.cross_validation import FoldStarted
    from napari_dispr.training.train import Ended

    if isinstance(event, FoldStarted):
        tqdm.write(f"fold {event.fold} of {event.folds}: {event.method}, {event.cells} cells", sys.stderr)
    elif isinstance(event, Ended) and event.model:
        tqdm.write(f"  {event.reason}: {event.model}", sys.stderr)


def _print(summary: dict[str, Any], out: Path) -> None:
    from napari_dispr.evaluation.report import FIGURE, TABLE
    from napari_dispr.evaluation.summary import summary_table

    print(summary_table(summary))
    print(f"\nTables: {out / TABLE}; figure: {out / FIGURE}")
