"""Classify as a verb: how well a random forest tells classes of cells apart, and whether predicted shapes of
the rare classes, added to its training part, help.

What leaks from the test cells into such an experiment, and what does not, stands in docs/experiments.md.
"""

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.splits import folds_of, rarest, read_folds, read_table, real_cells, several_classes
from napari_dispr.errors import InputError
from napari_dispr.evaluation.f1 import REPEATED, Predicted, summarised
from napari_dispr.evaluation.rows import trained_on
from napari_dispr.evaluation.shape_features import PLANE_FEATURES, SHAPE_FEATURES, TRUE, iter_features
from napari_dispr.events import result_of
from napari_dispr.files import plain
from napari_dispr.settings import ClassifySettings, checked_settings
from napari_dispr.shapes.measures import PICTURE_MEASURES
from napari_dispr.version import __version__

__all__ = ["Arm", "Classified", "PredictedShapes", "classify", "iter_classify", "training_rows"]

FEATURES_FILE = "features.csv"
#: Stands for the test fold in the name of a source.
_FOLD = "{fold}"
#: Features by which the experiment is made.
SETS: dict[str, tuple[str, ...]] = {
    "2D": PLANE_FEATURES,
    "3D": SHAPE_FEATURES,
    "2D + 3D": (*PLANE_FEATURES, *SHAPE_FEATURES),
}


@dataclass(frozen=True, slots=True)
class PredictedShapes:
    """Predicted shapes of one method, every one drawn by a model that was not trained on its cell.

    Attributes
    ----------
    method : str
    folder : path
        ``NAME.tif``, (member, z, y, x), as a cross-validated evaluation saves them.
    inner : bool
        Whether they are of inner cross-validations: then ``folder`` holds a folder for each test fold, in
        which ``shapes/METHOD/NAME.tif`` come from models that have seen no cell of the test fold either.
    """

    method: str
    folder: Path
    inner: bool = False

    @property
    def title(self) -> str:
        """What the arm is called."""
        return f"3D + {self.method}" + (" (strict)" if self.inner else "")


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of the experiment: which features, and what is added to the training part.

    Attributes
    ----------
    name : str
    features : tuple of str
    source : str or None
        Source of the rows that are added, of rare cells of the training part. With `_FOLD` in it, each test
        fold has a source of its own.
    repeated : int
        How often the true rows of rare cells of the training part come once more: as many rows as predicted
        shapes would be, without anything new in them.
    """

    name: str
    features: tuple[str, ...]
    source: str | None = None
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Classified:
    """A forest is grown and has classified its test fold: ``done`` of ``total``."""

    arm: str
    seed: int
    fold: str
    done: int
    total: int


def iter_classify(
    cells: Sequence[CellFile],
    *,
    shapes: Sequence[PredictedShapes] = (),
    folds: str | os.PathLike[str] | None = None,
    class_table: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Generator[Any, None, dict[str, Any]]:
    """The paper's classification experiment.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects (``read_dataset(folder, need_objects=True)``). Predicted ones are left out.
    shapes : sequence of PredictedShapes, optional
        Predicted shapes: each is an arm of the experiment.
    folds : path, optional
        CSV with the columns ``name`` and ``fold``: the folds of the cross-validation that ``shapes`` are of,
        without which these are refused. By default each repetition has folds of its own.
    class_table : path, optional
        CSV with the columns ``name`` and ``class``; by default the names tell the classes.
    out : path, optional
        Folder for ``features.csv`` (every shape is described once, also when this is interrupted),
        ``classification.json``, ``classification.csv``, ``predictions.csv``, ``table.md`` and
        ``classification.png``.
    **settings
        Fields of :class:`~napari_dispr.settings.ClassifySettings`: ``rare``, ``seeds``, ``trees``, ...

    Yields
    ------
    Described, Classified

    Returns
    -------
    dict
        As in ``classification.json``: for each arm F1 (macro and weighted) with its interval, the mean and
        standard deviation over folds, the confusion matrix; and the differences between arms.

    Raises
    ------
    InputError
        If classes, folds or shapes are missing or do not go together.

    Notes
    -----
    A random forest needs neither scaling nor selection of features, so none is fitted on anything. F1 is of
    the predictions of all test folds together, each cell tested once a repetition; its interval is the 2.5
    to 97.5 percentile of 2000 draws of cells with replacement within each class, each draw of a repetition
    at random: it holds the chance of cells, forests and, where they vary, folds.
    """
    chosen = checked_settings(ClassifySettings, settings)
    cells = real_cells(cells)
    if not cells:
        raise InputError("There are no cells to classify: give a dataset with obj, image and mask.")
    if shapes and folds is None:
        raise InputError(
            "Predicted shapes come without the folds of their models: give the folds.csv of the evaluation."
        )
    kinds = several_classes(cells, class_table)
    if alone := [kind for kind, count in Counter(kinds.values()).items() if count < 2]:
        raise InputError(
            f"The class {alone[0]} has one cell, which cannot be trained on and tested: add cells of it, or "
            "leave it out."
        )
    rare = rarest(kinds, chosen.rare) if shapes else []
    given = None if folds is None else read_folds(folds, cells)
    folder = None if out is None else Path(out)
    features = yield from iter_features(
        cells,
        _sources(shapes, kinds, rare, given or {}),
        None if folder is None else folder / FEATURES_FILE,
    )
    arms = _arms(shapes, features, pictured=all(cell.image is not None for cell in cells))
    results: list[Predicted] = []
    total = len(arms) * chosen.seeds * (len(set(given.values())) if given else chosen.fold_count)
    for seed in range(chosen.seeds):
        dealt = folds_of(cells, chosen.fold_count, kinds, seed) if given is None else {}
        of_cell = given or {name: str(fold) for name, fold in dealt.items()}
        for arm in arms:
            for fold in sorted(set(of_cell.values()), key=_natural):
                results.append(_tested(features, arm, kinds, of_cell, fold, rare, seed, chosen))
                yield Classified(arm.name, seed, fold, len(results), total)
    summary: dict[str, Any] = plain(
        {
            "software": f"napari-dispr {__version__}",
            "settings": {
                **chosen.model_dump(exclude={"jobs", "fold_count"}),
                "folds": _fold_texts(given, chosen, folds),
            },
            "rare": rare,
            **summarised(results, kinds),
        }
    )
    if folder is not None:
        from napari_dispr.evaluation.classification_report import write_classification

        write_classification(folder, summary, results, kinds)
    return summary


def classify(
    cells: Sequence[CellFile], *, progress: Callable[[Any], None] | None = None, **options: Any
) -> dict[str, Any]:
    """`iter_classify` in one go: calls ``progress`` with each event and returns the summary."""
    return result_of(iter_classify(cells, **options), progress)


def training_rows(
    features: pd.DataFrame,
    arm: Arm,
    classes: Mapping[str, str],
    folds: Mapping[str, str],
    test: str,
    rare: Sequence[str],
) -> pd.DataFrame:
    """Rows that a forest is grown from when ``test`` is the test fold; none is of a cell of that fold.

    Parameters
    ----------
    features : DataFrame
        From `iter_features`.
    arm : Arm
    classes, folds : mapping of name to class, and to fold
    test : str
    rare : sequence of str
        Classes to which rows are added.
    """
    training = features[features["cell"].map(folds) != test]
    true = training[training["source"] == TRUE]
    parts = [true]
    if arm.repeated:
        parts += [true[true["cell"].map(classes).isin(rare)]] * arm.repeated
    if arm.source is not None:
        drawn = training[training["source"] == arm.source.replace(_FOLD, test)]
        parts.append(drawn[drawn["cell"].map(classes).isin(rare)])
    return pd.concat(parts)


def _tested(
    features: pd.DataFrame,
    arm: Arm,
    classes: Mapping[str, str],
    folds: Mapping[str, str],
    test: str,
    rare: Sequence[str],
    seed: int,
    settings: ClassifySettings,
) -> Predicted:
    """The classes that a forest, grown from the other folds, gives the true shapes of one fold."""
    from sklearn.ensemble import RandomForestClassifier

    training = training_rows(features, arm, classes, folds, test, rare)
    tested = features[(features["source"] == TRUE) & (features["cell"].map(folds) == test)]
    forest = RandomForestClassifier(
        settings.trees, max_depth=settings.depth, random_state=seed, n_jobs=settings.jobs or -1
    )
    columns = list(arm.features)
    forest.fit(_numbers(training[columns]), training["cell"].map(classes).to_numpy())
    found = forest.predict(_numbers(tested[columns]))
    return Predicted(arm.name, seed, test, dict(zip(tested["cell"], map(str, found), strict=True)))


def _numbers(table: pd.DataFrame) -> NDArray[np.float32]:
    """As forests take them: float32, NaN where a shape has no such feature."""
    limit = float(np.finfo(np.float32).max)
    return table.to_numpy(np.float64).clip(-limit, limit).astype(np.float32)


def _arms(shapes: Sequence[PredictedShapes], features: pd.DataFrame, *, pictured: bool) -> list[Arm]:
    left_out = () if pictured else tuple(PICTURE_MEASURES)
    arms = [Arm(name, tuple(c for c in columns if c not in left_out)) for name, columns in SETS.items()]
    drawn = features[features["source"] != TRUE]
    if shapes:
        members = int(drawn.groupby(["cell", "source"]).size().max())
        arms.append(Arm(REPEATED, SETS["3D"], repeated=members))
    return arms + [Arm(one.title, SETS["3D"], source=_source(one, _FOLD)) for one in shapes]


def _source(shapes: PredictedShapes, fold: str) -> str:
    """What the table of features calls a method's members; of inner folds each test fold has its own."""
    return f"{shapes.method} without {fold}" if shapes.inner else shapes.method


def _sources(
    shapes: Sequence[PredictedShapes],
    classes: Mapping[str, str],
    rare: Sequence[str],
    folds: Mapping[str, str],
) -> dict[str, tuple[Path, list[str]]]:
    """Where the members of each source lie, and of which cells."""
    names = [name for name, kind in classes.items() if kind in rare]
    found: dict[str, tuple[Path, list[str]]] = {}
    for one in shapes:
        for source, folder, wanted in _folders(one, names, folds):
            if source in found or source == TRUE:
                raise InputError(f"Two methods are called {source!r}: rename the folder of one.")
            found[source] = folder, wanted
    return found


def _folders(
    shapes: PredictedShapes, names: Sequence[str], folds: Mapping[str, str]
) -> Iterator[tuple[str, Path, list[str]]]:
    if not shapes.inner:
        _check_outer(shapes, names, folds)
        yield shapes.method, shapes.folder, list(names)
        return
    for test in sorted(set(folds.values()), key=_natural):
        place = shapes.folder / test
        _check_inner(place / "folds.csv", [name for name, fold in folds.items() if fold == test])
        yield (
            _source(shapes, test),
            place / "shapes" / shapes.method,
            [name for name in names if folds[name] != test],
        )


def _check_outer(shapes: PredictedShapes, names: Sequence[str], folds: Mapping[str, str]) -> None:
    """Shapes are of the folds that are given, and of models that had not seen their cells."""
    evaluation = shapes.folder.parent.parent
    table = evaluation / "folds.csv"
    if table.is_file():
        own = read_table(table, "fold")
        if other := [name for name, fold in folds.items() if own.get(name) != fold]:
            raise InputError(
                f"{table} has the cell {other[0]} in another fold than the table of folds that is given: the "
                f"models of {shapes.folder} may have seen it. Take shapes of one cross-validation."
            )
    if seen := trained_on(evaluation, shapes.folder.name) & set(names):
        raise InputError(
            f"The model of {shapes.folder} was trained on {len(seen)} of the cells that it drew (such as "
            f"{min(seen)}): take shapes of models that were trained for each fold."
        )


def _check_inner(table: Path, tested: Sequence[str]) -> None:
    """No model of an inner cross-validation may have met a cell of the test fold."""
    if not table.is_file():
        raise InputError(f"There is no {table}: cross-validate the cells of the other folds into its folder.")
    met = read_table(table, "fold")
    if both := [name for name in tested if name in met]:
        raise InputError(
            f"{table} has the cell {both[0]}, which is in the test fold {table.parent.name}: leave the cells "
            "of that fold out, and cross-validate the others again."
        )


def _natural(fold: str) -> tuple[int, str]:
    """Numbers by their size, other names by themselves."""
    return (int(fold), "") if fold.isdigit() else (-1, fold)


def _fold_texts(given: Mapping[str, str] | None, chosen: ClassifySettings, table: Any) -> Any:
    if given is None:
        return f"{chosen.fold_count}, drawn anew for each repetition"
    return f"{len(set(given.values()))}, of {Path(table).name}"
