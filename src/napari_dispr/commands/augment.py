"""``napari-dispr augment``: more training cells of rare classes."""

import argparse
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import counted
from napari_dispr.settings import PredictSettings

_SAMPLING = {"model", "quality", "sampler", "steps", "seed", "device"}


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "augment", augment, "predict more training cells for rare classes; then use `train`"
    )
    common.add_dataset(command)
    number = command.add_mutually_exclusive_group()
    number.add_argument("--balance", action="store_true", help="as many cells as the largest class (default)")
    number.add_argument("--per-class", type=int, metavar="N", help="number of cells of each class")
    command.add_argument("--at-most", type=int, metavar="N", help="most shapes predicted of one cell (20)")
    command.add_argument(
        "--model", metavar="MODEL", help="shape model: a name from `models list`, or a file (red-blood-cell)"
    )
    common.add_settings(command, PredictSettings, _SAMPLING - {"model"})


def augment(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, PredictSettings)
    common.check_folder(options.out, "augment.json")
    from napari_dispr.cells.folders import read_notes
    from napari_dispr.synthesis.balance import iter_augment
    from napari_dispr.synthesis.balance_plan import AT_MOST

    events = iter_augment(
        common.read_real_cells(options.dataset),
        options.out,
        class_table=options.class_table,
        per_class=options.per_class,
        at_most=AT_MOST if options.at_most is None else options.at_most,
        notes=read_notes(options.dataset),
        **settings.model_dump(include=_SAMPLING),
    )
    done = common.run_with_progress(events)
    for warning in done["warnings"]:
        common.warn(warning)
    for kind, count in done["after"].items():
        print(f"{kind}: {counted(count, 'cell')}, {done['before'][kind]} of them real")
    cells = counted(sum(done["after"].values()), "cell")
    print(f"{cells}, {done['predicted']} of them predicted: {options.out}")
