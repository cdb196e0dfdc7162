"""``napari-dispr more``: add members to a saved prediction, or replace rejected ones."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "more", more, "add members to a saved prediction, or replace rejected ones"
    )
    command.add_argument("folder", type=Path, help="folder of the saved prediction, which is changed")
    command.add_argument("--cells", help="labels of the cells, such as 3,7 (all)")
    command.add_argument(
        "--reject", help=f"numbers of the members of one cell to replace, {common.FROM_0}, such as 1,3"
    )
    command.add_argument("--members", type=int, help="number of new members of each cell (5)")
    command.add_argument(
        "--model", help="file of the model of the prediction, if `models list` does not have it"
    )
    common.add_settings(command, PredictSettings, {"device"})


def more(options: argparse.Namespace) -> None:
    cells = common.whole_numbers("--cells", options.cells)
    rejected = common.whole_numbers("--reject", options.reject)
    if rejected is not None and (cells is None or len(cells) != 1 or options.members is not None):
        raise InputError(
            "--reject needs one cell and excludes --members: give, for example, --cells 7 --reject 1,3."
        )
    from napari_dispr.prediction.growing import iter_saved
    from napari_dispr.prediction.more import iter_more_members, iter_redraw_members
    from napari_dispr.prediction.saving import load_prediction

    common.check_folder(options.folder, old=True)
    before = load_prediction(options.folder)
    cells = list(before) if cells is None else list(dict.fromkeys(cells))
    how: dict[str, Any] = {"model": options.model, "device": options.device or "auto"}
    if rejected is None:
        members = 5 if options.members is None else options.members
        events = iter_more_members(before, cells, members, **how)
    else:
        events = iter_redraw_members(before, cells[0], rejected, **how)
    prediction = common.run_with_progress(iter_saved(events, options.folder, added_to=before))
    for warning in prediction.warnings:
        if warning not in before.warnings:
            common.warn(warning)
    for label in cells:
        numbers = ", ".join(str(number) for number in prediction.facts(label).numbers)
        print(f"cell {prediction.stem(label)}: members {numbers}")
