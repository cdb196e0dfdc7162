"""``napari-dispr report``: a saved prediction as one page to hand on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands.common import add_command, read_picture
from napari_dispr.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(
        commands, "report", report, "a prediction as one HTML page: pictures, measures, settings"
    )
    command.add_argument("folder", type=Path, help="folder of a saved prediction")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="page to write")
    command.add_argument("--image", type=Path, help="the picture (where it was when predicting)")
    command.add_argument("--labels", type=Path, help="its segmentation (where it was when predicting)")
    command.add_argument("--title", default="Cell shapes", help="title of the page (%(default)s)")


def report(options: argparse.Namespace) -> None:
    """``napari-dispr report``."""
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{options.out} is no name of a page: let it end in .html.")
    from tqdm import tqdm

    from napari_dispr.export.report import report as write
    from napari_dispr.prediction.saving import load_measures, load_prediction

    prediction = load_prediction(options.folder)
    image, labels = (
        _picture(getattr(options, name), prediction.provenance.get(f"{name}_file"))
        for name in ("image", "labels")
    )
    with tqdm(unit="cell", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        measures = load_measures(options.folder, prediction)
        write(prediction, options.out, image, labels, title=options.title, measures=measures, progress=show)
    print(f"{len(prediction)} cells: {options.out}")


def _picture(given: Path | None, known: str | None) -> "NDArray[Any] | None":
    """The picture that was named, or the one that was predicted from, if it is still there."""
    if given is not None:
        return read_picture(given)
    return read_picture(Path(known)) if known and Path(known).is_file() else None
