"""``napari-dispr rank``: which cells deserve a z-stack, and what such a ranking is worth."""

import argparse
import sys
from pathlib import Path
from typing import Any

from napari_dispr.commands.common import add_command, check_folder, read_real, run_with_progress
from napari_dispr.errors import InputError


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "rank", rank, "which cells deserve to be imaged in 3D?")
    command.usage = (
        "napari-dispr rank PREDICTION --out RANKING.csv [options]\n"
        "       napari-dispr rank --worth EVALUATION DATASET --out DIR [options]"
    )
    command.add_argument(
        "source", type=Path, help="folder of a prediction; with --worth the dataset with the true shapes"
    )
    command.add_argument(
        "--worth",
        type=Path,
        metavar="EVALUATION",
        help="what ranking is worth, of an evaluation with saved shapes of cells new to its models",
    )
    command.add_argument("--measure", default="volume", help="the measure that matters (volume)")
    command.add_argument(
        "--absolute", action="store_true", help="errors in the measure's unit, not as shares of it"
    )
    command.add_argument("--out", type=Path, required=True, help="table to write; with --worth a folder")


def rank(options: argparse.Namespace) -> None:
    """``napari-dispr rank``."""
    if options.worth is not None:
        _worth(options)
        return
    if options.out.suffix.lower() != ".csv":
        raise InputError(f"{options.out} is no name of a table: let it end in .csv.")
    from napari_dispr.prediction.ranking import rank_cells
    from napari_dispr.prediction.saving import load_prediction, write_table

    table = rank_cells(load_prediction(options.source), options.measure, relative=not options.absolute)
    write_table(options.out, table)
    print(table.head(10).drop(columns="warning").to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    if warned := [str(name) for name in table.loc[table["warning"] != "", "name"]]:
        listed = ", ".join(warned[:20]) + (" and others" if len(warned) > 20 else "")
        print(
            f"napari-dispr: unlike the training data, their ensembles may be sure and wrong: {listed}.",
            file=sys.stderr,
        )
    print(f"{len(table)} cells: {options.out}")


def _worth(options: argparse.Namespace) -> None:
    check_folder(options.out)
    from napari_dispr.evaluation.ranking_report import markdown
    from napari_dispr.evaluation.ranking_worth import iter_rank_worth

    cells = read_real(options.source)
    events = iter_rank_worth(
        cells, options.worth, options.measure, relative=not options.absolute, out=options.out
    )
    print(markdown(run_with_progress(events)))
