"""Train as a verb: from a planned run and its dataset to a model file, as a generator.

Composes the loop (`optimisation`), cells kept apart (`validation`) and the file (`trained_model`).
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_dispr.card import Card
from napari_dispr.cells.augmentation import TrainingCell, training_cell
from napari_dispr.cells.folders import CellFile, read_dataset, read_notes
from napari_dispr.cells.splits import LEAST, check_cells, copies, split_cells
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.errors import InputError
from napari_dispr.models import library
from napari_dispr.settings import RivalTrainSettings, TrainSettings
from napari_dispr.training import crew as crews
from napari_dispr.training.finish import (
    Stopped,
    Trained,
    card_of,
    finished_model,
    finished_rival,
    keep_weights,
    process_of,
)
from napari_dispr.training.loop import Reason, Report, Validated, iter_optimise
from napari_dispr.training.objectives import topology_of
from napari_dispr.training.plan import DEFAULT_START, check_extra, planned, run_beside
from napari_dispr.training.run import Plan, Run
from napari_dispr.training.shapr import iter_train_rival
from napari_dispr.training.validation import Validation, spread

if TYPE_CHECKING:
    from napari_dispr.models.library import Model

#: Bytes that must be free where a run is written.
_ROOM = 500_000_000


@dataclass(frozen=True, slots=True)
class Begun:
    """A run begins or goes on; ``doubts`` about its cells are sentences."""

    step: int
    cells: int
    validation_cells: int
    device: str
    processes: int
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run has ended: because its budget is used up, no validation was better, or somebody stopped it.

    Attributes
    ----------
    reason : "finished", "converged" or "stopped"
    model : str or None
        The model file; None of a stopped run, which can go on.
    scores : dict
        Of the model on the cells kept apart, by quality.
    """

    reason: str
    model: str | None
    scores: dict[str, Any]


_FULL = "The memory does not hold a single shape of a step: choose another device, or end other programs."
Event = Begun | Report | Validated | Ended
_KINDS = {Begun: "begin", Report: "step", Validated: "validation", Ended: "end"}


def train(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    start: str | None = DEFAULT_START,
    preset: str = "standard",
    resume: bool = False,
    progress: Callable[[Event], None] | None = None,
    **settings: Any,
) -> "Model":
    """Train a shape model, or a rival, on the cells of a dataset folder.

    Parameters
    ----------
    dataset : path
        ``train/{obj,image,mask}/NAME.tif`` or such a part itself; image may be missing.
    out : path
        The model file, NAME.safetensors. Beside it the folder NAME.training holds the run.
    start : str or None
        Model to begin from, a name or a file; None: from scratch. ``auto`` is ``generic``, but for the
        paper's network and rivals, which begin from scratch.
    preset : str
        ``quick``, ``standard`` or ``dispr``; ``shapr`` or ``topo-shapr`` for a rival.
    resume : bool
        Go on with the run beside ``out``, as it was planned: nothing else that is given is looked at.
    progress : callable, optional
        Takes each event.
    **settings
        Fields of `TrainSettings`, or of `RivalTrainSettings`, in place of the preset's.

    Returns
    -------
    ShapeModel or SHAPRModel

    Raises
    ------
    InputError
        If something is wrong with the dataset, the settings, or where to write, or somebody stopped the run.

    Examples
    --------
    >>> model = napari_dispr.train("cells", "nuclei.safetensors", minutes=15)
    """
    run = run_beside(out) if resume else planned(dataset, out, start=start, preset=preset, **settings)
    run.forget_wish()
    for event in iter_train(run):
        if progress is not None:
            progress(event)
        if isinstance(event, Ended) and event.model is None:
            raise InputError(f"The run in {run.folder} was stopped: go on with resume=True.")
    return library.load_model(Path(run.plan.out))


def iter_train(
    run: Run, *, finish: bool = False, stop: Callable[[], bool] = lambda: False, report_every: int = 5
) -> Generator[Event, None, None]:
    """Begin a planned run, or go on with it; closing the generator saves and ends.

    Each event also is a line of the run's log. Under ``torchrun`` all processes iterate, and one writes.

    Parameters
    ----------
    run : Run
    finish : bool
        Train no more: make a model of the best weights so far.
    stop : callable
        Whether to save and end, asked after each step.
    report_every : int
        Steps between reports.

    Raises
    ------
    InputError
        If something is wrong with the cells or the settings, or another process trains the run.
    """
    leads = int(os.environ.get("RANK", 0)) == 0
    try:
        with run.owned() if leads else nullcontext():
            event: Event | None = None
            for event in _events(run, finish, lambda: stop() or run.is_to_stop, report_every):
                if leads:
                    run.write(**as_line(event))
                    yield event
        if leads and event is not None and isinstance(event, Ended):
            run.forget_wish()
    except Exception as problem:
        if leads and run.folder.is_dir():
            _tell(run, problem)
        if devices.is_out_of_memory(problem):
            raise InputError(_FULL) from problem
        raise


def as_line(event: Event) -> dict[str, Any]:
    """An event as it stands in a run's log, its kind first."""
    return {"kind": _KINDS[type(event)], **asdict(event)}


def _tell(run: Run, problem: Exception) -> None:
    text = str(problem) if isinstance(problem, InputError) else f"Training ended by an error: {problem!r}."
    if isinstance(problem, OSError):
        text = f"{problem.filename or run.folder}: {problem.strerror or problem}."
    if devices.is_out_of_memory(problem):
        text = _FULL
    try:
        run.write("problem", text=text)
    except OSError:  # a full disk takes no line either
        return


def _events(run: Run, finish: bool, stop: Callable[[], bool], report_every: int) -> Iterator[Event]:
    plan, settings = run.plan, run.plan.settings
    check_places(run)
    if isinstance(settings, RivalTrainSettings):
        yield from _rival_events(run, settings, finish, stop, report_every)
        return
    device = devices.choose(settings.device)
    processes = settings.processes or crews.processes_for(device, settings.batch, settings.scored > 0)
    device = crews.local_device(device, processes)
    if (made := made_before(run)) is not None:
        yield Ended("finished", plan.out, made.scores)
        return
    start = ShapeModel.load(library.model_path(plan.start)) if plan.start else None
    network = None if start is None else _network(start, settings)
    cells = read_cells(plan)
    own, apart = split(cells, settings, start)
    trained = Trained(plan, read_notes(plan.dataset), own, apart, start)
    reason: Reason = "finished"
    if not finish:
        prepared = [prepared_cell(cell, settings) for cell in own]
        doubts = tuple(check_cells(cells))
        validation = None
        if apart:
            drawn = spread(apart, settings.validation_cells)
            validation = Validation(drawn, card_of(trained), process_of(settings), device, run.picture, stop)
        with crews.gathered(processes, device, run.command()) as crew:
            yield Begun(_step(run), len(own), len(apart), str(device), crew.size, doubts)
            reason = yield from iter_optimise(
                prepared,
                run.checkpoint,
                settings,
                start=network,
                resume=run.checkpoint.exists(),
                device=device,
                crew=crew,
                validator=validation,
                keep_best=lambda best: keep_weights(best, run.best),
                stop=stop,
                report_every=report_every,
            )
        if crew.rank:
            return
    model = None
    if reason != "stopped":
        with suppress(Stopped):
            model = finished_model(trained, run, device, stop)
    if model is None:
        yield Ended("stopped", None, {})
        return
    model.save(plan.out, torch.float16)
    yield Ended(reason, plan.out, model.card.scores)


def _rival_events(
    run: Run, settings: RivalTrainSettings, finish: bool, stop: Callable[[], bool], report_every: int
) -> Iterator[Event]:
    plan = run.plan
    if int(os.environ.get("RANK", 0)):
        return  # a network this small is trained by one process
    check_extra(settings)
    device = devices.choose(settings.device)
    if (made := made_before(run)) is not None:
        yield Ended("finished", plan.out, made.scores)
        return
    cells = read_cells(plan)
    own, apart = split(cells, settings, None)
    reason: Reason = "finished"
    if not finish:
        yield Begun(_step(run), len(own), len(apart), str(device), 1, tuple(check_cells(cells)))
        reason = yield from iter_train_rival(
            own,
            apart,
            run.checkpoint,
            settings,
            resume=run.checkpoint.exists(),
            device=device,
            stop=stop,
            report_every=report_every,
        )
    model = None
    if reason != "stopped":
        with suppress(Stopped):
            model = finished_rival(Trained(plan, read_notes(plan.dataset), own, apart, None), run, stop)
    if model is None:
        yield Ended("stopped", None, {})
        return
    model.save(plan.out)
    yield Ended(reason, plan.out, model.card.scores)


def check_places(run: Run) -> None:
    """Can the run and its model be written, and is there room for them?

    Raises
    ------
    InputError
        If not.
    """
    out = Path(run.plan.out)
    if out.exists() and made_before(run) is None:
        raise InputError(f"There is a model {out} already: remove it, or train under another name.")
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
                f"The disk of {folder} has {free / 1e6:.0f} MB left: free {_ROOM / 1e6:.0f} MB first."
            )


def made_before(run: Run) -> Card | None:
    """The card of the model that this run has made, whose process ended before it could say so."""
    ended = run.last("end")
    if not run.checkpoint.exists() or not Path(run.plan.out).exists() or (ended and ended["model"]):
        return None
    try:
        card = library.read_card(run.plan.out)
    except InputError:
        return None
    runs = card.training.get("runs") or [None]
    return card if runs[-1] == run.plan.settings.model_dump(mode="json") else None


def read_cells(plan: Plan) -> list[CellFile]:
    """The cells of a plan's dataset: of its part ``train``, where it has one.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    folder = Path(plan.dataset)
    part = "train" if (folder / "train").is_dir() else None
    return read_dataset(folder, part, need_objects=True)


def split(
    cells: list[CellFile], settings: TrainSettings | RivalTrainSettings, start: ShapeModel | None
) -> tuple[list[CellFile], list[CellFile]]:
    """Cells to train on, and cells kept apart, which the model to begin from has not seen either.

    Raises
    ------
    InputError
        If there are too few.
    """
    if not settings.validation:
        return cells, []
    seen = start.card.seen if start else frozenset()
    is_known = [cell.is_among(seen) for cell in cells]
    for group in copies(cells):  # with other pictures, or without: who knows one knows all
        if any(is_known[place] for place in group):
            for place in group:
                is_known[place] = True
    known = [cell for cell, one in zip(cells, is_known, strict=True) if one]
    new = [cell for cell, one in zip(cells, is_known, strict=True) if not one]
    if start is not None and known and len(new) < LEAST:
        raise InputError(
            f"{start.name!r} was trained on {len(known)} of these {len(cells)} cells, so that too few are "
            "left to tell how good the new model is: begin from another model, or add cells."
        )
    share = min(0.5, settings.validation * len(cells) / max(1, len(new)))
    own, apart = split_cells(new, share, settings.seed)
    # Predicted objects, of the cells kept apart, are neither trained on nor a truth to be scored by.
    return [*known, *own], [cell for cell in apart if not cell.predicted] or apart


def prepared_cell(cell: CellFile, settings: TrainSettings) -> TrainingCell:
    """A cell of a dataset as it is trained on."""
    assert cell.obj is not None
    # The original takes every voxel that is not empty for inside.
    obj = np.where(cell.obj > 0, 255, 0).astype(np.uint8) if settings.method == "dispr" else cell.obj
    return training_cell(cell.name, cell.mask, cell.image, obj)


def _network(start: ShapeModel, settings: TrainSettings) -> UNet3D:
    """That of a model to begin from, with the condition planes that models have today."""
    wanted = topology_of(settings)
    alike = isinstance(start.process, RectifiedFlow) and start.card.truncation == settings.truncation
    if not alike or replace(start.network.config, planes=wanted.planes) != wanted or wanted.planes == 0:
        raise InputError(
            f"{start.name!r} is no model of the kind to be trained: begin from generic or from scratch."
        )
    return start.network.with_planes(wanted.planes)


def _step(run: Run) -> int:
    last = run.last("step") if run.checkpoint.exists() else None
    return int(last["step"]) if last else 0
