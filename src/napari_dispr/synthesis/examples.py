"""Training examples from annotated images: masks of single cells, and pictures of cells with their masks.

Knows arrays, not files or networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, zoom

from napari_dispr import signed_distance
from napari_dispr.labels import Box, cell_boxes
from napari_dispr.synthesis.annotated import Annotated, grey_range
from napari_dispr.synthesis.annotated_cells import CAP, LEAST_CELLS, Cell, check_annotated
from napari_dispr.synthesis.background import Background, measure_background
from napari_dispr.synthesis.cell_ends import LEAST_CONTRAST
from napari_dispr.synthesis.cell_sources import GAP
from napari_dispr.synthesis.glow import light_along

Floats = NDArray[np.float32]

#: Side of the masks, in pixels, and how much of it the largest cells take.
MASK_SIDE, MASK_ROOM = 128, 104
#: Largest side of the pictures, in pixels; larger cells are reduced.
LARGEST_SIDE = 128
#: Pictures that are kept; more do not help in the time of a training.
MOST_PICTURES = 2000
#: Sections of a cell at least this large, relative to its largest one, are masks too.
NEAR_LARGEST = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class MaskExample:
    """The outline of one cell: signed distance (128, 128) in pixels, positive inside."""

    cell: str
    distance: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PictureExample:
    """A cell in one slice, (side, side) each.

    Attributes
    ----------
    image : float32
        Grey values; other cells are replaced by background.
    mask : bool
        Empty in the slices next to the ends of a cell.
    known : bool
        False where another cell was, or outside the image.
    neighbours : tuple of float32
        The image in the slices above and below, as far as there are any, without other cells. If the depth is
        known, only that nearer to the middle of the cell: cells are made from there outwards, darker from
        slice to slice.
    depth : float or None
        Of the slice: from 0 in the middle of the cell to 1 at its end, if it is known.
    """

    image: Floats
    mask: NDArray[np.bool_]
    known: NDArray[np.bool_]
    neighbours: tuple[Floats, ...]
    depth: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What is learned from.

    Attributes
    ----------
    mask_pixel : float
        Side of a pixel of the masks in the unit of the spacing.
    picture_pixel : (float, float)
        Size (y, x) of a pixel of the pictures.
    margin : float
        Width of the surroundings of a cell in the pictures, in their pixels.
    beyond : bool
        Whether there are pictures of the slices above and below a cell.
    heights : (cell,) array
        Height over the diameter of the middle section, of cells whose ends are seen; empty: too few are.
    diameters : (cell,) array
        Diameter of a disk with the area of each cell's middle section, in the unit of the spacing.
    light : (float, float)
        Mean and standard deviation, over the cells, of the mean grey value of a cell.
    lights : (cell,) array
        Light of the middle of each cell above the background; empty: it is known of too few cells.
    glow : (depth,) array
        Light above and below a cell, relative to that in its middle, at `glow.GLOW_DEPTHS`; empty: not known.
    density : float
        Share of the annotated slices that cells fill.
    clustering : float
        The probability of `PopulationSettings` that leaves as many cells next to another as there are.
    warnings : tuple of str
        What may be wrong with single images, in sentences.
    """

    masks: list[MaskExample]
    pictures: list[PictureExample]
    mask_pixel: float
    picture_pixel: tuple[float, float]
    margin: float
    beyond: bool
    heights: NDArray[np.float64]
    diameters: NDArray[np.float64]
    lights: NDArray[np.float64]
    glow: NDArray[np.float64]
    density: float
    clustering: float
    light: tuple[float, float]
    background: Background
    spacing: tuple[float, ...]
    unit: str
    dtype: str
    limits: tuple[float, float]
    warnings: tuple[str, ...]


def examples_of(fields: Sequence[Annotated], seed: int = 0) -> Examples:
    """Cut the training examples out of annotated images, all 2D or all 3D, with the same spacing.

    Of a stack only slices with labels count as annotated. ``seed`` chooses among the pictures if there are
    very many. Raises an InputError if image and labels do not fit together, no image shows its cells, or
    there are too few cells.
    """
    volumes, cells, step, warnings = check_annotated(fields)
    first = fields[0]
    volumes = _in_one_range(volumes)
    background = measure_background([(one.image, one.labels) for one in volumes])
    masks, mask_pixel = _masks(volumes, cells, step)
    pictures, pixel, margin, beyond = _pictures(volumes, cells, step, background, np.random.default_rng(seed))
    light = _light(volumes, cells)
    lights, glow = _along(volumes, cells, background.without_glow(light[0]).level)
    annotated = [one.labels[one.labels.any(axis=(1, 2))] > 0 for one in volumes]
    values = np.concatenate([one.image.ravel()[:: max(1, one.image.size // 100_000)] for one in volumes])
    return Examples(
        masks=masks,
        pictures=pictures,
        mask_pixel=mask_pixel,
        picture_pixel=pixel,
        margin=margin,
        beyond=beyond,
        heights=_heights(cells, step),
        diameters=np.array([cell.diameter for cell in _outlined(cells)]),
        lights=lights,
        glow=glow,
        density=float(np.mean([slices.mean() for slices in annotated])),
        clustering=_clustering(volumes),
        light=light,
        background=background,
        spacing=tuple(first.spacing),
        unit=first.unit,
        dtype=str(np.result_type(*(np.asarray(one.image).dtype for one in fields))),
        limits=(float(values.min()), float(np.quantile(values, 0.9999))),
        warnings=warnings,
    )


def _heights(cells: Sequence[Cell], step: Sequence[float]) -> NDArray[np.float64]:
    seen = [(cell, cell.ends) for cell in _outlined(cells) if cell.ends is not None]
    heights = [step[0] * (high - low) / cell.diameter for cell, (low, high) in seen]
    return np.array(heights if len(heights) >= LEAST_CELLS else [])


def _along(
    fields: Sequence[Annotated], cells: Sequence[Cell], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`Examples.lights` and `Examples.glow`. In 2D images each cell shows its middle, and no glow."""
    seen = [(cell, cell.ends) for cell in _outlined(cells) if cell.ends is not None]
    seen += [(cell, (-0.5, 0.5)) for cell in _outlined(cells) if len(fields[cell.field].image) == 1]
    found = [
        light_along(fields[cell.field], cell.label, cell.largest.z, cell.largest.box, ends, level)
        for cell, ends in seen
    ]
    middles = np.array([middle for middle, _ in found])
    middles = middles[np.isfinite(middles)]
    beyond = np.concatenate([one for _, one in found]) if found else np.zeros((0, 1))
    few = np.array([])
    if not len(beyond) or np.isfinite(beyond).sum(axis=0).min() < LEAST_CELLS:
        glow = few
    else:  # it falls with the depth: where it rises, there is another cell
        glow = np.minimum.accumulate(np.clip(np.nanmedian(beyond, axis=0), 0, 1))
    return (middles if len(middles) >= LEAST_CELLS else few), glow


def _light(fields: Sequence[Annotated], cells: Sequence[Cell]) -> tuple[float, float]:
    means = []
    for cell in cells:
        z, box, field = cell.largest.z, cell.largest.box, fields[cell.field]
        means.append(field.image[z][box][field.labels[z][box] == cell.label].mean())
    return float(np.mean(means)), float(np.std(means))


def _clustering(fields: Sequence[Annotated]) -> float:
    near = []
    for plane in (plane for one in fields for plane in one.labels if plane.any()):
        for label, box in cell_boxes(plane).items():
            window = plane[tuple(slice(max(0, side.start - GAP), side.stop + GAP) for side in box)]
            own = window == label
            near.append(bool((window[binary_dilation(own, iterations=GAP) & ~own] > 0).any()))
    share = float(np.mean(near))
    # Of cells placed next to an earlier one with probability p, 2 p / (1 + p) have a neighbour: a cell has
    # none if it was placed anywhere (1 - p), and no later one next to it (1 / (1 + p), as in random trees).
    return round(share / (2 - share), 3)


def _in_one_range(fields: Sequence[Annotated]) -> list[Annotated]:
    """The images with the grey values of the one of median contrast.

    Linear maps bring their levels and contrasts together, so that differences between exposures of one
    microscope do not count as texture.
    """
    # Single slices of a stack cut few cells, and some near their dim ends: they do not show its exposure.
    is_sparse = any(one.labels.any(axis=(1, 2)).mean() < 0.5 for one in fields)
    exposures = [_range(one) if is_sparse else _contrast(one) for one in fields]
    contrasts = sorted(contrast for _, contrast in exposures if contrast)
    usual = contrasts[len(contrasts) // 2] if contrasts else 0.0
    middle = next(level for level, contrast in exposures if contrast == usual or not usual)
    ranged = []
    for one, (level, contrast) in zip(fields, exposures, strict=True):
        gain = usual / contrast if contrast else 1.0
        gain = gain if gain > 0 else 1.0
        ranged.append(replace(one, image=((one.image - level) * gain + middle).astype(np.float32)))
    return ranged


def _range(field: Annotated) -> tuple[float, float]:
    """Darkest grey value of a stack, and its range, as segmenters see it."""
    low, high = grey_range(field.image)
    return low, high - low


def _contrast(field: Annotated) -> tuple[float, float]:
    """Median grey value of the background, and by how much that of cells is above; 0: less than its noise."""
    slices = field.labels.any(axis=(1, 2))
    image, cells = field.image[slices], field.labels[slices] > 0
    inside, outside = image[cells], image[~cells]
    level = float(np.median(outside)) if outside.size else float(inside.min())
    contrast = float(np.median(inside)) - level
    return level, contrast if abs(contrast) > LEAST_CONTRAST * image.std() else 0.0


# --- masks -------------------------------------------------------------------------------------------


def _outlined(cells: Sequence[Cell]) -> list[Cell]:
    """The cells whose outline is known: in sparse slices many sections are caps.

    A section less than half as wide as the largest ones of its image counts as a cap, too.
    """
    shown = [cell for cell in cells if cell.depth <= CAP] or list(cells)
    diameters: dict[int, list[float]] = {}
    for cell in shown:
        diameters.setdefault(cell.field, []).append(cell.diameter)
    usual = {field: float(np.quantile(own, 0.9)) for field, own in diameters.items()}
    return [cell for cell in shown if cell.whole or cell.diameter >= usual[cell.field] / 2]


def _masks(
    fields: Sequence[Annotated], cells: Sequence[Cell], step: Sequence[float]
) -> tuple[list[MaskExample], float]:
    """The outlines of the middle sections of cells on one grid, and the side of its pixels."""
    used = _outlined(cells)
    pixel = 2 * float(np.quantile([cell.widening * cell.largest.reach for cell in used], 0.98)) / MASK_ROOM
    examples = []
    for cell in used:
        for section in cell.sections:
            near = section.diameter >= NEAR_LARGEST * cell.largest.diameter
            if section is not cell.largest and not (cell.whole and near):
                continue
            if 2 * cell.widening * cell.largest.reach > (MASK_SIDE - 8) * pixel:
                continue
            mask = fields[cell.field].labels[section.z] == cell.label
            # All sections take the size of the middle one, which stands for the cell.
            scale = section.diameter / cell.diameter
            examples.append(MaskExample(cell.name, _outline(mask, section.box, step[1:], pixel * scale)))
    return examples, pixel


def _outline(mask: NDArray[np.bool_], box: Box, step: Sequence[float], pixel: float) -> Floats:
    """Signed distance on the grid of masks, the centre of the box at its centre."""
    inside = np.pad(mask[box], 4).astype(np.float32)
    # Smoothed a little, since the corners of pixels are not part of an outline.
    distance = signed_distance.from_level(gaussian_filter(inside, 0.7), 0.5, spacing=step)
    place = (np.arange(MASK_SIDE) - (MASK_SIDE - 1) / 2) * pixel
    points = [place / s + (n - 1) / 2 for s, n in zip(step, inside.shape, strict=True)]
    at = np.stack(np.meshgrid(*points, indexing="ij"))
    near = np.clip(at, 0, np.array(inside.shape).reshape(-1, 1, 1) - 1)
    away = np.sqrt((((at - near) * np.asarray(step).reshape(-1, 1, 1)) ** 2).sum(axis=0))
    values = map_coordinates(distance, near, order=1) - away
    return (values / pixel).astype(np.float32)


# --- pictures ----------------------------------------------------------------------------------------


def _pictures(
    fields: Sequence[Annotated],
    cells: Sequence[Cell],
    step: Sequence[float],
    background: Background,
    rng: np.random.Generator,
) -> tuple[list[PictureExample], tuple[float, float], float, bool]:
    """Pictures of cells, the size of their pixels, their margin, and whether some are beyond a cell."""
    sides = [max(s.stop - s.start for s in section.box) for cell in cells for section in cell.sections]
    widest = float(np.quantile(sides, 0.98))
    margin = max(4.0, 0.15 * widest)
    reduction = max(1.0, (widest + 2 * margin) / LARGEST_SIDE)
    side = 16 * ceil((widest + 2 * margin) / reduction / 16 - 1e-9)
    wanted = [(cell, section.z, section.box) for cell in cells for section in cell.sections]
    beyond = [
        (cell, end.z + way, end.box)
        for cell in cells
        if cell.whole and len(fields[cell.field].labels) > 1
        for end, way in ((cell.sections[0], -1), (cell.sections[-1], 1))
    ]
    wanted += beyond
    if len(wanted) > MOST_PICTURES:
        wanted = [wanted[i] for i in sorted(rng.choice(len(wanted), MOST_PICTURES, replace=False))]
    pictures = [
        _picture(fields[cell.field], cell, z, box, round(side * reduction), side, background, rng)
        for cell, z, box in wanted
    ]
    return pictures, (step[1] * reduction, step[2] * reduction), margin / reduction, bool(beyond)


def _picture(
    field: Annotated,
    cell: Cell,
    z: int,
    box: Box,
    window: int,
    side: int,
    background: Background,
    rng: np.random.Generator,
) -> PictureExample:
    """A square window around a cell in one slice, reduced to ``side`` pixels."""
    corner = [(s.start + s.stop - window) // 2 for s in box]
    _, height, width = field.labels.shape
    rows, columns = (np.arange(window) + c for c in corner)
    inside = np.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    around = np.ix_(np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1))
    mask = inside & (field.labels[z][around] == cell.label)
    other = ~inside | _others(field, z, cell.label, around)
    depth = cell.depth_at(z)
    slices = [
        n
        for n in (z - 1, z + 1)
        if 0 <= n < len(field.labels) and (depth is None or (cell.depth_at(n) or 0) < depth)
    ]
    empty = [background.paint((window, window), (1.0, 1.0), rng) for _ in range(1 + len(slices))]
    images = [
        np.where(other | _others(field, n, cell.label, around), sum(paint), field.image[n][around])
        for n, paint in zip([z, *slices], empty, strict=True)
    ]
    if window != side:
        images = [zoom(image, side / window, order=1, grid_mode=True, mode="nearest") for image in images]
        mask, other = (_reduced(one, side) for one in (mask, other))
    image, *neighbours = (np.ascontiguousarray(one, np.float32) for one in images)
    return PictureExample(image, mask, ~other, tuple(neighbours), depth)


def _others(field: Annotated, z: int, label: int, around: tuple[NDArray[np.int_], ...]) -> NDArray[np.bool_]:
    """Where other cells are in a slice, as far as it is annotated; their light reaches past their labels."""
    labels = field.labels[z][around]
    own = labels == label
    return binary_dilation((labels > 0) & ~own, iterations=2) & ~binary_dilation(own)


def _reduced(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    share = zoom(mask.astype(np.float32), side / len(mask), order=1, grid_mode=True, mode="nearest")
    return np.asarray(share > 0.5)
