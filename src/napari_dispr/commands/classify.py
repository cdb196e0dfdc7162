"""``napari-dispr classify``: the classification experiment on a dataset with classes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands.common import (
    add_command,
    add_settings,
    check_folder,
    given_settings,
    read_real,
    run_with_progress,
)
from napari_dispr.errors import InputError
from napari_dispr.settings import ClassifySettings

if TYPE_CHECKING:
    from napari_dispr.evaluation.classification import PredictedShapes


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "classify", classify, "do predicted shapes help to classify cells?")
    command.add_argument("dataset", type=Path, help="folder of train|test/{obj,image,mask}, or one such part")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument(
        "--class-table", type=Path, help="CSV of name and class (names without their last digits)"
    )
    command.add_argument(
        "--shapes",
        type=Path,
        nargs="+",
        default=[],
        metavar="EVALUATION/shapes/METHOD",
        help="predicted shapes of a cross-validation, one folder a method",
    )
    command.add_argument(
        "--folds",
        type=Path,
        metavar="EVALUATION/folds.csv",
        help="the folds of that cross-validation (beside its shapes)",
    )
    command.add_argument(
        "--strict",
        type=Path,
        metavar="DIR",
        help="of inner cross-validations: DIR/FOLD is one of all cells but those of that test fold",
    )
    add_settings(command, ClassifySettings)


def classify(options: argparse.Namespace) -> None:
    """``napari-dispr classify``."""
    settings = given_settings(options, ClassifySettings)
    check_folder(options.out)
    beside = [folder.parent.parent / "folds.csv" for folder in options.shapes]
    folds = options.folds or next((path for path in beside if path.is_file()), None)
    from napari_dispr.evaluation.classification import iter_classify
    from napari_dispr.evaluation.classification_report import markdown

    events = iter_classify(
        read_real(options.dataset),
        shapes=_shapes(options.shapes, options.strict),
        folds=folds,
        class_table=options.class_table,
        out=options.out,
        **settings.model_dump(),
    )
    print(markdown(run_with_progress(events)))


def _shapes(folders: list[Path], strict: Path | None) -> "list[PredictedShapes]":
    from napari_dispr.evaluation.classification import PredictedShapes

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}: evaluate with --folds and --save-shapes first.")
    found = [PredictedShapes(folder.name, folder) for folder in folders]
    if strict is not None:
        methods = sorted({place.name for place in strict.glob("*/shapes/*") if place.is_dir()})
        if not methods:
            raise InputError(f"{strict} holds no FOLD/shapes/METHOD: evaluate each into a folder of its own.")
        found += [PredictedShapes(method, strict, inner=True) for method in methods]
    return found
