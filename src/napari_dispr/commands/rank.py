"""``napari-dispr rank``: which cells to image in 3D, and what the ranking gains."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError, counted

_MEASURE = "volume"


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "rank", rank, "rank the cells of a prediction: which should be imaged in 3D?"
    )
    command.usage = (
        "napari-dispr rank PREDICTION --out RANKING.csv [options]\n"
        "       napari-dispr rank --worth EVALUATION DATASET --out DIR [options]"
    )
    command.add_argument(
        "source",
        type=Path,
        help="folder of a saved prediction; with --worth: the dataset with the true shapes",
    )
    command.add_argument(
        "--worth",
        type=Path,
        metavar="EVALUATION",
        help="how much error the ranking saves, measured on the shapes of `evaluate --save-shapes`",
    )
    command.add_argument(
        "--measure", help=f"the measure to rank by; docs/measures.md lists them ({_MEASURE})"
    )
    command.add_argument(
        "--absolute",
        action="store_true",
        help="rank by errors in the unit of the measure, not by relative errors",
    )
    command.add_argument(
        "--planes",
        action="store_true",
        help="say which plane of each cell to image next, and rank the cells by its expected gain",
    )
    command.add_argument("--out", type=Path, required=True, help="CSV table to write; with --worth: a folder")


def rank(options: argparse.Namespace) -> None:
    if options.planes and (options.measure is not None or options.absolute):
        raise InputError("--planes ranks by its own gain: leave out --measure and --absolute.")
    options.measure = options.measure or _MEASURE
    if options.worth is not None:
        _worth(options)
        return
    common.check_suffix(options.out, ".csv")
    from napari_dispr.prediction.ranking import next_planes, rank_cells
    from napari_dispr.prediction.saving import load_prediction, write_table

    if options.planes:
        with common.progress_bar("cell") as show:
            table = next_planes(load_prediction(options.source), progress=show)
        write_table(options.out, table)
        print(table.head(10).to_string(index=False, float_format=lambda v: f"{v:.3g}"))
        print(f"{counted(len(table), 'cell')}: {options.out}")
        return
    table = rank_cells(load_prediction(options.source), options.measure, relative=not options.absolute)
    write_table(options.out, table)
    print(table.head(10).drop(columns="warning").to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    if warned := [str(name) for name in table.loc[table["warning"] != "", "name"]]:
        listed = ", ".join(warned[:20]) + (" and others" if len(warned) > 20 else "")
        common.warn(
            f"these cells are unlike the training data, so that their ensembles may be wrong: {listed}."
        )
    print(f"{counted(len(table), 'cell')}: {options.out}")


def _worth(options: argparse.Namespace) -> None:
    common.check_folder(options.out, "worth.json")
    from napari_dispr.evaluation.ranking_report import markdown
    from napari_dispr.evaluation.ranking_worth import iter_rank_worth

    cells = common.read_real_cells(options.source)
    events = iter_rank_worth(
        cells, options.worth, options.measure, relative=not options.absolute, out=options.out
    )
    print(markdown(common.run_with_progress(events)))
