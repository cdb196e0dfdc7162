"""Cross-validation: methods that were trained on the other folds draw each cell, once.

It can be resumed: an interrupted training continues from its last state, the evaluation after its last cell.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, read_notes, write_dataset
from napari_dispr.cells.splits import classes_of, folds_of, real_cells
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import (
    Options,
    check,
    finished,
    iter_cell,
    method_names,
    method_of,
    settings_of,
    two_called,
    voxel_of,
)
from napari_dispr.evaluation.rows import Rows, check_same
from napari_dispr.events import in_one_go
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
    checked_settings,
)
from napari_dispr.training.plan import is_planned, planned, preset_settings, run_for, start_of
from napari_dispr.training.train import Ended, iter_train

_PLAN = "cross_validation.json"
#: Name of the method that is trained with the preset of the settings.
MODEL = "model"
#: Settings that limit the length of a training.
_BUDGETS = {"minutes", "steps", "epochs"}
#: Names of the methods that are trained again for each fold.
TRAINED = (MODEL, *PRESETS, *RIVAL_PRESETS)


@dataclass(frozen=True, slots=True)
class FoldStarted:
    """The training of a method for a fold starts or resumes; ``cells`` is the number of training cells."""

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
    **options: Any,
) -> Generator[Any, None, dict[str, Any] | None]:
    """Split a dataset into folds, train for each fold on the others, and evaluate all cells.

    Parameters
    ----------
    dataset : path
        ``train|test/{obj,image,mask}/NAME.tif``, or one such part; all its cells are used. Predicted objects
        (`CellFile.predicted`) are used for training, in the fold of their cell, but never tested.
    out : path
        Folder for the files of `evaluate`, for ``folds.csv`` (name, class, fold) and for the models,
        ``folds/K/METHOD.safetensors``, each with its run folder.
    methods : sequence of str
        ``model`` (trained with the preset of the settings) and names of presets, such as ``shapr``, are
        trained for each fold. Fits, and models by name or file, are not trained. The first method is tested
        against each of the others.
    predict : PredictSettings
        Its seed is also used for folds, training and bootstrap.
    class_table : path, optional
        CSV with the columns name and class; by default the class is read from the file name
        (`cells.splits.class_of`).
    training : mapping, optional
        Settings that replace those of the presets, such as ``steps``; each method takes the settings that it
        has. With a method in front, such as ``shapr.minutes``, a setting is for this method only.
    classes : sequence of str, optional
        Test only cells of these classes; cells of all classes are used for training.
    resume : bool
        Continue the cross-validation in ``out``.
    stop : callable
        Called after each step: whether to save and stop.
    **options
        Options of `iter_evaluate`: definitions, voxel_size and unit (by default those of the dataset),
        save_shapes.

    Yields
    ------
    FoldStarted
        Before each training; then the events of `iter_train` and of `iter_evaluate`.

    Returns
    -------
    dict or None
        The summary of all cells tested so far (see `summary.summary_of`); None if it was stopped.

    Raises
    ------
    InputError
        There are too few cells, a method or a setting is wrong, the model to start from was trained on cells
        that are to be tested, or the folder was started with other settings.
    """
    settings, predict = settings or CrossValidateSettings(), predict or PredictSettings()
    notes = read_notes(dataset)
    size, unit = voxel_of(notes)
    own = {"members": predict.members, "seed": predict.seed, "voxel_size": size, "unit": unit}
    how = checked_settings(Options, {**own, **options})
    folder, cells = Path(out), read_dataset(dataset, need_objects=True)
    by_name = _methods(methods, settings, predict, training or {})
    names = list(by_name)
    trained = {name: one for name, one in by_name.items() if isinstance(one, _Training)}
    real = real_cells(cells)
    check(real, names, how, out)
    for name, one in trained.items():
        _check_unseen(name, one.start, cells)
    kinds = classes_of(cells, class_table)
    folds = folds_of(cells, settings.folds, kinds, predict.seed)
    chosen = _chosen(real, folds, kinds, settings, classes)
    plan = settings_of(cells, how) | {"methods": names, "classes": kinds, "folds": folds}
    plan["drawing"] = predict.model_dump(mode="json", include={"quality", "sampler", "steps", "device"})
    plan["training"] = {name: one.described for name, one in trained.items()}
    _start_or_resume(folder, plan, resume)
    rows = Rows.start_or_resume(folder, how.definitions, plan, resume)
    provenance: dict[str, dict[str, Any]] = {
        name: {} if isinstance(method, _Training) else dict(method.provenance)
        for name, method in by_name.items()
    }
    done, total = 0, len(chosen) * len(names)
    for fold in range(1, settings.folds + 1):
        tested = [cell for cell in chosen if folds[cell.name] == fold]
        drawn: dict[str, Method] = {}
        for name, method in by_name.items():
            if isinstance(method, _Training):
                path = folder / "folds" / str(fold) / f"{name}.safetensors"
                if not path.exists() or run_for(path).state != "finished":
                    if not tested:
                        continue
                    others = [cell for cell in cells if folds[cell.name] != fold]
                    yield FoldStarted(fold, settings.folds, name, len(others))
                    if not (yield from method.events(others, notes, path, stop)):
                        return None
                drawn[name] = method_of(path, predict)
                provenance[name][f"fold {fold}"] = drawn[name].provenance
            else:
                drawn[name] = method
        for cell in tested:
            if stop():
                return None
            yield from iter_cell(cell, drawn, how, rows, done, total)
            done += len(drawn)
    known = [cell for cell in real if all(rows.has(cell.name, name) for name in names)]
    tested_folds = sorted({folds[cell.name] for cell in known})
    for name in trained:
        places = [f"fold {fold}" for fold in tested_folds]
        provenance[name] = {place: provenance[name].get(place, {}) for place in places}
    return finished(
        rows,
        known,
        provenance,
        how,
        predicted=len(cells) - len(real),
        folds=settings.folds,
        tested_folds=tested_folds,
        not_tested=len(real) - len(known),
    )


cross_validate = in_one_go(iter_cross_validate, 'cross_validate("cells", "out", ["model", "cylinder"])')


@dataclass(frozen=True, slots=True)
class _Training:
    """How a method is trained for each fold."""

    preset: str
    start: str | None
    settings: TrainSettings | RivalTrainSettings

    @classmethod
    def of(
        cls, name: str, settings: CrossValidateSettings, predict: PredictSettings, training: Mapping[str, Any]
    ) -> "_Training":
        changes = {"seed": predict.seed % 2**31, "device": predict.device}
        changes |= {one: value for one, value in training.items() if "." not in one}
        if settings.minutes is not None:
            changes["minutes"] = settings.minutes
        own_changes = {
            one.removeprefix(f"{name}."): value
            for one, value in training.items()
            if one.startswith(f"{name}.")
        }
        if _BUDGETS & own_changes.keys():  # replaces any budget for all methods
            changes = {one: value for one, value in changes.items() if one not in _BUDGETS}
        preset = settings.preset if name == MODEL else name
        known = type(preset_settings(preset)).model_fields
        changes = {one: value for one, value in changes.items() if one in known} | own_changes
        own = preset_settings(preset, **changes)
        wanted = settings.init if name == MODEL else "auto"
        return cls(preset, start_of(None if wanted == "none" else wanted, own), own)

    @property
    def described(self) -> dict[str, Any]:
        """Everything that the weights depend on, except the cells."""
        return {"start": self.start, "preset": self.preset, **self.settings.model_dump(mode="json")}

    def events(
        self, cells: Sequence[CellFile], notes: DatasetNotes, path: Path, stop: Callable[[], bool]
    ) -> Generator[Any, None, bool]:
        """Train, or continue an interrupted training; returns whether it is complete."""
        if is_planned(path):
            run = run_for(path)
        else:
            dataset = path.parent / "cells"
            if not (dataset / "train").exists():  # an interrupted write leaves no such folder
                write_dataset(dataset, cells, notes)
            run = planned(dataset, path, start=self.start, preset=self.preset, settings=self.settings)
        run.clear_stop_request()
        ended = False
        with closing(iter_train(run, stop=stop)) as events:
            for event in events:
                ended = isinstance(event, Ended) and event.model is not None
                yield event
        return ended


def _methods(
    names: Sequence[str],
    settings: CrossValidateSettings,
    predict: PredictSettings,
    training: Mapping[str, Any],
) -> dict[str, "_Training | Method"]:
    """The methods by name, in their order, each once: those to be trained, and the others."""
    found: dict[str, _Training | Method] = {}
    for name in dict.fromkeys(names):
        if name in TRAINED:
            found[name] = _Training.of(name, settings, predict, training)
        else:
            method = _untrained(name, predict)
            same = found.setdefault(method.name, method)
            if isinstance(same, _Training) or same.hash != method.hash:
                raise two_called(method.name)
    _check_training(training, [name for name in found if name in TRAINED])
    return found


def _start_or_resume(folder: Path, plan: Mapping[str, Any], resume: bool) -> None:
    """Write plan and folds of a new cross-validation, or check that the one in the folder is the same."""
    if not (folder / _PLAN).exists():
        write_json(folder / _PLAN, plan)
    elif resume:
        check_same(folder / _PLAN, plain(plan))
    else:
        raise InputError(f"{folder} already holds a cross-validation: resume it, or choose another folder.")
    table = pd.DataFrame([(name, plan["classes"][name], fold) for name, fold in plan["folds"].items()])
    with written_aside(folder / "folds.csv") as aside:
        table.to_csv(aside, index=False, header=["name", "class", "fold"])


def _untrained(name: str, predict: PredictSettings) -> Method:
    """A method that is not trained: a fit, or an existing model."""
    try:
        return method_of(name, predict)
    except InputError:
        if Path(name).is_file() or name in library.available_models():
            raise
        known = ", ".join(dict.fromkeys([*TRAINED, *method_names()]))
        raise InputError(f"There is no method {name!r}: choose among {known}.") from None


def _check_training(training: Mapping[str, Any], trained: Sequence[str]) -> None:
    """Check that each setting of training exists, and that its method is trained."""
    known = {*TrainSettings.model_fields, *RivalTrainSettings.model_fields}
    for setting in training:
        method, dot, name = setting.rpartition(".")
        if dot and method not in trained:
            raise InputError(
                f"The setting {setting} is for {method}, which is not trained: add {method} to the methods."
            )
        if name not in known:
            raise InputError(f"There is no setting of training {name!r}: see `napari-dispr train --help`.")


def _check_unseen(name: str, start: str | None, cells: Sequence[CellFile]) -> None:
    """Refuse a start from a model that has seen some of the cells: it would be tested on them."""
    if start is None:
        return
    seen = library.read_card(start).seen
    known = [cell.name for cell in cells if cell.is_among(seen)]
    if known:
        raise InputError(
            f"The model {start}, from which {name} would start, was trained on {len(known)} of these cells "
            f"(such as {known[0]}), so it cannot be tested on them: start from generic or from scratch."
        )


def _chosen(
    cells: Sequence[CellFile],
    folds: Mapping[str, int],
    kinds: Mapping[str, str],
    settings: CrossValidateSettings,
    classes: Sequence[str] | None,
) -> list[CellFile]:
    """The cells to test now.

    Raises an InputError if there is no such fold or class, or the fold has no cell of these classes.
    """
    if settings.fold is not None and settings.fold > settings.folds:
        raise InputError(f"There is no fold {settings.fold}: give a number from 1 to {settings.folds}.")
    there = sorted({kinds[cell.name] for cell in cells})
    if unknown := [kind for kind in classes or () if kind not in there]:
        raise InputError(f"There is no cell of the class {unknown[0]!r}: choose among {', '.join(there)}.")
    found = [
        cell
        for cell in cells
        if settings.fold in (None, folds[cell.name]) and (classes is None or kinds[cell.name] in classes)
    ]
    if not found:
        raise InputError(f"Fold {settings.fold} has no cell of these classes: give another fold, or none.")
    return found
