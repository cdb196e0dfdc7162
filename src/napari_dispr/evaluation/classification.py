"""The classification experiment: do predicted shapes of rare classes help a random forest to classify cells?

docs/experiments.md says what leaks from the test cells into such an experiment, and what does not.
"""

import os
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.splits import folds_of, rarest, read_folds, read_table, real_cells, several_classes
from napari_dispr.errors import InputError
from napari_dispr.evaluation.f1 import REPEATED, FoldResult, summarise
from napari_dispr.evaluation.rows import trained_on
from napari_dispr.evaluation.shape_features import PLANE_FEATURES, SHAPE_FEATURES, TRUE, iter_features
from napari_dispr.events import in_one_go
from napari_dispr.files import in_natural_order, plain
from napari_dispr.settings import ClassifySettings, checked_settings
from napari_dispr.shapes.measures import PICTURE_MEASURES
from napari_dispr.version import __version__

FEATURES_FILE = "features.csv"
#: Placeholder for the test fold in the name of a source.
_FOLD = "{fold}"
#: Sets of features that forests are trained on.
SETS: dict[str, tuple[str, ...]] = {
    "2D": PLANE_FEATURES,
    "3D": SHAPE_FEATURES,
    "2D + 3D": (*PLANE_FEATURES, *SHAPE_FEATURES),
}


@dataclass(frozen=True, slots=True)
class PredictedShapes:
    """Predicted shapes of one method; no model was trained on the cells whose shapes it predicted.

    Attributes
    ----------
    folder : path
        Holds ``NAME.tif`` with axes (member, z, y, x), as a cross-validated evaluation saves them.
    inner : bool
        True for inner cross-validations. Then ``folder`` holds one folder for each test fold, whose
        ``shapes/METHOD/NAME.tif`` are of models that have not seen any cell of the test fold either.
    """

    method: str
    folder: Path
    inner: bool = False

    @property
    def title(self) -> str:
        return f"3D + {self.method}" + (" (strict)" if self.inner else "")


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of the experiment: which features, and what is added to the training cells.

    Attributes
    ----------
    source : str or None
        Source of the predicted shapes that are added for the rare training cells. With ``{fold}`` in it,
        each test fold has its own source.
    repeated : int
        How often the true rows of the rare training cells are repeated: this adds as many rows as predicted
        shapes would, but no new information.
    """

    name: str
    features: tuple[str, ...]
    source: str | None = None
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Classified:
    """A forest was trained and has classified its test fold: ``done`` of ``total``."""

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
        With objects (``read_dataset(folder, need_objects=True)``). Cells with predicted objects are left out.
    shapes : sequence of PredictedShapes, optional
        Each is an arm of the experiment.
    folds : path, optional
        CSV with the columns ``name`` and ``fold``: the folds of the cross-validation that made ``shapes``.
        Required with ``shapes``; otherwise each repetition draws its own folds.
    class_table : path, optional
        CSV with the columns ``name`` and ``class``; by default the class is read from the name of the cell.
    out : path, optional
        Folder for ``features.csv`` (a later run reads it and computes no features twice),
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
        The content of ``classification.json``: for each arm F1 (macro and weighted) with its interval, its
        mean and standard deviation over folds, and the confusion matrix; then the differences between arms.

    Raises
    ------
    InputError
        If classes, folds or shapes are missing or do not fit together.

    Notes
    -----
    A random forest needs neither scaling nor selection of features, so no step is fitted on test cells. F1
    is computed from all test folds together; each repetition tests each cell once. The interval runs from
    the 2.5 to the 97.5 percentile of 2000 resamples of the cells within each class, each taken from a random
    repetition. So it covers the chance in cells, forests and, where they vary, folds.
    """
    chosen = checked_settings(ClassifySettings, settings)
    cells = real_cells(cells)
    if not cells:
        raise InputError("There are no cells to classify: give a dataset with obj, image and mask.")
    if shapes and folds is None:
        raise InputError(
            "Predicted shapes need the folds of their models: give the folds.csv of the evaluation."
        )
    kinds = several_classes(cells, class_table)
    if alone := [kind for kind, count in Counter(kinds.values()).items() if count < 2]:
        raise InputError(
            f"The class {alone[0]} has only one cell, which cannot be in training and test: add cells of "
            "this class, or leave it out."
        )
    rare = rarest(kinds, chosen.rare) if shapes else []
    given = None if folds is None else read_folds(folds, cells)
    folder = None if out is None else Path(out)
    features = yield from iter_features(
        cells, _sources(shapes, kinds, rare, given or {}), None if folder is None else folder / FEATURES_FILE
    )
    arms = _arms(shapes, features, pictured=all(cell.image is not None for cell in cells))
    results: list[FoldResult] = []
    total = len(arms) * chosen.seeds * (len(set(given.values())) if given else chosen.fold_count)
    for seed in range(chosen.seeds):
        dealt = folds_of(cells, chosen.fold_count, kinds, seed) if given is None else {}
        of_cell = given or {name: str(fold) for name, fold in dealt.items()}
        for arm in arms:
            for fold in sorted(set(of_cell.values()), key=in_natural_order):
                training = training_rows(features, arm, kinds, of_cell, fold, rare)
                tested = features[(features["source"] == TRUE) & (features["cell"].map(of_cell) == fold)]
                found = _classified(training, tested, arm, kinds, seed, chosen)
                results.append(FoldResult(arm.name, seed, fold, found))
                yield Classified(arm.name, seed, fold, len(results), total)
    summary: dict[str, Any] = plain(
        {
            "software": f"napari-dispr {__version__}",
            "settings": {
                **chosen.model_dump(exclude={"jobs", "fold_count"}),
                "folds": f"{chosen.fold_count}, other ones in each repetition"
                if given is None
                else f"{len(set(given.values()))}, of {Path(folds or '').name}",
            },
            "rare": rare,
            **summarise(results, kinds),
        }
    )
    if folder is not None:
        from napari_dispr.evaluation.classification_report import write_classification

        write_classification(folder, summary, results, kinds)
    return summary


classify = in_one_go(iter_classify)


def training_rows(
    features: pd.DataFrame,
    arm: Arm,
    classes: Mapping[str, str],
    folds: Mapping[str, str],
    test: str,
    rare: Sequence[str],
) -> pd.DataFrame:
    """The rows of `iter_features` that a forest is trained on, without cells of the fold ``test``.

    ``classes`` and ``folds`` are those of each cell, by its name; the ``rare`` classes get additional rows.
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


def _classified(
    training: pd.DataFrame,
    tested: pd.DataFrame,
    arm: Arm,
    classes: Mapping[str, str],
    seed: int,
    settings: ClassifySettings,
) -> dict[str, str]:
    """Train a forest, and predict the class of each tested cell."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        settings.trees, max_depth=settings.depth, random_state=seed, n_jobs=settings.jobs or -1
    )
    columns = list(arm.features)
    forest.fit(_numbers(training[columns]), training["cell"].map(classes).to_numpy())
    found = forest.predict(_numbers(tested[columns]))
    return dict(zip(tested["cell"], map(str, found), strict=True))


def _numbers(table: pd.DataFrame) -> NDArray[np.float32]:
    """As forests accept them: float32, NaN where a shape lacks the feature."""
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
    """Name of a method in the table of features; with inner cross-validations each test fold has its own."""
    return f"{shapes.method} without {fold}" if shapes.inner else shapes.method


def _sources(
    shapes: Sequence[PredictedShapes],
    classes: Mapping[str, str],
    rare: Sequence[str],
    folds: Mapping[str, str],
) -> dict[str, tuple[Path, list[str]]]:
    """The folder of each source, and the names of its cells."""
    names = [name for name, kind in classes.items() if kind in rare]
    found: dict[str, tuple[Path, list[str]]] = {}
    for one in shapes:
        if one.inner:
            own = {}
            for test in sorted(set(folds.values()), key=in_natural_order):
                _check_inner(
                    one.folder / test / "folds.csv", [n for n, fold in folds.items() if fold == test]
                )
                wanted = [name for name in names if folds[name] != test]
                own[_source(one, test)] = one.folder / test / "shapes" / one.method, wanted
        else:
            _check_outer(one, names, folds)
            own = {one.method: (one.folder, names)}
        if same := own.keys() & {*found, TRUE}:
            raise InputError(f"Two methods have the name {min(same)!r}: rename the folder of one of them.")
        found |= own
    return found


def _check_outer(shapes: PredictedShapes, names: Sequence[str], folds: Mapping[str, str]) -> None:
    """Check that the shapes belong to these folds and that their models have not seen the cells."""
    evaluation = shapes.folder.absolute().parent.parent
    table = evaluation / "folds.csv"
    if table.is_file():
        own = read_table(table, "fold")
        if other := [name for name, fold in folds.items() if own.get(name) != fold]:
            raise InputError(
                f"{table} has the cell {other[0]} in another fold than the given table of folds, so the "
                f"models of {shapes.folder} may have seen it: give shapes and folds of the same "
                "cross-validation."
            )
    if seen := trained_on(evaluation, shapes.folder.name) & set(names):
        raise InputError(
            f"The model of {shapes.folder} was trained on {len(seen)} of the cells that it drew (such as "
            f"{min(seen)}): give shapes of a cross-validation (evaluate --folds)."
        )


def _check_inner(table: Path, tested: Sequence[str]) -> None:
    """Check that no model of an inner cross-validation has seen a cell of the test fold."""
    if not table.is_file():
        raise InputError(
            f"There is no file {table}: cross-validate the cells of the other folds into that folder."
        )
    known = read_table(table, "fold")
    if both := [name for name in tested if name in known]:
        raise InputError(
            f"{table} has the cell {both[0]}, which is in the test fold {table.parent.name}: cross-validate "
            "again without the cells of that fold."
        )
