"""``napari-dispr classify``: the classification experiment on a dataset with classes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.files import folder_locked
from napari_dispr.settings import ClassifySettings

if TYPE_CHECKING:
    from napari_dispr.evaluation.classification import PredictedShapes


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "classify", classify, "test whether predicted shapes help to classify cells"
    )
    common.add_dataset(command)
    command.add_argument(
        "--shapes",
        type=Path,
        nargs="+",
        default=[],
        metavar="EVALUATION/shapes/METHOD",
        help="predicted shapes from `evaluate --folds 5 --save-shapes`, one folder per method",
    )
    command.add_argument(
        "--folds",
        type=Path,
        metavar="EVALUATION/folds.csv",
        help="folds of that cross-validation (default: the folds.csv of its folder)",
    )
    command.add_argument(
        "--strict",
        type=Path,
        metavar="DIR",
        help="shapes of inner cross-validations: DIR/FOLD is one without the cells of this test fold",
    )
    common.add_settings(command, ClassifySettings)


def classify(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, ClassifySettings)
    from napari_dispr.evaluation.classification import FEATURES_FILE, iter_classify
    from napari_dispr.evaluation.shape_features import is_of_features

    # An interrupted run leaves only the table, and the user may have one of this name.
    is_ours = is_of_features(options.out / FEATURES_FILE)
    common.check_folder(options.out, FEATURES_FILE if is_ours else "classification.json")
    shapes = [folder.absolute() for folder in options.shapes]
    tables = [folder.parent.parent / "folds.csv" for folder in shapes]
    folds = options.folds or next((path for path in tables if path.is_file()), None)
    from napari_dispr.evaluation.classification_report import markdown

    events = iter_classify(
        common.read_real_cells(options.dataset),
        shapes=_shapes(shapes, options.strict),
        folds=folds,
        class_table=options.class_table,
        out=options.out,
        **settings.model_dump(),
    )
    with folder_locked(options.out):
        print(markdown(common.run_with_progress(events)))


def _shapes(folders: list[Path], strict: Path | None) -> "list[PredictedShapes]":
    from napari_dispr.evaluation.classification import PredictedShapes

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}: run evaluate --folds --save-shapes first.")
    found = [PredictedShapes(folder.name, folder) for folder in folders]
    if strict is not None:
        methods = sorted({place.name for place in strict.glob("*/shapes/*") if place.is_dir()})
        if not methods:
            raise InputError(f"{strict} holds no FOLD/shapes/METHOD: see docs/experiments.md.")
        found += [PredictedShapes(method, strict, inner=True) for method in methods]
    return found
