"""``napari-dispr report``: a saved prediction as one HTML page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands import common
from napari_dispr.errors import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


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
    from napari_dispr.export.report import report as write
    from napari_dispr.labels import split_parts
    from napari_dispr.prediction.saving import load_measures, load_prediction

    prediction = load_prediction(options.folder)
    made = prediction.provenance
    image, labels = (
        _picture(getattr(options, name), made, labels=name == "labels") for name in ("image", "labels")
    )
    if labels is not None and made.get("split"):
        labels = split_parts(labels)
    with common.progress_bar("cell") as show:
        measures = load_measures(options.folder, prediction)
        write(prediction, options.out, image, labels, title=options.title, measures=measures, progress=show)
    print(f"{counted(len(prediction), 'cell')}: {options.out}")


def _picture(given: Path | None, made: "Mapping[str, Any]", labels: bool) -> "NDArray[Any] | None":
    """The given picture, or the one that was predicted from, if it still exists."""
    from napari_dispr.cells.pictures import read_plane
    from napari_dispr.cells.stack_files import one_channel, read_file

    known = made.get("labels_file" if labels else "image_file")
    path = given or (Path(known) if known and Path(known).exists() else None)
    if path is None:
        return None
    channel = None if labels else made.get("channel")
    if "planes" in made:
        return one_channel(read_file(path, labels=labels), path, channel).array.squeeze()
    return read_plane(path, made.get("place") or {}, channel, labels=labels)
