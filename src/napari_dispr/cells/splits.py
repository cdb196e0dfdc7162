"""What should be known of training cells before they are trained on: a split, and doubts about them."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError

#: Fewer different cells cannot be trained on, as some are kept apart.
LEAST = 5
#: Fewer cells are few.
FEW = 20
#: Least IoU of a mask with the section of its shape.
AGREEING = 0.8
#: Parts of a shape with a gap of more than so many voxels between them are far apart ...
GAP = 4
#: ... and count from this share of the shape on.
PART = 0.02


def split_cells(
    cells: Sequence[CellFile], share: float = 0.2, seed: int = 0
) -> tuple[list[CellFile], list[CellFile]]:
    """Cells to train on, and cells kept apart to say how good a model is.

    Parameters
    ----------
    cells : sequence of CellFile
    share : float
        Of the cells that are kept apart, above 0 and below 1; as far as whole cells allow, the same of
        each class (the name without the digits at its end).
    seed : int
        The same cells are split in the same way, in whatever order they come.

    Returns
    -------
    training, validation : list of CellFile
        In the order of ``cells``. Neither is empty; copies of a cell are on one side.

    Raises
    ------
    InputError
        If there are fewer than ``LEAST`` different cells.
    """
    groups = [group for _, group in sorted((min(cells[i].name for i in g), g) for g in copies(cells))]
    if len(groups) < LEAST:
        also = f" ({len(cells)} with their copies)" if len(groups) < len(cells) else ""
        raise InputError(
            f"There are only {len(groups)} different cells{also}: give at least {LEAST} to train on."
        )
    kinds = [cells[group[0]].name.rstrip("0123456789") for group in groups]
    if len(set(kinds)) == len(groups):
        kinds = [""] * len(groups)
    # Class by class, shuffled within each, then taken at even steps: every class gives its share.
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(groups))
    order = sorted(shuffled, key=lambda index: kinds[index])
    count = min(max(round(share * len(groups)), 1), len(groups) - 1)
    taken = np.floor((np.arange(count) + rng.uniform()) * len(groups) / count).astype(int)
    apart = {member for position in taken for member in groups[order[position]]}
    training = [cell for index, cell in enumerate(cells) if index not in apart]
    return training, [cell for index, cell in enumerate(cells) if index in apart]


def real_cells(cells: Sequence[CellFile]) -> list[CellFile]:
    """Those whose objects were not predicted, so that shapes can be compared with them.

    Raises
    ------
    InputError
        If all were, or two of the cells have one name.
    """
    for name, times in Counter(cell.name for cell in cells).items():
        if times > 1:
            raise InputError(f"Two cells are named {name}: give train and test one after the other.")
    real = [cell for cell in cells if not cell.predicted]
    if cells and not real:
        raise InputError("All objects are predicted ones: give cells whose true objects are known.")
    return real


def check_cells(cells: Sequence[CellFile]) -> list[str]:
    """Doubts about training cells, a sentence each; none where all seems well.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects.
    """
    doubts = []
    if len(cells) < FEW:
        doubts.append(
            f"There are only {len(cells)} cells: take {FEW} or more, so that the model sees how they differ."
        )
    if predicted := sum(cell.predicted for cell in cells):
        judged = "the others tell how good a model is" if predicted < len(cells) else "there are no others"
        doubts.append(f"{predicted} objects are predicted ones: {judged}.")
    if names := [cell.name for cell in cells if cell.obj is not None and _touches_border(cell.obj)]:
        doubts.append(
            f"The grid's border cuts {_listed(names)}: cut them with a larger voxel size, or remove them."
        )
    if names := [cell.name for cell in cells if cell.obj is not None and _agreement(cell) < AGREEING]:
        doubts.append(
            f"Mask and shape disagree in the imaged plane (z = {grid.IMAGED_PLANE}) of {_listed(names)}: "
            "check that they belong together."
        )
    same = ([index for index in group if not cells[index].predicted] for group in copies(cells))
    if groups := [group for group in same if len(group) > 1]:
        names = [" = ".join(cells[index].name for index in group[:3]) for group in groups]
        doubts.append(f"Some cells are copies of others: {_listed(names)}.")
    if names := [cell.name for cell in cells if cell.obj is not None and _scattered(cell.obj)]:
        doubts.append(f"Shapes have parts far from one another: check the labels of {_listed(names)}.")
    names = [cell.name for cell in cells if cell.image is None]
    if 0 < len(names) < len(cells):
        doubts.append(f"There is no image of {_listed(names)}, only of the others.")
    return doubts


def _listed(names: Sequence[str]) -> str:
    """At most three names."""
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])


def copies(cells: Sequence[CellFile]) -> list[list[int]]:
    """Positions of the cells, those of the same mask and image or of the same object together."""
    same_as = list(range(len(cells)))  # an earlier cell, or itself

    def first(index: int) -> int:
        while same_as[index] != index:
            index = same_as[index]
        return index

    known: dict[str, int] = {}
    for index, cell in enumerate(cells):
        keys = [cell.fingerprint]
        if cell.obj is not None:
            keys.append(cell.shape_fingerprint)
        for key in keys:
            one, other = first(index), first(known.setdefault(key, index))
            same_as[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for index in range(len(cells)):
        groups.setdefault(first(index), []).append(index)
    return list(groups.values())


def _touches_border(obj: NDArray[np.uint8]) -> bool:
    faces: Iterable[NDArray[np.uint8]] = (obj.take([0, -1], axis=axis) for axis in range(3))
    return any((face > 127).any() for face in faces)


def _agreement(cell: CellFile) -> float:
    """IoU of the mask with the section of the object."""
    assert cell.obj is not None
    mask, section = cell.mask > INSIDE, cell.obj[grid.IMAGED_PLANE] > 127
    return float((mask & section).sum() / max(1, (mask | section).sum()))


def _scattered(obj: NDArray[np.uint8]) -> bool:
    inside = obj > 127
    least = PART * inside.sum()

    def parts(labels: NDArray[np.int32]) -> int:
        return int((np.bincount(labels[inside])[1:] >= least).sum())

    if parts(ndimage.label(inside, np.ones((3, 3, 3)))[0]) < 2:
        return False
    near = ndimage.distance_transform_edt(~inside) <= GAP / 2
    return parts(ndimage.label(near)[0]) > 1
