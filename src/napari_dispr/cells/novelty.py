"""Novelty detection: is a cell unlike the training cells of a model, by its mask and image?

Knows arrays only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr import grid
from napari_dispr.card import KNOWN, Direction, FeatureGroup, Novelty
from napari_dispr.cells.cropping import INSIDE, box_centre
from napari_dispr.cells.features import GROUPS, Floats, Plane, features, rounded
from napari_dispr.errors import InputError

#: Mask and image (or None) of a cell on the model grid, (64, 64) each.
Seen = tuple[Plane, Plane | None]

#: Share of cells like the training cells that may get a warning.
FALSE_ALARMS = 0.03
#: Least number of training cells for a fit.
LEAST_CELLS = 20

#: Share of the identity in the shrunken correlation of the features, which is then stable for few cells.
_SHRINKAGE = 0.05
_FOLDS = 10
#: Statistics are divided by this quantile over the training cells.
_UNIT = 0.98
_DIRECTIONS = {
    "blurred": "its picture looks blurred",
    "inverted": "its picture is dark where others are bright: inverted, or of another stain",
    "strange": "its picture looks like that of another stain or kind of cell",
}
#: A cell with a low and with a high value of a feature of the mask, in words.
_WORDS = {
    "extent": ("smaller", "larger"),
    "area": ("smaller", "larger"),
    "fill": ("thinner or more hollow", "fuller"),
    "elongation": ("rounder", "more elongated"),
    "solidity": ("more branched or dented", "more compact"),
    "parts": ("in fewer parts", "in more parts"),
    "holes": ("with smaller holes", "with larger holes"),
    "perimeter": ("smoother", "more jagged"),
}
#: Largest number of labels in a warning.
_LISTED = 20


def fit_novelty(
    cells: Sequence[Seen], strangers: Sequence[Seen] = (), *, extent: float = 50.0, least: int = LEAST_CELLS
) -> Novelty:
    """Learn what the training cells look like.

    Raises an InputError if there are fewer than ``least`` cells.

    Parameters
    ----------
    cells : sequence of (mask, image or None)
        The training cells on the model grid, at the scale of the training. Those without an image are left
        out, unless too few have one.
    strangers : sequence of (mask, image)
        Cells of other kinds, which the detector learns to separate from the training cells.
    extent : float
        Larger side of the bounding box of a cell at the scale "auto", in voxels (``typical_extent``).
    least : int
        Least number of cells. Of few cells those left out are far from the others, so that the limits are
        wide: fewer cells that are unlike them get a warning.

    Notes
    -----
    Each cell counts unchanged and with slightly different optics (gamma, blur below 1 voxel, noise), and both
    also at the extent of the scale "auto", since a model is trained on such variation.

    Features of size, shape and picture (`features`) each give a Mahalanobis distance with a shrunken
    correlation. Linear discriminants detect what spoils a prediction but changes these distances little:
    cells that are blurred (sigma 2 to 3 voxels) or inverted, and strangers. Each of these statistics is
    divided by its 98 % quantile over the training cells, by tenfold cross-validation; the largest decides.

    The threshold is value number ``ceil((n + 1) 0.97)`` of n in ascending order, as in conformal outlier
    detection [1]_. The n values are those of cells in their true size, or at the extent of "auto" if sizes
    are not known.

    References
    ----------
    .. [1] Laxhammar and Falkman (2010). Conformal prediction for distribution-independent anomaly
       detection in streaming vessel data. StreamKDD.
    """
    pictured = [cell for cell in cells if "picture" in features(*cell)]
    cells = pictured if len(pictured) >= least else [(mask, None) for mask, _ in cells]
    if len(cells) < least:
        raise InputError(f"{len(cells)} cells are too few for novelty detection: give at least {least}.")
    rng = np.random.default_rng(0)
    seen = [[features(*version) for version in _versions(cell, extent, rng)] for cell in cells]
    spoiled = {
        name: np.array(
            [
                [features(*version)["picture"] for version in _spoiled(mask, image, name, extent, rng)]
                for mask, image in cells
                if image is not None
            ]
        )
        for name in ("blurred", "inverted")
    }
    foreign = [features(*version) for cell in strangers for version in (cell, at_extent(*cell, extent))]
    return _Training(
        {group: np.array([[version[group] for version in own] for own in seen]) for group in seen[0][0]},
        {name: table for name, table in spoiled.items() if len(table)},
        np.array([version["picture"] for version in foreign if "picture" in version]),
    ).novelty(rng)


def novelty_reason(novelty: Novelty, seen: Mapping[str, Sequence[float]], *, sized: bool) -> str | None:
    """What is unusual in the `features` of a cell, as the end of "Cell 7 is unlike the training data: ...".

    None if the cell is like the training data, as 97 % of the training cells are. ``sized`` says whether the
    size on the grid is the true size. It is not with the scale "auto".
    """
    known = [one for one in GROUPS if one in novelty.groups and one in seen and (one != "size" or sized)]
    threshold = novelty.thresholds["+".join(known)]
    unusual: dict[str, float] = {}
    likely: dict[str, float] = {}
    deviations: dict[str, Floats] = {}
    for group in known:
        usual = novelty.groups[group]
        deviations[group] = (np.array(seen[group]) - usual.mean) / usual.sd
        whitening = np.array(usual.whitening)
        unusual[group] = float(np.linalg.norm(deviations[group] @ whitening)) / usual.unit / threshold
        for name, direction in novelty.directions.items() if group == "picture" else ():
            along = float(deviations[group] @ np.array(direction.weights))
            unusual[name] = along / direction.unit / threshold
            if unusual[name] > 1:
                away = deviations[group] - direction.centre
                likely[name] = -float(np.linalg.norm(away @ whitening))
    most = max(unusual, key=lambda name: unusual[name])
    if unusual[most] <= 1:
        return None
    if most in ("size", "shape"):
        feature = int(np.abs(deviations[most]).argmax())
        word = _WORDS[GROUPS[most][feature]][int(deviations[most][feature] > 0)]
        return f"it is {word} than usual" if most == "size" else f"its outline is unusual ({word})"
    # The most similar of all kinds found: inverted images are also far in the direction of blurred ones.
    if likely:
        return _DIRECTIONS[max(likely, key=lambda name: likely[name])]
    return "its picture has an unusual contrast or texture"


def in_words(reasons: Mapping[str, str], of: int) -> list[str]:
    """One sentence per novel cell, or one sentence for all if they are more than three.

    ``reasons`` maps a cell's name to its `novelty_reason`; ``of`` is the number of all cells.
    """
    if len(reasons) <= 3:
        return [f"Cell {name} is unlike the training data: {reason}." for name, reason in reasons.items()]
    names = list(reasons)
    listed = ", ".join(names[:_LISTED]) + (" and others" if len(names) > _LISTED else "")
    given = list(reasons.values())
    common = max(dict.fromkeys(given), key=given.count)
    often = "each" if given.count(common) == len(given) else f"{given.count(common)} of them"
    return [
        f"{len(names)} of {of} cells are unlike the training data: {listed} (reason for {often}: {common})."
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """Mean, standard deviation and whitening of each group, and weights of each direction."""

    groups: dict[str, tuple[Floats, Floats, Floats]]
    directions: dict[str, Floats]

    def statistics(self, tables: Mapping[str, Floats]) -> dict[str, Floats]:
        """The statistics of cells, each (cell, version)."""
        found = {}
        for group, (mean, sd, whitening) in self.groups.items():
            deviation = (tables[group] - mean) / sd
            found[group] = np.linalg.norm(deviation @ whitening, axis=-1)
            if group == "picture":
                found |= {name: deviation @ weights for name, weights in self.directions.items()}
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    """Features of training cells and of spoiled cells, (cell, version, feature), and of strangers."""

    tables: dict[str, Floats]
    spoiled: dict[str, Floats]
    foreign: Floats

    def others(self, cells: NDArray[np.int64]) -> dict[str, Floats]:
        """Features of the cells that each direction detects."""
        found = {name: table[cells] for name, table in self.spoiled.items()}
        return found | ({"strange": self.foreign} if len(self.foreign) else {})

    def learn(self, cells: NDArray[np.int64]) -> _Learned:
        groups = {}
        for group, table in self.tables.items():
            # Only true sizes: at the extent of "auto" all sizes are equal.
            own = table[cells, :1] if group == "size" else table[cells]
            rows = own.reshape(-1, own.shape[-1])
            mean, sd = rows.mean(axis=0), rows.std(axis=0) + 1e-3
            correlation = _shrunk(np.cov((rows - mean).T / sd[:, None]))
            groups[group] = mean, sd, np.linalg.cholesky(np.linalg.inv(correlation))
        directions = {}
        if "picture" in self.tables:
            mean, sd, _ = groups["picture"]
            others = self.others(cells)
            own = (self.tables["picture"][cells].reshape(-1, len(mean)) - mean) / sd
            for name, table in others.items():
                other = (table.reshape(-1, len(mean)) - mean) / sd
                within = _shrunk((np.cov(own.T) + np.cov(other.T)) / 2)
                weights = np.linalg.solve(within, other.mean(axis=0) - own.mean(axis=0))
                directions[name] = weights / (own @ weights).std()
        return _Learned(groups, directions)

    def novelty(self, rng: np.random.Generator) -> Novelty:
        """Fit to all cells, with units and thresholds from cross-validation."""
        count = len(self.tables["shape"])
        fold = rng.permutation(count) % _FOLDS
        left_out: dict[str, Floats] = {}
        for number in range(_FOLDS):
            inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            found = self.learn(inside).statistics({k: table[outside] for k, table in self.tables.items()})
            for name, values in found.items():
                left_out.setdefault(name, np.empty((count, values.shape[1])))[outside] = values
        # Only true sizes.
        own_sizes = self.tables["size"].shape[1] // 2
        left_out["size"][:, own_sizes:] = left_out["size"][:, :own_sizes]
        units = {name: float(np.quantile(values, _UNIT)) for name, values in left_out.items()}
        thresholds = {}
        for known in KNOWN:
            if set(groups := known.split("+")) <= self.tables.keys():
                names = [name for name in left_out if (name if name in GROUPS else "picture") in groups]
                largest = np.max([left_out[name] / units[name] for name in names], axis=0)
                half = largest.shape[1] // 2  # in their true size; the other half at the extent of "auto"
                values = np.sort((largest[:, :half] if "size" in groups else largest[:, half:]).ravel())
                place = int(np.ceil((len(values) + 1) * (1 - FALSE_ALARMS)))
                thresholds[known] = float(f"{values[min(place, len(values)) - 1]:.6g}")
        everyone = np.arange(count)
        learned = self.learn(everyone)
        centres = {}
        for name, others in self.others(everyone).items():
            mean, sd, _ = learned.groups["picture"]
            centres[name] = rounded((others.reshape(-1, len(mean)).mean(axis=0) - mean) / sd)
        return Novelty(
            groups={
                group: FeatureGroup(
                    names=GROUPS[group],
                    mean=rounded(mean),
                    sd=rounded(sd),
                    whitening=tuple(rounded(row) for row in whitening),
                    unit=units[group],
                )
                for group, (mean, sd, whitening) in learned.groups.items()
            },
            directions={
                name: Direction(weights=rounded(weights), unit=units[name], centre=centres[name])
                for name, weights in learned.directions.items()
            },
            thresholds=thresholds,
            cells=count,
        )


def _shrunk(covariance: Floats) -> Floats:
    return (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.eye(len(covariance))


def _versions(cell: Seen, extent: float, rng: np.random.Generator) -> list[Seen]:
    """A cell unchanged and, with an image, with other optics; both also at the extent of "auto"."""
    mask, image = cell
    if image is None:
        return [cell, at_extent(mask, None, extent)]
    own = [cell, (mask, other_optics(image, rng))]
    return [*own, *(at_extent(*version, extent) for version in own)]


def other_optics(image: Plane, rng: np.random.Generator) -> Plane:
    """The image as from another microscope: random gamma, blur and noise."""
    image = np.clip(image, 0, None) ** rng.uniform(0.8, 1.25)
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.0))
    return _noisy(image, 0.03, rng)


def _spoiled(mask: Plane, image: Plane, how: str, extent: float, rng: np.random.Generator) -> list[Seen]:
    """A training cell blurred or inverted, in its true size and at the extent of "auto"."""
    if how == "blurred":
        wrong = _noisy(ndimage.gaussian_filter(image, rng.uniform(2, 3)), 0.015, rng)
    else:
        wrong = _noisy(np.clip(image[mask > INSIDE].max() - image, 0, None), 0.03, rng)
    return [(mask, wrong), at_extent(mask, wrong, extent)]


def _noisy(image: Plane, most: float, rng: np.random.Generator) -> Plane:
    noise = rng.normal(0, rng.uniform(0, most), image.shape)
    return (image + noise * image.max()).astype(np.float32)


def at_extent(mask: Plane, image: Plane | None, extent: float) -> Seen:
    """The cell at the scale "auto"."""
    box = grid.box_of(mask > INSIDE) or ()
    zoom = extent / max(side.stop - side.start for side in box)
    middle = np.array(box_centre(box)) - grid.CENTRE / zoom

    def moved(plane: Plane) -> Plane:
        return np.asarray(ndimage.affine_transform(plane, np.eye(2) / zoom, middle, order=1), np.float32)

    return moved(mask), None if image is None else moved(image)
