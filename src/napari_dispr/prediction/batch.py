"""Predict many fields, on the cores of one machine or on a cluster; finished ones are not computed again."""

import json
import os
import shutil
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from napari_dispr.cells.fields import Field, check_names, list_fields
from napari_dispr.errors import InputError
from napari_dispr.events import in_one_go
from napari_dispr.files import check_no_other_files, locked, plain, write_json
from napari_dispr.models.library import load_model
from napari_dispr.models.sampling import as_method
from napari_dispr.prediction.batch_tables import (
    BATCH_FILE,
    FIELDS,
    check_columns,
    read_table,
    remove_tables,
    with_other_units,
    write_failed,
    write_tables,
)
from napari_dispr.prediction.field_run import UNFINISHED, CellsDone, FieldResult, Job
from napari_dispr.prediction.workers import (
    Idle,
    run_here,
    run_on_workers,
    started,
    workers_that_pay,
)
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.version import __version__

#: The file that is locked while a batch is written.
LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class BatchStep:
    """Cells or a field are finished.

    Attributes
    ----------
    done, total, failed : int
        Fields: ``done`` are also those that failed and those of an earlier run.
    cells : int
        Cells of this run.
    seconds_left : float or None
        None until a cell is finished.
    dashboard : str
        Address of the page on which Dask shows what the workers do; empty without Dask.
    alone : float
        For how many seconds there has been no worker.
    """

    done: int
    total: int
    cells: int
    failed: int
    seconds_left: float | None
    dashboard: str = ""
    alone: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A finished batch: its folder, and the number of cells of all finished fields.

    ``fields`` names these; `load_prediction(batch.field(name))` reads one. ``failed`` says why fields failed.
    """

    folder: Path
    fields: tuple[str, ...]
    failed: dict[str, str]
    cells: int

    def field(self, name: str) -> Path:
        """Folder of a field, a saved prediction."""
        return self.folder / FIELDS / name

    @property
    def table(self) -> pd.DataFrame:
        """A row for each cell of all fields; ``attrs["columns"]`` holds unit and meaning of each column."""
        return read_table(self.folder)


def iter_predict_batch(
    fields: "str | os.PathLike[str] | Iterable[Field]",
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    channel: int | None = None,
    split: bool = False,
    **settings: Any,
) -> Generator[BatchStep, None, Batch]:
    """Predict the cells of many fields into a folder.

    Parameters
    ----------
    fields : path, or iterable of Field
        A folder with pairs of image and labels, a CSV with the columns ``image`` and ``labels``, or an
        OME-Zarr plate; see `list_fields`.
    out : path
        ``cells/FIELD`` is a saved prediction of each field; ``cells.csv`` and ``cells.parquet`` have a row
        for each cell of all fields, ``failed.csv`` one for each field that failed. A batch in the folder that
        was made in the same way goes on.
    workers : int, optional
        Processes on this machine, with one thread each, at most one a field; by default as many as its cores
        and its memory allow. 0: only this process, without Dask. The results do not depend on it.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers see the same files; in place of ``workers``.
    channel : int, optional
        Which channel of the images, from 0; needed if they have several.
    split : bool
        Each connected part of the labels is a cell.
    **settings
        Fields of :class:`~napari_dispr.settings.PredictSettings`; the model by name or path.

    Yields
    ------
    BatchStep
        At least once a second. Closing the generator cancels; finished cells are kept.

    Raises
    ------
    InputError
        If something is wrong with the fields or the settings, ``out`` holds another batch or is written by
        another process, Dask is not installed, the scheduler is lost, or the disk is full. A scheduler
        without workers is no error: the batch waits.

    Notes
    -----
    Each field has its own seed, which follows from ``seed`` and the field's name and is in its provenance.
    Workers are started as new Python processes: in a script, call this below ``if __name__ == "__main__":``.
    """
    chosen = checked_settings(PredictSettings, settings)
    listed = list_fields(fields) if isinstance(fields, str | os.PathLike) else list(fields)
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}: give a number of processes, or 0 to use this process alone.")
    check_names(listed)
    check_columns(listed)
    listed = [_absolute(one) for one in listed]  # workers may have another current folder
    out = Path(out).absolute()
    # Workers of a scheduler may have other devices.
    here = chosen if scheduler is None else chosen.model_copy(update={"device": "auto"})
    model = as_method(load_model(chosen.model), here)
    if Path(chosen.model).exists():
        chosen = chosen.model_copy(update={"model": str(Path(chosen.model).absolute())})
    job = Job(out, chosen, model.hash, channel, split)
    with locked(out / LOCK_FILE):
        _check_same(job, model.name, listed)
        left = [one for one in listed if not job.folder(one.name).exists()]
        progress = _Progress(listed, left)
        events: Generator[CellsDone | FieldResult | Idle, None, None]
        try:
            with ExitStack() as stack:
                if (workers == 0 and scheduler is None) or not left:
                    events = run_here(left, job)
                else:
                    processes = min(workers or workers_that_pay(), len(left))
                    client = stack.enter_context(started(processes, scheduler))
                    progress.dashboard = client.dashboard_link or ""
                    events = run_on_workers(client, left, job)
                stack.callback(events.close)
                yield progress.step
                for event in events:
                    if isinstance(event, FieldResult) and event.disk_full:
                        raise InputError(f"{event.reason} Make room, and run the same again to go on.")
                    progress.add(event)
                    yield progress.step
        except BaseException:  # cancelled or failed: the tables of what is finished
            with suppress(OSError):
                _write(job, listed, progress.failed)
            raise
        cells = _write(job, listed, progress.failed)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    done = tuple(one.name for one in listed if one.name not in progress.failed)
    return Batch(out, done, progress.failed, cells)


predict_batch = in_one_go(iter_predict_batch, 'batch = predict_batch("fields", "results", quality="fast")')


class _Progress:
    """Counts fields and cells, and estimates the time left."""

    def __init__(self, listed: list[Field], left: list[Field]) -> None:
        self.failed: dict[str, str] = {}
        self.dashboard, self._alone = "", 0.0
        self._total, self._before = len(listed), len(listed) - len(left)
        self._finished = 0
        #: Fields that are not complete: finished cells, and all.
        self._going: dict[str, tuple[int, int]] = {}
        self._cells = 0
        self._start = time.monotonic()

    def add(self, event: CellsDone | FieldResult | Idle) -> None:
        self._alone = event.alone if isinstance(event, Idle) else 0.0
        if isinstance(event, CellsDone):
            before, _ = self._going.get(event.field, (0, 0))
            self._cells += max(0, event.cells - before)
            self._going[event.field] = event.cells, event.total
        elif isinstance(event, FieldResult):
            before, _ = self._going.pop(event.field, (0, 0))
            self._cells += max(0, event.cells - before)
            self._finished += 1
            if event.reason:
                self.failed[event.field] = event.reason

    @property
    def step(self) -> BatchStep:
        part = sum(done / total for done, total in self._going.values() if total)
        done, left = self._finished + part, self._total - self._before - self._finished - part
        seconds = (time.monotonic() - self._start) / done * left if done else None
        fields = self._before + self._finished
        failed = len(self.failed)
        return BatchStep(fields, self._total, self._cells, failed, seconds, self.dashboard, self._alone)


def _absolute(one: Field) -> Field:
    image, labels = (None if path is None else path.absolute() for path in (one.image, one.labels))
    return replace(one, image=image, labels=labels)


def _check_same(job: Job, name: str, listed: list[Field]) -> None:
    """Write ``batch.json``, or check that the batch in the folder was made in the same way."""
    settings = job.settings.model_dump()
    made = plain(
        {
            "software": f"napari-dispr {__version__}",
            "model": name,
            "model_hash": job.model_hash,
            "settings": settings,
            "channel": job.channel,
            "split": job.split,
            "fields": {one.name: _source(one) for one in listed},
        }
    )
    path, finished = job.out / BATCH_FILE, job.out / FIELDS
    check_no_other_files(job.out, BATCH_FILE)
    if not (path.exists() and finished.is_dir() and any(finished.iterdir())):
        write_json(path, made)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known, fields = {**before, **before["settings"]}, dict(before.get("fields", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged: choose another folder.") from None
    wanted = {key: value for key, value in made.items() if key not in ("software", "settings", "fields")}
    wanted |= {key: value for key, value in made["settings"].items() if key not in ("device", "model")}
    for key, value in wanted.items():
        if known.get(key) != value:
            raise InputError(
                f"The batch in {job.out} has the {key.replace('_', ' ')} {known.get(key)!r}, not {value!r}: "
                "choose another folder, or the same settings to go on."
            )
    for field, source in made["fields"].items():
        folder = job.folder(field)
        if fields.get(field, source) != source and folder.exists():
            raise InputError(
                f"The field {field} was predicted from {_in_words(fields[field])}, not from "
                f"{_in_words(source)}: choose another folder, or remove {folder} to predict it again."
            )
    if (together := fields | made["fields"]) != fields:
        write_json(path, before | {"fields": together})


def _source(one: Field) -> dict[str, Any]:
    """What a field is predicted from; not the folders, which another machine may call otherwise."""
    files = {"image": one.image and one.image.name, "labels": one.labels and one.labels.name}
    return files | {"pixel_size": one.pixel_size, **one.place}


def _in_words(source: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in source.items() if value is not None)


def _write(job: Job, listed: list[Field], failed: dict[str, str]) -> int:
    """Write the tables of the fields that are finished; the number of their cells.

    Finished fields that do not fit into the table are added to ``failed``.
    """
    done = [(one, job.folder(one.name)) for one in listed if job.folder(one.name).exists()]
    failed |= with_other_units(done)
    write_failed(job.out, [(one, failed[one.name]) for one in listed if one.name in failed])
    if not done:
        remove_tables(job.out)
        return 0
    try:
        return write_tables(job.out, [(one, folder) for one, folder in done if one.name not in failed])
    except InputError:
        raise
    except (ValueError, LookupError) as error:  # a column has values of another one, or no meaning
        raise InputError(
            f"A table in {job.out / FIELDS} is damaged: remove the folder of its field, and run the batch "
            "again."
        ) from error
