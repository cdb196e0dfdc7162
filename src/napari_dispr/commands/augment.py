"""``napari-dispr augment``: more training cells of rare classes."""

import argparse
import sys
from pathlib import Path
from typing import Any

from napari_dispr.commands.common import (
    add_command,
    add_settings,
    check_folder,
    given_settings,
    read_real,
    run_with_progress,
)
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings

_DRAWN = {"model", "quality", "sampler", "steps", "seed", "device"}


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "augment", augment, "more training cells of rare classes, by prediction")
    command.add_argument("dataset", type=Path, help="folder of train|test/{obj,image,mask}, or one such part")
    command.add_argument("--out", type=Path, required=True, help="folder to write to, or to go on with")
    command.add_argument(
        "--class-table", type=Path, help="CSV of name and class (names without their last digits)"
    )
    number = command.add_mutually_exclusive_group()
    number.add_argument("--balance", action="store_true", help="as many of each as of the largest (so)")
    number.add_argument("--per-class", metavar="N", help="so many cells of each class")
    command.add_argument("--at-most", metavar="N", help="shapes predicted of one cell (20)")
    command.add_argument(
        "--model", metavar="MODEL", help="shape model: a name of the list, or a model file (red-blood-cell)"
    )
    add_settings(command, PredictSettings, _DRAWN - {"model"})


def augment(options: argparse.Namespace) -> None:
    """``napari-dispr augment``."""
    settings = given_settings(options, PredictSettings)
    per_class, at_most = (
        None if text is None else _number(name, text)
        for name, text in (("--per-class", options.per_class), ("--at-most", options.at_most))
    )
    check_folder(options.out)
    from napari_dispr.cells.folders import read_notes
    from napari_dispr.synthesis.balance import iter_augment
    from napari_dispr.synthesis.balance_plan import AT_MOST

    events = iter_augment(
        read_real(options.dataset),
        options.out,
        class_table=options.class_table,
        per_class=per_class,
        at_most=AT_MOST if at_most is None else at_most,
        notes=read_notes(options.dataset),
        **settings.model_dump(include=_DRAWN),
    )
    done = run_with_progress(events)
    for warning in done["warnings"]:
        print(f"napari-dispr: {warning}", file=sys.stderr)
    for kind, count in done["after"].items():
        print(f"{kind}: {count} cells, {done['before'][kind]} of them real")
    print(f"{sum(done['after'].values())} cells, {done['predicted']} of them predicted: {options.out}")


def _number(option: str, text: str) -> int:
    if not text.isdigit() or not int(text):
        raise InputError(f"{option} is {text!r}: give a whole number above 0.")
    return int(text)
