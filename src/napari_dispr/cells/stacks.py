"""Make training cells on the model grid from 3D stacks and their labels: mask, image and true shape.

Uses arrays and voxel sizes, but no files, layers or models.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import check_intensities, crop_cell, three_digits
from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.slices import between_slices, levels, stack_on_grid, touches_border
from napari_dispr.errors import InputError
from napari_dispr.files import as_file_name
from napari_dispr.grid import check_spacing
from napari_dispr.labels import Box, cell_boxes, whole_numbers

Plane = Literal["middle"] | int

#: Least number of slices of a cell.
LEAST_SLICES = 3
#: Least side of a mask on the grid, in voxels; smaller masks are debris or the cap of a cell.
LEAST_SIDE = 8
#: Largest distance of a shape from the imaged plane, and in the plane from the centre, in voxels.
ROOM = 31.0
#: Share of the cells that fit the grid with an automatic voxel size.
FITTING = 0.97


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """A 3D image with its segmentation, (z, y, x).

    Attributes
    ----------
    name : str
        Cells are named after it.
    image : array or None
        One channel, any real data type.
    labels : integer array
        0 is background, each other value is a cell.
    spacing : (float, float, float)
        Size of a voxel along (z, y, x) in ``unit``, which is "pixel" if it is not known.
    note : str
        A note for the user in one sentence, or empty.
    """

    name: str
    image: NDArray[Any] | None
    labels: NDArray[Any]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "pixel"
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CutCells:
    """Cells made from stacks: by stack, then by label, with objects.

    ``voxel_size`` is the side of a voxel of the grid in ``unit``, for all cells. ``left_out`` is the number
    of labels that did not become cells, by reason.
    """

    cells: list[CellFile]
    voxel_size: float
    unit: str
    plane: Plane
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A label that may become a cell. Lengths are in the unit of the stack."""

    label: int
    box: Box
    plane: int
    #: Larger side of the bounding box of its section.
    side: float
    #: The least voxel size with which it fits the grid.
    needs: float


def cut_stacks(
    stacks: Sequence[Stack],
    *,
    plane: Plane = "middle",
    voxel_size: float | None = None,
    extent: float = 44.0,
    progress: Callable[[int, int], None] | None = None,
) -> CutCells:
    """Make a cell on the model grid, with its true shape, of every label of the stacks.

    Raises an InputError if labels or image of a stack are wrong or do not fit, names or units clash, or no
    label can be used.

    Parameters
    ----------
    stacks : sequence of Stack
        With different names, and spacings in one unit.
    plane : "middle" or int
        The slice that becomes the imaged plane: of each label the slice nearest to the middle of its height,
        or one slice for all.
    voxel_size : float, optional
        Side of a voxel of the grid in the unit of the stacks. None: the median of the larger side of the
        masks is ``extent`` voxels, or less if more than 3 % of the cells would not fit.
    progress : callable, optional
        Called after each label with the number of labels done and the total.

    Returns
    -------
    CutCells
        Mask and image are the ``crop_cell`` of the slice, as for a prediction at the scale "physical".
        Objects are clip(d + 0.5, 0, 1), where d is the signed distance in voxels: each slice is resampled
        like the mask, and signed distances are interpolated between slices (Raya and Udupa, IEEE Trans. Med.
        Imaging 9 (1990) 32).
    """
    if not stacks:
        raise InputError("There is no stack: give an image with its labels.")
    if plane != "middle" and (type(plane) is not int or plane < 0):
        raise InputError(f'The plane is {plane!r}: give "middle" or the number of a slice, from 0.')
    if voxel_size is not None and not (isfinite(voxel_size) and voxel_size > 0):
        raise InputError(f"The voxel size is {voxel_size}: give a length above 0, or leave it out.")
    stacks = [checked_stack(stack) for stack in stacks]
    _check_together(stacks)

    left_out: Counter[str] = Counter()
    found: list[list[_Candidate]] = []
    for stack in stacks:
        usable: list[_Candidate] = []
        for label, box in cell_boxes(stack.labels).items():
            candidate = _candidate(stack, label, box, plane)
            if isinstance(candidate, str):
                left_out[candidate] += 1
            else:
                usable.append(candidate)
        found.append(usable)
    everything = [candidate for usable in found for candidate in usable]
    if not everything:
        raise _nothing_left(stacks, left_out)
    if voxel_size is None:
        voxel_size = _voxel_size(everything, extent)

    cells: list[CellFile] = []
    done = 0
    for stack, usable in zip(stacks, found, strict=True):
        for candidate in usable:
            cell = _cell(stack, candidate, voxel_size)
            done += 1
            if isinstance(cell, str):
                left_out[cell] += 1
            else:
                cells.append(cell)
            if progress is not None:
                progress(done, len(everything))
    if not cells:
        raise _nothing_left(stacks, left_out)
    return CutCells(cells, voxel_size, stacks[0].unit, plane, dict(left_out))


def _nothing_left(stacks: Sequence[Stack], left_out: Mapping[str, int]) -> InputError:
    names = ", ".join(stack.name for stack in stacks)
    return InputError(
        f"No cell of {names} can be used ({in_words(left_out)}): give a stack with whole cells."
    )


def in_words(left_out: Mapping[str, int]) -> str:
    """Numbers of labels left out, by reason, the most frequent first: "3 cut by ..., 1 in ..."."""
    return ", ".join(f"{count} {why}" for why, count in sorted(left_out.items(), key=lambda item: -item[1]))


def checked_stack(stack: Stack) -> Stack:
    """Check a stack, and convert its labels to integers; an InputError says what is wrong."""
    name, labels = stack.name, np.asarray(stack.labels)
    if labels.ndim != 3:
        raise InputError(
            f"The labels of {name} have the shape {labels.shape}, not (z, y, x): give a 3D segmentation."
        )
    image = None if stack.image is None else np.asarray(stack.image)
    if image is not None and image.shape != labels.shape:
        raise InputError(
            f"The image of {name} has the shape {image.shape} and its labels {labels.shape}: "
            "give one channel, and the labels of this channel."
        )
    try:
        check_spacing(stack.spacing, stack.unit)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    z, y, x = map(float, stack.spacing)
    if labels.dtype.kind == "b":
        raise InputError(
            f"The labels of {name} are true or false: give each cell a number of its "
            "own (on the command line: --split)."
        )
    labels = whole_numbers(labels, name)
    if image is not None:
        image = check_intensities(image, labels, name)
    if not labels.any():
        raise InputError(f"The labels of {name} are empty: segment at least one cell.")
    return replace(stack, image=image, labels=labels, spacing=(z, y, x))


def _check_together(stacks: Sequence[Stack]) -> None:
    # Some file systems do not tell upper case from lower case.
    names = Counter((as_file_name(stack.name) or "stack").lower() for stack in stacks)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"There are two stacks with the name {twice[0]}: rename one of them.")
    units = {stack.unit: stack.name for stack in stacks}
    if len(units) > 1:
        (unit, name), (other_unit, other) = list(units.items())[:2]
        raise InputError(
            f"The spacing of {name} is in {unit} and that of {other} in {other_unit}: "
            "give the spacing of all stacks in one unit."
        )


def _candidate(stack: Stack, label: int, box: Box, plane: Plane) -> _Candidate | str:
    """Position and size of a label, or the reason why it is left out."""
    for axis, (side, length) in enumerate(zip(box, stack.labels.shape, strict=True)):
        if (side.start == 0 or side.stop == length) and (axis or length > 1):
            return "cut by the border of the stack"
    cell = stack.labels[box] == label
    slices = np.flatnonzero(cell.any(axis=(1, 2)))
    if len(slices) < LEAST_SLICES:
        return f"in fewer than {LEAST_SLICES} slices"
    if plane == "middle":
        z = int(slices[np.argmin(np.abs(slices - (len(cell) - 1) / 2))])
    else:
        z = plane - box[0].start
        if z not in slices:
            return f"not in slice {plane}"
    section = cell[z]
    to_z, to_y, to_x = stack.spacing
    sides, reaches = [], [(len(cell) - z) * to_z, (z + 1) * to_z]  # up to the first slice without the cell
    for along, step in ((section.any(axis=1), to_y), (section.any(axis=0), to_x)):
        first, last = np.flatnonzero(along)[[0, -1]]
        centre = (first + last) / 2
        sides.append((last + 1 - first) * step)
        reaches += [(centre + 0.5) * step, (len(along) - 0.5 - centre) * step]
    return _Candidate(label, box, z + box[0].start, float(max(sides)), float(max(reaches)) / ROOM)


def _voxel_size(candidates: Sequence[_Candidate], extent: float) -> float:
    """An automatic voxel size for all cells, rounded up to three digits."""
    sides = np.array([candidate.side for candidate in candidates])
    # Without debris.
    sides = sides[sides >= LEAST_SIDE / extent * np.quantile(sides, 0.9)]
    usual = float(np.median(sides)) / extent
    room = float(np.quantile([candidate.needs for candidate in candidates], FITTING, method="higher"))
    return three_digits(max(usual, room), ceil)


def _cell(stack: Stack, candidate: _Candidate, voxel_size: float) -> CellFile | str:
    """A candidate as a cell, or the reason why it is left out."""
    if candidate.needs > voxel_size * (1 + 1e-9):
        return "larger than the grid"
    if candidate.side < LEAST_SIDE * voxel_size:
        return f"smaller than {LEAST_SIDE} voxels of the grid"
    plane, label = candidate.plane, candidate.label
    picture = None if stack.image is None else stack.image[plane]
    sides, zoom = grid.pixel_sides(np.diag(stack.spacing[1:])), float(np.mean(stack.spacing[1:])) / voxel_size
    try:
        crop = crop_cell(picture, stack.labels[plane], label, zoom=zoom, sides=sides)
    except InputError:  # the only reason left: the cell is whole and fits
        return "less than a voxel thick"
    image = None
    if crop.image is not None:
        # Neighbours may be outside the range of a file.
        image = np.clip(crop.image, 0, 1)
        if image.max() <= 1.5 / 255 or np.ptp(np.rint(255 * image)) == 0:
            return "without light in the image"
    thick = stack.spacing[0] / voxel_size
    level, first = levels(stack.labels, label, candidate.box, crop)
    obj = between_slices(level, thick, first - plane)
    if touches_border(obj):
        return "larger than the grid"
    pictures = None
    if stack.image is not None:
        pictures = stack_on_grid(stack.image, stack.labels, candidate.box, thick, crop, sides, plane)
    name = f"{as_file_name(stack.name) or 'stack'}-{candidate.label}"
    return CellFile(name, crop.mask, image, obj, stack=pictures)
