"""F1 scores and confusion matrices of a classification, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Resamples of the cells for an interval, and its ends in percent.
RESAMPLES = 2000
ENDS = (2.5, 97.5)

#: Arms that others are compared with: nothing added, and rare cells that occur several times.
PLAIN, REPEATED = "3D", "3D, rare cells repeated"

Counts = NDArray[np.float64]
_SCORES = ("macro_f1", "weighted_f1")


class FoldResult(NamedTuple):
    """The classes that one forest predicted for the cells of its test fold, by the name of the cell."""

    arm: str
    seed: int
    fold: str
    classes: dict[str, str]


def confusion(true: NDArray[np.int64], found: NDArray[np.int64], count: int) -> Counts:
    """Number of cells by true class (row) and predicted class (column)."""
    return np.bincount(true * count + found, minlength=count**2).reshape(count, count).astype(np.float64)


def f1_scores(matrix: Counts) -> tuple[float, float]:
    """Macro and weighted F1 of a confusion matrix; classes without true and predicted cells are left out.

    F1 of a class is ``2 TP / (2 TP + FP + FN)``. Macro F1 is its mean over classes, weighted F1 its mean
    over cells.
    """
    sizes, found = matrix.sum(axis=1), matrix.sum(axis=0)
    there = sizes + found > 0
    f1 = 2 * np.diag(matrix)[there] / (sizes + found)[there]
    return float(f1.mean()), float((f1 * sizes[there]).sum() / sizes.sum())


def summarise(results: Sequence[FoldResult], classes: Mapping[str, str]) -> dict[str, Any]:
    """Scores of each arm and differences between arms, with intervals from paired resamples.

    Returns ``classes`` (class to number of cells, in the order of the matrices), ``arms`` and
    ``differences``.
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
    draws = _resampled(true, found, len(kinds))
    scored = {arm: _scored(true, found[arm], np.array(by_fold[arm]), draws[arm], kinds) for arm in arms}
    return {
        "classes": {kind: int((true == index).sum()) for kind, index in place.items()},
        "interval": f"{ENDS[0]} to {ENDS[1]} percentile of {RESAMPLES} resamples of the cells within each "
        "class, each of a random repetition",
        "arms": scored,
        "differences": {
            f"{arm} against {base}": {
                score: {
                    "mean": scored[arm][score]["mean"] - scored[base][score]["mean"],
                    "interval": np.percentile(draws[arm][:, column] - draws[base][:, column], ENDS),
                }
                for column, score in enumerate(_SCORES)
            }
            for base in (PLAIN, REPEATED)
            if base in arms
            for arm in (arms if base == PLAIN else arms[arms.index(base) + 1 :])
            if arm != base
        },
    }


def _scored(
    true: NDArray[np.int64], found: NDArray[np.int64], folds: Counts, draws: Counts, kinds: Sequence[str]
) -> dict[str, Any]:
    """Scores of one arm, from the classes found, (seed, cell), and its scores of folds and resamples."""
    matrices = np.array([confusion(true, given, len(kinds)) for given in found])
    scores = np.array([f1_scores(matrix) for matrix in matrices])
    mean = matrices.mean(axis=0)
    return {
        score: {
            "mean": scores[:, column].mean(),
            "interval": np.percentile(draws[:, column], ENDS),
            "folds_mean": folds[:, column].mean(),
            "folds_sd": folds[:, column].std(ddof=1) if len(folds) > 1 else np.nan,
            "seeds": scores[:, column],
        }
        for column, score in enumerate(_SCORES)
    } | {
        "f1_by_class": {
            kind: 2 * mean[i, i] / max(mean[i].sum() + mean[:, i].sum(), 1e-9) for i, kind in enumerate(kinds)
        },
        "confusion": mean,
    }


def _resampled(
    true: NDArray[np.int64], found: Mapping[str, NDArray[np.int64]], count: int
) -> dict[str, Counts]:
    """Macro and weighted F1 of each resample, (resample, 2): all arms get the same cells and repetition."""
    rng = np.random.default_rng(0)
    cells = [np.flatnonzero(true == kind) for kind in range(count)]
    scores: dict[str, Counts] = {arm: np.empty((RESAMPLES, 2)) for arm in found}
    for draw in range(RESAMPLES):
        drawn = np.concatenate([rng.choice(own, len(own)) for own in cells])
        seed = rng.integers(len(next(iter(found.values()))))
        for arm, given in found.items():
            scores[arm][draw] = f1_scores(confusion(true[drawn], given[seed, drawn], count))
    return scores
