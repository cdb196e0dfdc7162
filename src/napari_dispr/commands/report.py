"""``napari-dispr report``: a saved prediction as one HTML page."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import counted


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "report", report, "write a prediction as one HTML page with pictures, measures and settings"
    )
    command.add_argument("folder", type=Path, help="folder of a saved prediction")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="page to write")
    command.add_argument("--image", type=Path, help="the picture (default: the file that was predicted from)")
    command.add_argument(
        "--labels", type=Path, help="its segmentation (default: the file that was predicted from)"
    )
    command.add_argument("--title", default="Cell shapes", help="title of the page (%(default)s)")


def report(options: argparse.Namespace) -> None:
    common.check_suffix(options.out, ".html", ".htm")
    from napari_dispr.cells.pictures import read_recorded
    from napari_dispr.export.report import report as write
    from napari_dispr.prediction.saving import load_measures, load_prediction

    prediction = load_prediction(options.folder)
    made = prediction.provenance
    image = read_recorded(made, labels=False, path=options.image)
    labels = read_recorded(made, labels=True, path=options.labels)
    with common.progress_bar("cell") as show:
        measures = load_measures(options.folder, prediction)
        write(prediction, options.out, image, labels, title=options.title, measures=measures, progress=show)
    print(f"{counted(len(prediction), 'cell')}: {options.out}")
