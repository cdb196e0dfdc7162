"""Train a model: from a planned run and its dataset to a model file, as a generator."""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_dispr.card import Card
from napari_dispr.cells.folders import CellFile, read_notes, read_training_cells
from napari_dispr.cells.splits import LEAST, check_cells, copies, split_cells
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.checkpoints import write_tensors
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.errors import InputError
from napari_dispr.models import library
from napari_dispr.models.sampling import Model
from napari_dispr.settings import RivalTrainSettings, TrainSettings
from napari_dispr.training.finish import Stopped, Trained, card_of, finished_model, finished_rival, process_of
from napari_dispr.training.loop import Reason, Report, Validated, iter_optimise
from napari_dispr.training.objectives import topology_of
from napari_dispr.training.plan import DEFAULT_START, check_extra, planned, run_for
from napari_dispr.training.process_group import local_device, process_count, process_group
from napari_dispr.training.run import Run
from napari_dispr.training.samples import check_processes
from napari_dispr.training.shapr import iter_train_rival
from napari_dispr.training.validation import Validation, spread

#: Bytes of free disk space that a run needs.
_ROOM = 500_000_000


@dataclass(frozen=True, slots=True)
class Started:
    """A run has started or was resumed; ``warnings`` about its cells are sentences."""

    step: int
    cells: int
    validation_cells: int
    device: str
    processes: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run has ended: its budget is used, it makes no more progress, or the user stopped it.

    ``reason`` is "finished", "converged" or "stopped". ``model`` is the model file, None for a stopped run,
    which can be resumed. ``scores`` are those of the validation cells, by quality.
    """

    reason: str
    model: str | None
    scores: dict[str, Any]


_OUT_OF_MEMORY = "There is not enough memory for one shape: choose another device, or close other programs."
Event = Started | Report | Validated | Ended
_KINDS = {Started: "begin", Report: "step", Validated: "validation", Ended: "end"}


def train(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    start: str | None = DEFAULT_START,
    preset: str = "standard",
    resume: bool = False,
    progress: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Model:
    """Train a shape model, or SHAPR for comparison, on the cells of a dataset folder.

    Parameters
    ----------
    dataset : path
        ``train/{obj,image,mask}/NAME.tif``, or the folder ``train`` itself; the images may be missing.
    out : path
        The model file, NAME.safetensors. The folder NAME.training next to it holds the run.
    start : str or None
        Model to start from, a name or a file; None: from scratch. ``auto`` is ``generic`` for our method;
        the others train from scratch.
    preset : str
        ``quick``, ``standard``, ``dispr``, ``shapr`` or ``topo-shapr``.
    resume : bool
        Resume the run of ``out`` with its own plan; all other arguments are ignored.
    progress : callable, optional
        Called with each event.
    **settings
        Fields of `TrainSettings` or `RivalTrainSettings` that replace those of the preset.

    Returns
    -------
    ShapeModel or SHAPRModel

    Raises
    ------
    InputError
        If the dataset, the settings or the output is wrong, or the run was stopped.

    Examples
    --------
    >>> model = napari_dispr.train("cells", "nuclei.safetensors", minutes=15)
    """
    run = run_for(out) if resume else planned(dataset, out, start=start, preset=preset, **settings)
    run.clear_stop_request()
    for event in iter_train(run):
        if progress is not None:
            progress(event)
        if isinstance(event, Ended) and event.model is None:
            raise InputError(f"The run in {run.folder} was stopped: continue with resume=True.")
    return library.load_model(Path(run.plan.out))


def iter_train(
    run: Run, *, finish: bool = False, stop: Callable[[], bool] = lambda: False, report_every: int = 5
) -> Generator[Event, None, None]:
    """Start or resume a planned run. Closing the generator saves the state and ends.

    Each event is also a line of the run's log. Under ``torchrun`` all processes iterate, and one writes.

    Parameters
    ----------
    finish : bool
        Do not train: make a model of the best weights so far.
    stop : callable
        Called after each step: whether to save and end.
    report_every : int
        Steps between reports.

    Raises
    ------
    InputError
        If the cells or the settings are wrong, or another process trains the run.
    """
    leads = int(os.environ.get("RANK", 0)) == 0
    try:
        with run.owned() if leads else nullcontext():
            event: Event | None = None
            for event in _events(run, finish, lambda: stop() or run.stop_requested, report_every):
                if leads:
                    run.write(**as_line(event))
                    yield event
        if leads and event is not None and isinstance(event, Ended):
            run.clear_stop_request()
    except Exception as problem:
        if leads and run.folder.is_dir():
            _log_problem(run, problem)
        if devices.is_out_of_memory(problem):
            raise InputError(_OUT_OF_MEMORY) from problem
        raise


def as_line(event: Event) -> dict[str, Any]:
    """An event as a line of a run's log."""
    return {"kind": _KINDS[type(event)], **asdict(event)}


def _log_problem(run: Run, problem: Exception) -> None:
    text = str(problem) if isinstance(problem, InputError) else f"An error ended the training: {problem!r}."
    if isinstance(problem, OSError):
        text = f"{problem.filename or run.folder}: {problem.strerror or problem}."
    if devices.is_out_of_memory(problem):
        text = _OUT_OF_MEMORY
    try:
        run.write("problem", text=text)
    except OSError:  # the disk is full
        return


def _events(run: Run, finish: bool, stop: Callable[[], bool], report_every: int) -> Iterator[Event]:
    plan, settings = run.plan, run.plan.settings
    check_places(run)
    check_extra(settings)
    device = devices.choose(settings.device)
    if (made := earlier_card(run)) is not None:
        yield Ended("finished", plan.out, made.scores)
        return
    start = ShapeModel.load(library.model_path(plan.start)) if plan.start else None
    cells = read_training_cells(plan.dataset)
    trained = Trained(plan, read_notes(plan.dataset), *split(cells, settings, start), start)
    reason: Reason | None = "finished"
    if not finish:
        warnings = tuple(check_cells(cells))
        train_method = _train_rival if isinstance(settings, RivalTrainSettings) else _train_ours
        loop = {"resume": run.checkpoint.exists(), "stop": stop, "report_every": report_every}
        reason = yield from train_method(trained, run, device, warnings, loop)
    if reason is None:
        return
    try:
        if reason == "stopped":
            raise Stopped
        scores = _save_model(trained, run, device, stop)
    except Stopped:
        yield Ended("stopped", None, {})
        return
    yield Ended(reason, plan.out, scores)


def _train_ours(
    trained: Trained, run: Run, device: torch.device, warnings: tuple[str, ...], loop: dict[str, Any]
) -> Generator[Event, None, Reason | None]:
    """Train by the loop, in several processes. Returns why it ended; None in all processes but rank 0."""
    settings = trained.plan.settings
    assert isinstance(settings, TrainSettings)
    processes = settings.processes or process_count(device, settings.batch, settings.scored > 0)
    check_processes(processes, settings)
    device = local_device(device, processes)
    network = None if trained.start is None else _network(trained.start, settings)
    prepared = [prepared_cell(cell, settings) for cell in trained.cells]
    validation = None
    if trained.validation:
        scored = spread(trained.validation, settings.validation_cells)
        validation = Validation(
            scored, card_of(trained), process_of(settings), device, run.picture, loop["stop"], run.scoring
        )
    with process_group(processes, device, run.command()) as group:
        counts = len(trained.cells), len(trained.validation)
        yield Started(_step(run), *counts, str(device), group.size, warnings)
        reason = yield from iter_optimise(
            prepared,
            run.checkpoint,
            settings,
            start=network,
            device=device,
            group=group,
            validator=validation,
            keep_best=lambda best: write_tensors(run.best, best.state_dict()),
            **loop,
        )
    return None if group.rank else reason


def _train_rival(
    trained: Trained, run: Run, device: torch.device, warnings: tuple[str, ...], loop: dict[str, Any]
) -> Generator[Event, None, Reason | None]:
    """Train SHAPR in one process, which is enough for this small network."""
    settings = trained.plan.settings
    assert isinstance(settings, RivalTrainSettings)
    if int(os.environ.get("RANK", 0)):
        return None
    yield Started(_step(run), len(trained.cells), len(trained.validation), str(device), 1, warnings)
    cells = trained.cells, trained.validation
    return (yield from iter_train_rival(*cells, run.checkpoint, settings, device=device, **loop))


def _save_model(trained: Trained, run: Run, device: torch.device, stop: Callable[[], bool]) -> dict[str, Any]:
    """Write the model file. Returns the scores of its card."""
    if isinstance(trained.plan.settings, RivalTrainSettings):
        rival = finished_rival(trained, run, stop)
        rival.save(trained.plan.out)
        return rival.card.scores
    model = finished_model(trained, run, device, stop)
    model.save(trained.plan.out, torch.float16)
    return model.card.scores


def check_places(run: Run) -> None:
    """Raise an InputError if the run and its model cannot be written."""
    out = Path(run.plan.out)
    if out.exists() and earlier_card(run) is None:
        raise InputError(f"The model {out} already exists: remove it, or train under another name.")
    for folder in (run.folder, out.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            free = shutil.disk_usage(folder).free
        except OSError:
            raise InputError(f"The folder {folder} cannot be written to: choose another.") from None
        if free < _ROOM:
            raise InputError(
                f"The disk of {folder} has only {free / 1e6:.0f} MB left: free {_ROOM / 1e6:.0f} MB first."
            )


def earlier_card(run: Run) -> Card | None:
    """The card of this run's model if the process wrote it but ended before it logged the end."""
    ended = run.last("end")
    if not run.checkpoint.exists() or not Path(run.plan.out).exists() or (ended and ended["model"]):
        return None
    try:
        card = library.read_card(run.plan.out)
    except InputError:
        return None
    runs = card.training.get("runs") or [None]
    return card if runs[-1] == run.plan.settings.model_dump(mode="json") else None


def split(
    cells: list[CellFile], settings: TrainSettings | RivalTrainSettings, start: ShapeModel | None
) -> tuple[list[CellFile], list[CellFile]]:
    """Training cells, and validation cells, on which the model to start from was not trained either."""
    if not settings.validation:
        return cells, []
    seen = start.card.seen if start else frozenset()
    is_known = [cell.is_among(seen) for cell in cells]
    for group in copies(cells):  # a model that knows one copy knows all
        if any(is_known[place] for place in group):
            for place in group:
                is_known[place] = True
    known = [cell for cell, one in zip(cells, is_known, strict=True) if one]
    new = [cell for cell, one in zip(cells, is_known, strict=True) if not one]
    if start is not None and known and len(new) < LEAST:
        raise InputError(
            f"{start.name!r} was trained on {len(known)} of these {len(cells)} cells, so that too few are "
            "left to validate the new model: start from another model, or add cells."
        )
    share = min(0.5, settings.validation * len(cells) / max(1, len(new)))
    own, apart = split_cells(new, share, settings.seed)
    # Predicted objects are no truth to validate with.
    return [*known, *own], [cell for cell in apart if not cell.predicted] or apart


def prepared_cell(cell: CellFile, settings: TrainSettings) -> TrainingCell:
    """A cell of a dataset as a training cell."""
    obj = cell.known_object
    if settings.method == "dispr":  # in the original every voxel above 0 is inside
        obj = np.where(obj > 0, 255, 0).astype(np.uint8)
    return training_cell(cell.name, cell.mask, cell.image, obj, cell.stack)


def _network(start: ShapeModel, settings: TrainSettings) -> UNet3D:
    """The network of a model to start from, with the inputs of a new model."""
    wanted = topology_of(settings)
    alike = isinstance(start.process, RectifiedFlow) and start.card.truncation == settings.truncation
    widened = replace(start.network.config, planes=wanted.planes, volumes=wanted.volumes)
    if not alike or widened != wanted or wanted.planes == 0:
        raise InputError(
            f"{start.name!r} has another network than the one to train: start from generic or from scratch."
        )
    return start.network.with_inputs(wanted.planes, wanted.volumes)


def _step(run: Run) -> int:
    last = run.last("step") if run.checkpoint.exists() else None
    return int(last["step"]) if last else 0
