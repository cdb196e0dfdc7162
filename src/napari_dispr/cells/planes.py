"""Crop cells of which several planes are known: one becomes the imaged plane, the others lie around it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import (
    CUT,
    INSIDE,
    LARGER,
    Crop,
    Scaling,
    box_centre,
    check_intensities,
    crop_cell,
    cut_by_border,
    resampled_cell,
    three_digits,
)
from napari_dispr.errors import CellError, InputError
from napari_dispr.labels import Box, as_array, cell_boxes, whole_numbers
from napari_dispr.planes import LEAST_SPACING, KnownPlane, ends, useful
from napari_dispr.stereology import Numbers, Sizes, usual_sizes

#: The imaged plane is that nearest to the middle of the cell, of those with this share of the largest area.
_LARGE = 0.8
#: Cells end after a plane with less than this share of the largest labelled area.
_SMALL_END = 0.5
#: Sections coincide if their IoU is larger; in coarse stacks less than this share do so by chance.
_COINCIDE, _BY_CHANCE = 0.5, 0.1
#: Sections of a cell are at most this many voxels from its imaged plane, and from the centre in the plane.
_ROOM = (30.0, grid.SIZE / 2)
#: A cell with one section gets room up to the next planes, if these are at most so many of its radii away.
_ROOM_OF_ONE = 3.0
#: Cells are at most this many times as tall as wide; more means that depths and pixels have different units.
_TALLEST = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Pictures (plane, y, x) of parallel planes, in the order of their depths, with one segmentation.

    A cell has the same label in all planes; ``depths`` rise.
    """

    image: NDArray[Any] | None
    labels: NDArray[Any]
    depths: NDArray[np.float64]


def check_planes(image: ArrayLike | None, labels: ArrayLike, depths: Sequence[float]) -> Planes:
    """Check pictures of several planes and their labels.

    Raises an InputError if shapes or depths do not fit one another, a depth is given twice, the image is not
    one channel, the labels are empty, or they name different cells in different planes.
    """
    labels = as_array(labels, "segmentation")
    if labels.ndim != 3:
        raise InputError(
            f"The labels have the shape {labels.shape}, not (plane, y, x): give one segmentation for each "
            "depth, or leave out the depths."
        )
    for place, depth in enumerate(np.asarray(depths, dtype=object).ravel(), start=1):
        if not isinstance(depth, Real) or not np.isfinite(float(depth)):
            raise InputError(f"Depth number {place} is {depth!r}: give a number for each plane.")
    deep = np.atleast_1d(np.asarray(depths, dtype=np.float64))
    if deep.shape != labels.shape[:1]:
        raise InputError(
            f"The number of depths is {deep.size}, that of planes {len(labels)}: give one for each plane."
        )
    order = np.argsort(deep, kind="stable")
    deep = deep[order]
    if len(deep) > 1 and (twice := np.flatnonzero(np.diff(deep) <= 0)).size:
        raise InputError(f"The depth {deep[twice[0]]:g} is given twice: give each plane a depth of its own.")
    pictures = None
    if image is not None:
        pictures = as_array(image, "picture")
        if pictures.shape != labels.shape:
            raise InputError(
                f"The image has the shape {pictures.shape} and the labels {labels.shape}: give one channel "
                "of the same planes."
            )
    labels = whole_numbers(labels)
    if pictures is not None:
        pictures = check_intensities(pictures, labels)[order]
    labels = labels[order]
    if not labels.any():
        raise InputError("The labels are empty in all planes: segment at least one cell in one of them.")
    _check_linked(labels)
    return Planes(pictures, labels, deep)


def _check_linked(labels: NDArray[Any]) -> None:
    """Raise an InputError if sections with one number lie apart, or those that coincide have other numbers.

    Planes may be as far apart as cells are tall: then most cells have one section, and few of the sections
    that overlap are of one cell.
    """
    together = apart = alike = other = sections = 0
    for below, above in itertools.pairwise(labels):
        both = (below > 0) & (above > 0)
        pairs, overlap = np.unique(np.stack([below[both], above[both]]), axis=1, return_counts=True)
        cells, areas = zip(*(np.unique(plane, return_counts=True) for plane in (below, above)), strict=True)
        first, second = (areas[k][np.searchsorted(cells[k], pairs[k])] for k in (0, 1))
        one, coincide = pairs[0] == pairs[1], overlap > _COINCIDE * (first + second - overlap)
        together += int(one.sum())
        apart += int((np.intersect1d(*cells) > 0).sum()) - int(one.sum())
        alike += int((coincide & one).sum())
        other += int((coincide & ~one).sum())
        sections += int((cells[0] > 0).sum())
    if apart > together or other > alike + _BY_CHANCE * sections:
        raise InputError(
            "The labels name different cells in different planes: give each cell the same number in all of "
            "its planes (programs that segment slice by slice have an option to link or stitch them)."
        )


def known_planes(labels: NDArray[Any]) -> list[int]:
    """The planes of a stack (plane, y, x) that say where cells are, and where they end, as rising indices.

    These are the planes with labels, and perhaps an empty one at each end. If all planes between the first
    and the last one have labels, the stack counts as segmented plane by plane. Then the plane before the
    first one is known to be empty if the cells become small towards it: the first plane has less than half
    of the largest labelled area. The same holds after the last one.
    """
    area = np.array([np.count_nonzero(plane) for plane in labels])
    found: list[int] = np.flatnonzero(area).tolist()
    if not found or len(found) < found[-1] - found[0] + 1:
        return found
    small = _SMALL_END * area.max()
    before = [found[0] - 1] if found[0] > 0 and area[found[0]] < small else []
    after = [found[-1] + 1] if found[-1] + 1 < len(area) and area[found[-1]] < small else []
    return before + found + after


def crop_planes(
    planes: Planes, cells: Sequence[int] | None, scaling: Scaling
) -> tuple[list[Crop], dict[int, int], dict[int, CellError]]:
    """Crop many cells, each with the zoom that its imaged plane has by itself, or less if it must fit.

    The imaged plane of a cell is the one nearest to the middle of its sections, of those that are at least
    0.8 times as large as the largest. Planes without the cell are known to be empty next to its ends; between
    its sections they are taken as not segmented.

    Raises an InputError if a named cell cannot be cropped, or no cell at all.

    Parameters
    ----------
    planes : Planes
        Depths in pixels (of the mean side).
    cells : sequence of int or None
        None: all cells that can be cropped.

    Returns
    -------
    crops : list of Crop
        Their z in pixels is that of the depths.
    imaged : dict
        Index of the imaged plane of each cell.
    left_out : dict
        Cells that cannot be cropped, and why.
    """
    boxes = [cell_boxes(labels) for labels in planes.labels]
    crops: list[Crop] = []
    imaged: dict[int, int] = {}
    left_out: dict[int, CellError] = {}
    sizes = _sizes(planes, boxes, scaling.sides)
    for label in sorted(set().union(*boxes)) if cells is None else cells:
        own = {k: found[label] for k, found in enumerate(boxes) if label in found}
        if not own:
            raise InputError(f"The labels hold no cell {label}: choose among the values that they hold.")
        middle = _imaged_plane(planes, label, own)
        zoom = scaling.zoom(own[middle])
        try:
            crop = _crop(planes, label, own, middle, zoom, scaling, sizes)
        except CellError as error:
            if cells is not None:
                raise
            left_out[label] = error
            continue
        if sizes is not None and len(own) <= 2:
            crop = replace(crop, sizes=sizes.zoomed(crop.zoom))
        crops.append(replace(crop, known_scale=1.0) if scaling.scale == "physical" else crop)
        imaged[label] = middle
    if not crops:
        raise next(iter(left_out.values()))
    return crops, imaged, left_out


def _sizes(planes: Planes, boxes: list[dict[int, Box]], sides: tuple[float, float]) -> Sizes | None:
    """Sizes of all cells of a stack, in pixels."""
    areas: dict[int, Numbers] = {}
    for k, (labels, found) in enumerate(zip(planes.labels, boxes, strict=True)):
        for label, box in found.items():
            own = areas.setdefault(label, np.zeros(len(boxes)))
            cut = cut_by_border(labels, label, box)
            own[k] = np.nan if cut else np.count_nonzero(labels[box] == label) * sides[0] * sides[1]
    return usual_sizes(planes.depths, [own for own in areas.values() if np.isfinite(own).all()])


def _imaged_plane(planes: Planes, label: int, own: Mapping[int, Box]) -> int:
    areas = {k: np.count_nonzero(planes.labels[k][box] == label) for k, box in own.items()}
    large = [k for k, area in areas.items() if area >= _LARGE * max(areas.values())]
    ends = planes.depths[[min(own), max(own)]]
    return min(large, key=lambda k: abs(planes.depths[k] - ends.mean()))


def _crop(
    planes: Planes,
    label: int,
    own: Mapping[int, Box],
    middle: int,
    zoom: float,
    scaling: Scaling,
    sizes: Sizes | None,
) -> Crop:
    """Crop one cell; ``own`` are its boxes in its planes. With the scale "auto" the zoom may be less."""
    _check_cell(planes.labels, label, own)
    automatic, sides = scaling.scale == "auto", scaling.sides
    depths = planes.depths - planes.depths[middle]
    centre = box_centre(own[middle])
    tall = max(abs(depths[k]) for k in own)
    wide = max(
        max(c - span.start, span.stop - 1 - c) * side + side / 2
        for box in own.values()
        for span, c, side in zip(box, centre, sides, strict=True)
    )
    most = min(_ROOM[0] / tall if tall else np.inf, _ROOM[1] / wide)
    if zoom > most * (1 + 1e-9):
        if tall > _TALLEST * wide:
            raise CellError(
                f"The sections of cell {label} reach {tall:.3g} pixels from its imaged plane, but are only "
                f"{2 * wide:.3g} wide: check the depths, their unit and the size of the pixels.",
                "much taller than wide",
            )
        if not automatic:
            raise CellError(
                f"The sections of cell {label} reach beyond the grid at {zoom:.3g} voxels per pixel: check "
                f'the depths, or use scale "auto" or a number of at most {three_digits(most, floor):g}.',
                LARGER,
            )
        zoom = float(most)
    if automatic:
        any_size = scaling.voxel_size is None
        zoom = min(zoom, _ROOM[0] / _reach(planes.labels, label, own, depths, sides, any_size, sizes))

    def picture(k: int) -> NDArray[Any] | None:
        return None if planes.image is None else planes.image[k]

    crop = crop_cell(picture(middle), planes.labels[middle], label, zoom=zoom, box=own[middle], sides=sides)
    further = []
    for k in {*own, min(own) - 1, max(own) + 1} - {middle, -1, len(depths)}:
        mask, image = resampled_cell(picture(k), planes.labels[k], label, zoom, centre, sides)
        if k not in own or (mask > INSIDE).any():  # a section too small for the grid is left out
            further.append(KnownPlane(float(depths[k] * zoom), mask, image))
    known = useful(further)
    if len(own) > 1 and not known:
        raise CellError(
            f"All sections of cell {label} are within {LEAST_SPACING} voxels of its imaged plane: check the "
            "depths and their unit, or predict from one plane.",
            "with sections too close together",
        )
    to_pixel = grid.translation((float(planes.depths[middle]), 0.0, 0.0)) @ crop.grid_to_pixel
    return replace(crop, planes=known, grid_to_pixel=to_pixel)


def _reach(
    labels: NDArray[Any],
    label: int,
    own: Mapping[int, Box],
    depths: NDArray[np.float64],
    sides: tuple[float, float],
    any_size: bool,
    sizes: Sizes | None,
) -> float:
    """How far a cell may extend along z, in pixels, with half balls on its outermost sections.

    ``any_size``: the model is for cells of any size. A single section then may lie anywhere in a cell that
    ends before the next planes, which are empty, and is no taller than other cells of the stack.
    """
    pixel = sides[0] * sides[1]
    areas = [
        pixel * np.count_nonzero(labels[k][own[k]] == label) if k in own else 0 for k in range(len(labels))
    ]
    if any_size and len(own) == 1:
        k, room = min(own), _ROOM_OF_ONE * np.sqrt(sum(areas) / np.pi)
        reach = np.abs(depths[[k - 1, k + 1]]).max() if 0 < k < len(depths) - 1 else np.inf
        if sizes is not None:
            reach = min(reach, room, 2 * np.exp(sizes.radius + sizes.tall + sizes.tall_sd))
        if reach <= room:
            return float(reach)
    low, high = ends(depths, np.array(areas, np.float64), cap=1.0)
    return max(-low, high)


def _check_cell(labels: NDArray[Any], label: int, own: Mapping[int, Box]) -> None:
    """Raise an InputError if the border cuts a cell, or its sections do not lie above one another.

    Nor may another cell lie between them.
    """
    spans = zip(*own.values(), strict=True)
    around = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in spans)
    before = None
    for k in range(min(own), max(own) + 1):
        if k not in own:
            assert before is not None
            others, counts = np.unique(labels[k][around][before], return_counts=True)
            if others[counts.argmax()] and counts.max() > counts.sum() / 2:
                raise CellError(
                    f"Plane number {k} (from 0) names cell {others[counts.argmax()]} where the planes around "
                    f"it name cell {label}: give each cell the same number in all of its planes.",
                    "with another number in a plane",
                )
            continue
        if cut_by_border(labels[k], label, own[k]):
            raise CellError(
                f"Cell {label} is cut by the border of the image: choose cells that are wholly in it.", CUT
            )
        section = labels[k][around] == label
        if before is not None and not (before & section).any():
            raise CellError(
                f"The sections of cell {label} do not lie above one another: give each cell the same number "
                "in all of its planes, and another cell another number.",
                "with sections that are not above one another",
            )
        before = section
