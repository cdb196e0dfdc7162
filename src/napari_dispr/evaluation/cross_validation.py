"""Cross-validate as a verb: every cell drawn once by methods that were trained on the other folds.

A generator like the verbs that it composes. It is gone on with fold by fold: a training where it stood, and
the evaluation after its last cell.
"""

import csv
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, read_notes, write_dataset
from napari_dispr.cells.splits import classes_of, folds_of, real_cells
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import (
    Evaluated,
    Options,
    check,
    finished,
    iter_cell,
    method_names,
    method_of,
    settings_of,
    voxel_of,
)
from napari_dispr.evaluation.rows import Rows, check_same
from napari_dispr.events import result_of
from napari_dispr.files import plain, write_json, written_aside
from napari_dispr.models import library
from napari_dispr.models.method import Method
from napari_dispr.settings import (
    PRESETS,
    RIVAL_PRESETS,
    CrossValidateSettings,
    PredictSettings,
    RivalTrainSettings,
    TrainSettings,
)
from napari_dispr.training.plan import is_planned, planned, preset_settings, run_for, start_of
from napari_dispr.training.train import Ended, iter_train

_PLAN = "cross_validation.json"
#: The name of the method that is trained by the settings' own preset.
MODEL = "model"
#: Settings that say how long to train.
_BUDGETS = {"minutes", "steps", "epochs"}
#: Names of the methods that are trained for each fold.
TRAINED = (MODEL, *PRESETS, *RIVAL_PRESETS)


@dataclass(frozen=True, slots=True)
class FoldBegins:
    """The training of a method for a fold begins or goes on."""

    fold: int
    folds: int
    method: str
    cells: int


def iter_cross_validate(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    methods: Sequence[str] = (MODEL, "cylinder", "ellipsoid"),
    *,
    settings: CrossValidateSettings | None = None,
    predict: PredictSettings | None = None,
    class_table: str | os.PathLike[str] | None = None,
    training: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    **asked: Any,
) -> Generator[Any, None, dict[str, Any] | None]:
    """Split a dataset into folds, train on the others of each, and evaluate all cells.

    Parameters
    ----------
    dataset : path
        ``train|test/{obj,image,mask}/NAME.tif``, or such a part itself; all its cells are used.
        Predicted objects (`CellFile.predicted`) are trained on, in the fold of their cell, and never tested.
    out : path
        Folder for what `evaluate` writes, for ``folds.csv`` (name, class, fold) and for the models,
        ``folds/K/METHOD.safetensors``, each with its run beside it.
    methods : sequence of str
        ``model`` (trained by the settings' preset) and names of presets, such as ``shapr`` (trained by
        these), for each fold; fits, and models by name or file, which draw all folds as they are. The first
        is tested against each of the others.
    settings : CrossValidateSettings
        Folds, preset, the model to begin from, minutes; one fold alone, if so wished.
    predict : PredictSettings
        How shapes are drawn. Its seed is also that of folds, training and bootstrap.
    class_table : path, optional
        CSV with the columns name and class; otherwise file names tell (see `cells.splits.class_of`).
    training : mapping, optional
        Settings in place of those of the presets, such as ``steps``; each method takes those that it has.
        With a method before it, such as ``shapr.minutes``, a setting is of this one alone.
    classes : sequence of str, optional
        Test cells of these classes only; the others are trained on. By default all.
    resume : bool
        Go on with what ``out`` holds.
    stop : callable
        Whether to save and end, asked after each step.
    **asked
        Fields of `evaluate.Options`: definitions, voxel_size and unit (the dataset's own), save_shapes.

    Yields
    ------
    FoldBegins
        Before each training; then the events of `iter_train`, and those of `iter_evaluate`.

    Returns
    -------
    dict or None
        The summary of all cells that are tested by now (see `evaluation_summary.summary_of`); None if it was
        stopped.

    Raises
    ------
    InputError
        There are too few cells, a method or a setting is wrong, the model to begin from was trained on cells
        that are to be tested, or what is to be gone on with was begun otherwise.
    """
    settings, predict = settings or CrossValidateSettings(), predict or PredictSettings()
    notes = read_notes(dataset)
    size, unit = voxel_of(notes)
    how = Options(
        **{"members": predict.members, "seed": predict.seed, "voxel_size": size, "unit": unit, **asked}
    )
    folder, cells = Path(out), read_dataset(dataset, need_objects=True)
    trained: dict[str, _Trained] = {}
    untrained: dict[str, Method] = {}
    names: list[str] = []
    for name in dict.fromkeys(methods):
        if name in TRAINED:
            trained[name] = _Trained.of(name, settings, predict, training or {})
        else:
            method = _as_it_is(name, predict)
            name, untrained[method.name] = method.name, method
        names.append(name)
    _check_training(training or {}, list(trained))
    real = real_cells(cells)
    check(real, names, how, out)
    for name, one in trained.items():
        _check_unseen(name, one.start, cells)
    kinds = classes_of(cells, class_table)
    folds = folds_of(cells, settings.folds, kinds, predict.seed)
    chosen = _chosen(real, folds, kinds, settings, classes)
    plan = settings_of(cells, how) | {"methods": names, "classes": kinds, "folds": folds}
    plan["drawing"] = predict.model_dump(mode="json", include={"quality", "sampler", "steps", "device"})
    plan["training"] = {
        name: {"start": one.start, "preset": one.preset, **one.settings.model_dump(mode="json")}
        for name, one in trained.items()
    }
    _begin(folder, plan, resume)
    _write_folds(folder / "folds.csv", kinds, folds)
    rows = Rows.begun(folder, how.definitions, plan, resume)
    told: dict[str, dict[int, Any]] = {name: {} for name in trained}
    done, total = 0, len(chosen) * len(names)
    for fold in range(1, settings.folds + 1):
        place = folder / "folds" / str(fold)
        tested = [cell for cell in chosen if folds[cell.name] == fold]
        drawn: dict[str, Method] = {}
        for name in names:
            if name in untrained:
                drawn[name] = untrained[name]
                continue
            path = place / f"{name}.safetensors"
            if not _is_made(path):
                if not tested:
                    continue
                others = [cell for cell in cells if folds[cell.name] != fold]
                yield FoldBegins(fold, settings.folds, name, len(others))
                with closing(trained[name].events(place / "cells", others, notes, path, stop)) as events:
                    if not (yield from events):
                        return None
            drawn[name] = method_of(path, predict)
            told[name][fold] = drawn[name].provenance
        for cell in tested:
            if stop():
                return None
            with closing(iter_cell(cell, drawn, how, rows)) as drawing:
                for event in drawing:
                    if isinstance(event, Evaluated):
                        done += 1
                        event = replace(event, done=done, total=total)
                    yield event
    known = [cell for cell in real if all(rows.has(cell.name, name) for name in names)]
    tested_folds = sorted({folds[cell.name] for cell in known})
    of_trained = {
        name: {f"fold {fold}": told[name].get(fold, {}) for fold in tested_folds} for name in trained
    }
    return finished(
        rows,
        known,
        {name: of_trained[name] if name in trained else untrained[name].provenance for name in names},
        how,
        predicted=len(cells) - len(real),
        folds=settings.folds,
        tested_folds=tested_folds,
        not_tested=len(real) - len(known),
    )


def cross_validate(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    methods: Sequence[str] = (MODEL, "cylinder", "ellipsoid"),
    *,
    progress: Callable[[Any], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`iter_cross_validate` in one go: calls ``progress`` with each event and returns the summary.

    Raises
    ------
    InputError
        As `iter_cross_validate`, and if somebody stopped a training.
    """
    summary = result_of(iter_cross_validate(dataset, out, methods, **options), progress)
    if summary is None:
        raise InputError(f"{out}: the cross-validation was stopped, go on with resume.")
    return summary


@dataclass(frozen=True, slots=True)
class _Trained:
    """How a method is trained for each fold."""

    preset: str
    start: str | None
    settings: TrainSettings | RivalTrainSettings

    @classmethod
    def of(
        cls, name: str, settings: CrossValidateSettings, predict: PredictSettings, training: Mapping[str, Any]
    ) -> "_Trained":
        changes = {"seed": predict.seed % 2**31, "device": predict.device}
        changes |= {one: value for one, value in training.items() if "." not in one}
        if settings.minutes is not None:
            changes["minutes"] = settings.minutes
        own_changes = {
            one.removeprefix(f"{name}."): value
            for one, value in training.items()
            if one.startswith(f"{name}.")
        }
        if _BUDGETS & own_changes.keys():  # takes the place of any budget that is for all
            changes = {one: value for one, value in changes.items() if one not in _BUDGETS}
        preset = settings.preset if name == MODEL else name
        known = type(preset_settings(preset)).model_fields
        changes = {one: value for one, value in changes.items() if one in known} | own_changes
        own = preset_settings(preset, **changes)
        wanted = settings.init if name == MODEL else "auto"
        return cls(preset, start_of(None if wanted == "none" else wanted, own), own)

    def events(
        self,
        dataset: Path,
        cells: Sequence[CellFile],
        notes: DatasetNotes,
        path: Path,
        stop: Callable[[], bool],
    ) -> Generator[Any, None, bool]:
        """Train, or go on where a training stood; returns whether it came to its end."""
        if is_planned(path):
            run = run_for(path)
        else:
            if not (dataset / "train").exists():  # nothing of it is, where writing was interrupted
                write_dataset(dataset, cells, notes)
            run = planned(dataset, path, start=self.start, preset=self.preset, settings=self.settings)
        run.clear_stop_request()
        ended = False
        with closing(iter_train(run, stop=stop)) as events:
            for event in events:
                ended = isinstance(event, Ended) and event.model is not None
                yield event
        return ended


def _is_made(path: Path) -> bool:
    """Whether a fold's model is there, and its run knows that it has ended."""
    return path.exists() and run_for(path).state == "finished"


def _as_it_is(name: str, predict: PredictSettings) -> Method:
    """A method that no fold trains: a fit, or a model that is there."""
    try:
        return method_of(name, predict)
    except InputError:
        if Path(name).is_file() or name in library.available_models():
            raise
        known = ", ".join(dict.fromkeys([*TRAINED, *method_names()]))
        raise InputError(f"There is no method {name!r}: choose among {known}.") from None


def _check_training(training: Mapping[str, Any], trained: Sequence[str]) -> None:
    """Does each setting of training exist, and the method that it is of?"""
    known = {*TrainSettings.model_fields, *RivalTrainSettings.model_fields}
    for setting in training:
        method, dot, name = setting.rpartition(".")
        if dot and method not in trained:
            raise InputError(
                f"No method {method} is trained, which {setting} is of: name it among the methods."
            )
        if name not in known:
            raise InputError(
                f"There is no setting of training {name!r}: `napari-dispr train --help` has all."
            )


def _check_unseen(name: str, start: str | None, cells: Sequence[CellFile]) -> None:
    """A model that has seen cells cannot be begun from, since it would be tested on them."""
    if start is None:
        return
    seen = library.read_card(start).seen
    known = [cell.name for cell in cells if cell.is_among(seen)]
    if known:
        raise InputError(
            f"The model {start}, from which {name} is to begin, was trained on {len(known)} of these cells "
            f"(such as {known[0]}), on which it could not be tested then: begin from generic or from scratch."
        )


def _chosen(
    cells: Sequence[CellFile],
    folds: Mapping[str, int],
    kinds: Mapping[str, str],
    settings: CrossValidateSettings,
    classes: Sequence[str] | None,
) -> list[CellFile]:
    """The cells that are to be tested now.

    Raises
    ------
    InputError
        There is no such fold or class, or none of their cells.
    """
    if settings.fold is not None and settings.fold > settings.folds:
        raise InputError(f"There is no fold {settings.fold} of {settings.folds}: they count from 1.")
    there = sorted({kinds[cell.name] for cell in cells})
    if unknown := [kind for kind in classes or () if kind not in there]:
        raise InputError(f"There is no cell of the class {unknown[0]!r}: choose among {', '.join(there)}.")
    found = [
        cell
        for cell in cells
        if settings.fold in (None, folds[cell.name]) and (classes is None or kinds[cell.name] in classes)
    ]
    if not found:
        raise InputError(f"Fold {settings.fold} has no cell of these classes: take another fold, or all.")
    return found


def _begin(folder: Path, plan: Mapping[str, Any], resume: bool) -> None:
    path = folder / _PLAN
    if path.exists():
        if not resume:
            raise InputError(f"{folder} holds a cross-validation: resume it, or give another folder.")
        check_same(path, plain(plan))
    else:
        write_json(path, plan)


def _write_folds(path: Path, classes: Mapping[str, str], folds: Mapping[str, int]) -> None:
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["name", "class", "fold"])
        table.writerows([name, classes[name], fold] for name, fold in folds.items())
