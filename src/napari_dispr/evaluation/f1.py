"""F1 and confusion matrices of the classes that forests gave cells, with intervals. Plain counting."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Draws of cells for an interval, and its ends in percent.
DRAWS = 2000
ENDS = (2.5, 97.5)

#: What arms are compared with: nothing added, and rare cells that come several times.
PLAIN, REPEATED = "3D", "3D, rare cells repeated"

Counts = NDArray[np.float64]


class Predicted(NamedTuple):
    """The classes that one forest gave the cells of its test fold, by name."""

    arm: str
    seed: int
    fold: str
    classes: dict[str, str]


def confusion(true: NDArray[np.int64], found: NDArray[np.int64], count: int) -> Counts:
    """Cells of each true class (row) that were taken for each class (column)."""
    return np.bincount(true * count + found, minlength=count**2).reshape(count, count).astype(np.float64)


def f1_scores(matrix: Counts) -> tuple[float, float]:
    """Macro and weighted F1 of a confusion matrix; a class that is neither there nor found is left out.

    Notes
    -----
    F1 of a class is ``2 TP / (2 TP + FP + FN)``; macro is its mean over classes, weighted its mean over
    cells.
    """
    sizes, found = matrix.sum(axis=1), matrix.sum(axis=0)
    there = sizes + found > 0
    f1 = 2 * np.diag(matrix)[there] / (sizes + found)[there]
    return float(f1.mean()), float((f1 * sizes[there]).sum() / sizes.sum())


def summarised(results: Sequence[Predicted], classes: Mapping[str, str]) -> dict[str, Any]:
    """Scores of each arm with intervals, and differences between arms, by paired draws.

    Parameters
    ----------
    results : sequence of Predicted
        Of every arm, repetition and fold.
    classes : mapping of name to class
        True ones.

    Returns
    -------
    dict
        ``classes`` (with their numbers, in the order of the matrices), ``arms`` and ``differences``.
    """
    kinds = sorted(set(classes.values()), key=lambda kind: (-list(classes.values()).count(kind), kind))
    place = {kind: index for index, kind in enumerate(kinds)}
    names = list(classes)
    true = np.array([place[classes[name]] for name in names])
    arms = list(dict.fromkeys(one.arm for one in results))
    seeds = list(dict.fromkeys(one.seed for one in results))
    found = {arm: np.zeros((len(seeds), len(names)), np.int64) for arm in arms}
    where = {name: index for index, name in enumerate(names)}
    by_fold: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for one in results:
        cells = np.array([where[name] for name in one.classes])
        given = np.array([place[kind] for kind in one.classes.values()])
        found[one.arm][seeds.index(one.seed), cells] = given
        by_fold[one.arm].append(f1_scores(confusion(true[cells], given, len(kinds))))
    draws = _draws(true, found, len(kinds))
    told: dict[str, Any] = {}
    for arm in arms:
        matrices = np.array([confusion(true, given, len(kinds)) for given in found[arm]])
        scores = np.array([f1_scores(matrix) for matrix in matrices])
        folds = np.array(by_fold[arm])
        told[arm] = {
            score: {
                "mean": scores[:, column].mean(),
                "interval": np.percentile(draws[arm][:, column], ENDS),
                "folds_mean": folds[:, column].mean(),
                "folds_sd": folds[:, column].std(ddof=1) if len(folds) > 1 else np.nan,
                "seeds": scores[:, column],
            }
            for column, score in enumerate(("macro_f1", "weighted_f1"))
        }
        mean = matrices.mean(axis=0)
        told[arm]["f1_by_class"] = {
            kind: 2 * mean[i, i] / max(mean[i].sum() + mean[:, i].sum(), 1e-9) for kind, i in place.items()
        }
        told[arm]["confusion"] = mean
    return {
        "classes": {kind: int((true == index).sum()) for kind, index in place.items()},
        "interval": f"{ENDS[0]} to {ENDS[1]} percentile of {DRAWS} draws of cells within each class, each of "
        "a repetition at random",
        "arms": told,
        "differences": {
            f"{arm} against {base}": {
                score: {
                    "mean": told[arm][score]["mean"] - told[base][score]["mean"],
                    "interval": np.percentile(draws[arm][:, column] - draws[base][:, column], ENDS),
                }
                for column, score in enumerate(("macro_f1", "weighted_f1"))
            }
            for base in (PLAIN, REPEATED)
            if base in arms
            for arm in (arms if base == PLAIN else arms[arms.index(base) + 1 :])
            if arm != base
        },
    }


def _draws(true: NDArray[np.int64], found: Mapping[str, NDArray[np.int64]], count: int) -> dict[str, Counts]:
    """Macro and weighted F1 of each draw, (draw, 2): the same cells and repetition for all arms."""
    rng = np.random.default_rng(0)
    cells = [np.flatnonzero(true == kind) for kind in range(count)]
    scores: dict[str, Counts] = {arm: np.empty((DRAWS, 2)) for arm in found}
    for draw in range(DRAWS):
        drawn = np.concatenate([rng.choice(own, len(own)) for own in cells])
        seed = rng.integers(len(next(iter(found.values()))))
        for arm, given in found.items():
            scores[arm][draw] = f1_scores(confusion(true[drawn], given[seed, drawn], count))
    return scores
