"""Shared by the commands: options and their checks, progress bars, reading pictures.

The functions raise InputError, with a message for the user, if an option or a file is wrong.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_dispr.errors import InputError, counted
from napari_dispr.events import result_of
from napari_dispr.files import check_no_other_files
from napari_dispr.settings import Settings, SettingsKind, checked_settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_dispr.cells.folders import CellFile

Result = TypeVar("Result")
#: Default unit of lengths.
UNIT = "micrometer"
#: How members are numbered, for the help of options.
FROM_0 = "from 0 as in the tables (the windows count from 1)"


def add_group(commands: Any, name: str, text: str) -> Any:
    """Add a command that has commands of its own; returns what `add_command` adds them to."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:])
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """Add a command that calls ``run``, which may return an exit status; returns its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:]
    )
    parser.set_defaults(command=run, parser=parser)
    return parser


def add_settings(
    parser: argparse._ActionsContainer, kind: type[Settings], only: set[str] | None = None
) -> None:
    """Add an option for each field; the settings themselves check the values."""
    for name, field in kind.model_fields.items():
        if only is None or name in only:
            default = f"{field.default:.3g}" if isinstance(field.default, float) else field.default
            shown = "" if default in (None, "") else f" ({default})"
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                metavar=name.upper(),
                default=None,
                help=f"{kind.about(name)}{shown}".replace("%", "%%"),
            )


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that read a dataset with classes and write a folder."""
    parser.add_argument(
        "dataset", type=Path, help="folder with train|test/{obj,image,mask}, or one such part"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--class-table",
        type=Path,
        metavar="FILE.csv",
        help="table with the columns name and class (default: the file name without its last digits)",
    )


def given_settings(options: argparse.Namespace, kind: type[SettingsKind]) -> SettingsKind:
    """The settings from the options of :func:`add_settings`; options that are missing have their default."""
    given = {name: getattr(options, name, None) for name in kind.model_fields}
    return checked_settings(kind, {name: value for name, value in given.items() if value is not None})


def warn(text: str) -> None:
    """Print a warning on the standard error stream."""
    print(f"napari-dispr: {text}", file=sys.stderr)


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields the function ``show(done, total)`` that moves it."""
    from tqdm import tqdm

    with tqdm(unit=unit, disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def run_with_progress(
    events: "Generator[Any, None, Result]", on_event: Callable[[Any], None] | None = None
) -> Result:
    """Run a generator of events with a progress bar and return its result; interrupting closes it."""

    def note(event: Any) -> None:
        if hasattr(event, "total"):
            show(event.done, event.total)
        if on_event is not None:
            on_event(event)

    with progress_bar("step") as show:
        return result_of(events, note)


def whole_numbers(option: str, text: str | None) -> list[int] | None:
    """The numbers in an option such as ``3,7``; None if it is missing or ``all``."""
    if text is None or text.strip() == "all":
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} is {text!r}: give whole numbers separated by commas, such as 3,7."
        ) from None


def lengths(option: str, text: str, count: int) -> tuple[float, ...]:
    """The lengths in an option such as ``1,0.3,0.3``."""
    from napari_dispr import grid

    try:
        values = tuple(float(value) for value in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(grid.SMALLEST <= value <= grid.LARGEST for value in values):
        example = {1: "0.25", 2: "0.3,0.3"}.get(count, "1,0.3,0.3")
        numbers = "a number" if count == 1 else f"{count} numbers"
        raise InputError(
            f"{option} is {text!r}: give {numbers} from {grid.SMALLEST:g} to {grid.LARGEST:g}, such as "
            f"{example}."
        )
    return values


def add_spacing(parser: argparse.ArgumentParser, options: str = "--spacing") -> None:
    """Add the distances between voxels, and the unit of these options."""
    parser.add_argument(
        "--spacing", metavar="Z,Y,X", help="distances between voxels (default: as in the files)"
    )
    parser.add_argument("--unit", help=f"unit of {options} ({UNIT})")


def given_spacing(options: argparse.Namespace, count: int = 3) -> tuple[tuple[float, ...] | None, str]:
    """Spacing and unit from the options of :func:`add_spacing`."""
    if options.spacing is not None:
        return lengths("--spacing", options.spacing, count), options.unit or UNIT
    if options.unit is not None:
        raise InputError("--unit is the unit of --spacing: give both, or neither.")
    return None, UNIT


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses a channel of the images."""
    parser.add_argument(
        "--channel",
        type=int,
        metavar="C",
        help="channel that shows the cells, from 0, if there are several (in colours 0 is red)",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the option that makes cells of the parts of a binary mask."""
    parser.add_argument(
        "--split",
        action="store_true",
        help="each connected part of the segmentation is a cell (binary masks)",
    )


def split_labels(labels: "NDArray[Any]", options: argparse.Namespace, path: Path) -> "NDArray[Any]":
    """The labels, split as :func:`add_split` says; warns if they are one cell in several parts."""
    from napari_dispr.labels import separate_parts, split_parts

    if options.split:
        return split_parts(labels)
    if (parts := separate_parts(labels)) > 1:
        warn(
            f"{path} has one value for all cells, so it counts as one cell with {parts} separate parts: use "
            "--split to make each part a cell."
        )
    return labels


def check_suffix(out: Path, *suffixes: str, mark: str = "napari-dispr") -> None:
    """Check, before anything slow, the name of a file to write and its folder.

    A file that exists may be replaced if it holds the text ``mark``, or is a table of `measure` or `rank`.
    """
    if out.suffix.lower() not in suffixes:
        raise InputError(f"{out} has the wrong file type: give a name that ends in {' or '.join(suffixes)}.")
    if out.is_dir():
        raise InputError(f"{out} is a folder: give the name of a file to write.")
    _check_writable(out.absolute().parent)
    if out.exists() and not (out.is_file() and _is_ours(out, mark)):
        raise InputError(f"{out} already exists: choose another name, or remove it first.")


def _is_ours(file: Path, mark: str) -> bool:
    if file.suffix.lower() != ".csv":
        return mark.encode() in file.read_bytes()
    # A prediction, too, has tables with a dictionary of their columns.
    with file.open("rb") as table:
        return file.with_suffix(".columns.csv").exists() and table.read(5) in (b"file,", b"rank,")


def check_folder(out: Path, *ours: str, old: bool = False) -> None:
    """Check, before anything slow, that results can be written into a folder.

    It must be new or empty, or hold one of the files ``ours``, which this command wrote before; a folder that
    is known to be its own (``old``) may hold anything.
    """
    if not old:
        check_no_other_files(out, *ours)
    _check_writable(out)


def _check_writable(folder: Path) -> None:
    """Check that files can be written into a folder, which need not exist yet."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise InputError(f"{parent} is a file: choose a folder to write to.")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except PermissionError:
        raise InputError(f"There is no permission to write into {parent}: choose another folder.") from None
    except OSError as error:
        raise InputError(
            f"{parent} cannot be written to ({error.strerror}): choose another folder."
        ) from None


def read_real_cells(dataset: Path) -> "list[CellFile]":
    """The cells of a dataset that have true objects; warns of the number of predicted ones."""
    from napari_dispr.cells.folders import read_dataset
    from napari_dispr.cells.splits import real_cells

    cells = read_dataset(dataset, need_objects=True)
    real = real_cells(cells)
    if predicted := len(cells) - len(real):
        warn(f"{counted(predicted, 'predicted object')} of {dataset} left out: only real ones are used.")
    return real


def stated_pixel_size(image: Path, labels: Path) -> tuple[float, float] | None:
    """Sides (y, x) of a pixel in micrometer that the files state; warns if they state different ones."""
    from napari_dispr.cells.stack_files import stated_pixel_size as read

    of_image, of_labels = read(image), read(labels)
    if of_image is None or of_labels is None:
        return of_image or of_labels
    if any(abs(one - other) > 0.01 * one for one, other in zip(of_image, of_labels, strict=True)):
        one, other = (" x ".join(f"{side:.4g}" for side in sides) for sides in (of_image, of_labels))
        warn(
            f"{image} and {labels} state different pixel sizes, {one} and {other} {UNIT}. The first is used: "
            "give --pixel-size if it is wrong."
        )
    return of_image


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that a training can save and stop; a second Ctrl-C stops at once."""
    signals: list[int] = []

    def note(number: int, frame: Any) -> None:
        if signals and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
