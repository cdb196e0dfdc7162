"""Predict one field of a batch, in a process of its own or in this one; no Dask here.

A field grows in a folder next to the finished ones and is renamed when it is complete, so that a run that is
killed goes on at the next cell.
"""

import errno
import os
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from napari_dispr.cells.fields import Field, read_field
from napari_dispr.cells.stated_sizes import UNIT
from napari_dispr.errors import InputError
from napari_dispr.events import Step, mapped
from napari_dispr.files import locked
from napari_dispr.labels import cell_boxes, split_parts
from napari_dispr.models.library import load_model
from napari_dispr.prediction.batch_tables import FIELDS
from napari_dispr.prediction.growing import iter_saved
from napari_dispr.prediction.members import Event
from napari_dispr.prediction.predict import iter_predict
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import earlier_prediction
from napari_dispr.settings import PredictSettings

if TYPE_CHECKING:
    from napari_dispr.models.library import Model

#: The folder of fields that are not complete.
UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True)
class Job:
    """What all fields of a batch have in common.

    ``out`` is the folder of the batch, ``model_hash`` that of the model on the machine that started it.
    """

    out: Path
    settings: PredictSettings
    model_hash: str
    channel: int | None
    split: bool

    def folder(self, name: str) -> Path:
        """The folder of a finished field, a saved prediction."""
        return self.out / FIELDS / name


@dataclass(frozen=True, slots=True)
class CellsDone:
    """``cells`` of the ``total`` cells of a field are finished."""

    field: str
    cells: int
    total: int


@dataclass(frozen=True, slots=True)
class FieldResult:
    """A field is finished, or it failed.

    ``cells`` is the number of predicted cells, ``reason`` a sentence if it failed. ``disk_full``: so would
    all other fields.
    """

    field: str
    cells: int = 0
    reason: str = ""
    disk_full: bool = False


def iter_field(one: Field, job: Job) -> Generator[CellsDone | Step, None, FieldResult]:
    """Predict a field, unless it is finished. Errors of its input become the result's reason.

    Closing the generator cancels; finished cells are kept.
    """
    try:
        with locked(job.out / UNFINISHED / f"{one.name}.lock", wait=True), one_thread():
            if job.folder(one.name).exists():  # another worker was faster
                return FieldResult(one.name)
            cells = yield from _predicted(one, job)
            return FieldResult(one.name, cells)
    except InputError as error:
        return FieldResult(one.name, reason=str(error))
    except MemoryError:
        return FieldResult(one.name, reason="There was not enough memory: use fewer workers.")
    except OSError as error:
        reason = f"{error.filename or 'A file'}: {error.strerror or error}."
        return FieldResult(one.name, reason=reason, disk_full=error.errno in (errno.ENOSPC, errno.EDQUOT))
    except Exception as error:  # one field must not end the others
        return FieldResult(
            one.name, reason=f"An error that was not expected, {type(error).__name__}: {error}"
        )


def field_seed(seed: int, name: str) -> int:
    """Seed of a field, so that cells with the same label in different fields have different noise."""
    (state,) = np.random.SeedSequence((seed, crc32(name.encode()))).generate_state(1, np.uint64)
    return int(state) >> 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread: the same bits whatever the number of workers and of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def loaded_model(name: str, model_hash: str) -> "Model":
    """The model, loaded once in each process."""
    model = load_model(name)
    if model.hash != model_hash:
        raise InputError(f"This worker has another model {name}: install the same model on all machines.")
    return model


def _predicted(one: Field, job: Job) -> Generator[CellsDone | Step, None, int]:
    """Predict into the folder of unfinished fields, and rename it; the number of cells."""
    model = loaded_model(job.settings.model, job.model_hash)
    image, labels, sides = read_field(one, job.channel)
    if job.split:
        labels = split_parts(labels)
    settings = job.settings.model_copy(update={"seed": field_seed(job.settings.seed, one.name)})
    frame: dict[str, Any] = {}
    if sides is not None and (one.pixel_size or not settings.pixel_size):
        frame = {"image_to_world": np.diag([*sides, 1.0]), "unit": UNIT}
        settings = settings.model_copy(update={"pixel_size": None})
    inputs, aside = _inputs(one, job), job.out / UNFINISHED / one.name
    total = len(cell_boxes(labels)) if labels.dtype.kind in "ui" else 0
    started = False  # until an event comes, an error means that the earlier cells do not fit
    arguments = {**settings.model_dump(), "model": model, **frame}

    def counted(event: Event) -> CellsDone | Step:
        nonlocal started
        started = True
        if isinstance(event, Step):
            return event
        done = len(event.prediction)
        return CellsDone(one.name, done, max(total, done))

    def events(earlier: Prediction | None) -> Generator[CellsDone | Step, None, Prediction]:
        drawn = iter_predict(image, labels, earlier=earlier, **arguments)
        return mapped(iter_saved(drawn, aside, inputs, added_to=earlier), counted)

    earlier = _unfinished(aside)
    try:
        prediction = yield from events(earlier)
    except InputError:
        if earlier is None or started:
            raise
        # What is there was made from other files or in another way.
        shutil.rmtree(aside)
        prediction = yield from events(None)
    job.folder(one.name).parent.mkdir(exist_ok=True)
    os.replace(aside, job.folder(one.name))
    return len(prediction)


def _unfinished(folder: Path) -> Prediction | None:
    """The finished cells of a field that is not complete; None if there are none, or they are damaged."""
    try:
        return earlier_prediction(folder)
    except InputError:
        shutil.rmtree(folder)
        return None


def _inputs(one: Field, job: Job) -> Mapping[str, Any]:
    """The provenance of a field: its files, and how they are read."""
    known = {
        "image_file": one.image and str(one.image),
        "labels_file": str(one.labels),
        "field": one.name,
        "place": dict(one.place),
        "channel": job.channel,
        "split": job.split,
    }
    return {name: value for name, value in known.items() if value or (value == 0 and name == "channel")}
