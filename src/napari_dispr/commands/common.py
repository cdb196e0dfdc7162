"""What commands share: options of settings, the progress bar, folders to write to, pictures to read."""

import argparse
import signal
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_dispr.errors import InputError
from napari_dispr.settings import Settings, SettingsKind, checked_settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_dispr.cells.folders import CellFile
    from napari_dispr.prediction.result import Prediction

Result = TypeVar("Result")


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """A command that calls ``run`` with its options; gives the parser, for its options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:]
    )
    parser.set_defaults(command=run)
    return parser


def add_settings(
    parser: argparse._ActionsContainer, kind: type[Settings], only: set[str] | None = None
) -> None:
    """An option for each field; what it may be is checked by the settings themselves."""
    for name, field in kind.model_fields.items():
        if only is None or name in only:
            default = "" if field.default is None else f" ({field.default})"
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                metavar=name.upper(),
                default=None,
                help=f"{field.description}{default}".replace("%", "%%"),
            )


def given_settings(options: argparse.Namespace, kind: type[SettingsKind]) -> SettingsKind:
    """The settings that were given as options of :func:`add_settings`, the others at their defaults.

    Raises
    ------
    InputError
        If one is out of its range.
    """
    given = {name: getattr(options, name, None) for name in kind.model_fields}
    return checked_settings(kind, {name: value for name, value in given.items() if value is not None})


def run_with_progress(
    events: "Generator[Any, None, Result]", on_event: Callable[[Any], None] | None = None
) -> Result:
    """Work through a verb's events with a progress bar; interrupting closes it in good order."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=None, leave=False) as bar:
        try:
            while True:
                try:
                    event = next(events)
                except StopIteration as end:
                    return typing.cast(Result, end.value)
                if hasattr(event, "total"):
                    bar.total = event.total
                    bar.update(event.done - bar.n)
                if on_event is not None:
                    on_event(event)
        finally:
            events.close()


def run_and_save(
    events: "Generator[Any, None, Prediction]",
    out: Path,
    inputs: Mapping[str, str] | None = None,
    *,
    added_to: "Prediction | None" = None,
) -> "Prediction":
    """Save each cell as soon as it is finished; the tables at the end, also when interrupted.

    Parameters
    ----------
    events : generator
    out : path
    inputs : mapping, optional
        Names the files that were predicted from: provenance tells of them.
    added_to : Prediction, optional
        What lies there: cells are written into it, of which others stay as they are. Otherwise what lies
        there is replaced.
    """
    from napari_dispr.prediction.saving import load_measures, remove_prediction, save_cell, save_tables
    from napari_dispr.prediction.tables import measure_changed

    known = None if added_to is None else load_measures(out, added_to)
    finished: list[tuple[Prediction, int]] = []

    def save_all_tables(prediction: "Prediction") -> None:
        fresh = None if added_to is None or known is None else measure_changed(prediction, added_to, known)
        save_tables(prediction, out, fresh)

    def keep(event: Any) -> None:
        if hasattr(event, "prediction"):
            if not finished and added_to is None:
                remove_prediction(out)
            so_far = event.prediction.with_provenance(**inputs or {})
            finished[:] = [(so_far, event.label)]
            save_cell(so_far, out, event.label)

    try:
        prediction = run_with_progress(events, keep)
    except BaseException:
        if finished:
            # The last cell may have been interrupted between its files.
            so_far, label = finished[0]
            save_cell(so_far, out, label)
            save_all_tables(so_far)
        raise
    prediction = prediction.with_provenance(**inputs or {})
    save_all_tables(prediction)
    return prediction


def whole_numbers(option: str, text: str | None) -> list[int] | None:
    """Labels or numbers that were given as an option, as ``3,7``; None where all are meant.

    Raises
    ------
    InputError
        If they are no whole numbers.
    """
    if text is None or text.strip() == "all":
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"{option} is {text!r}: give whole numbers with commas between, as 3,7.") from None


def lengths(option: str, text: str, count: int) -> tuple[float, ...]:
    """Lengths that were given as an option, as ``1,0.3,0.3``.

    Raises
    ------
    InputError
        If there are not as many, or one is not above 0.
    """
    try:
        values = tuple(float(value) for value in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(0 < value < float("inf") for value in values):
        example = "1,0.3,0.3" if count == 3 else "0.25"
        raise InputError(f"{option} is {text!r}: give {count} above 0, as {example}.")
    return values


def check_folder(out: Path) -> None:
    """Before anything slow: can results be written there at all?"""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder to write to.")
    parent = next(p for p in (out, *out.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError:
        raise InputError(f"{parent} cannot be written to: give another folder.") from None


def read_real(dataset: Path) -> "list[CellFile]":
    """The cells of a dataset whose objects are true ones; says how many are not.

    Raises
    ------
    InputError
        See `read_dataset` and `real_cells`.
    """
    from napari_dispr.cells.folders import read_dataset
    from napari_dispr.cells.splits import real_cells

    cells = read_dataset(dataset, need_objects=True)
    real = real_cells(cells)
    if predicted := len(cells) - len(real):
        print(
            f"napari-dispr: {predicted} objects of {dataset} are predicted ones: left out.", file=sys.stderr
        )
    return real


def read_picture(path: Path) -> "NDArray[Any]":
    """A picture or its labels from a file: TIFF, NPY, or what scikit-image reads.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the name.")
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            return tifffile.imread(path)
        if path.suffix.lower() == ".npy":
            import numpy as np

            return np.load(path, allow_pickle=False)
        from skimage.io import imread

        return imread(path)
    except Exception as error:  # readers raise whatever a broken file makes them meet
        raise InputError(f"{path} cannot be read as a picture: save it as TIFF.") from error


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Signals that arrive while something trains: the first saves and ends, a second Ctrl-C ends at once."""
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
