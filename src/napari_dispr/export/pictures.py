"""Pictures of shapes without a screen: a shaded view, a montage of cells, how one came to be, a page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, distance_transform_edt, gaussian_filter, zoom
from scipy.spatial.transform import Rotation

from napari_dispr import grid
from napari_dispr.cells.cropping import crop_cell
from napari_dispr.cells.folders import CellFile
from napari_dispr.files import written_aside
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.denoising import Denoising

#: Seen from above the picture, tilted towards it by this many degrees.
TILT = 55.0
#: Colours of a montage: what lies behind the tiles, outlines, shapes.
BACKGROUND, OUTLINE, SHAPE = (16, 20, 24), (255, 190, 60), (0.55, 0.8, 1.0)
#: Pixels of a montage a voxel; between two cells, and between picture and shape of one.
ENLARGED, GAP, SEAM = 2, 10, 2
#: Noise in the pictures of how a shape came to be; and the signed distance that is brightest in their planes.
LEVELS, PLANE_RANGE = (1.0, 0.6, 0.48, 0.4, 0.33, 0.2, 0.0), 10.0


def shaded(
    signed_distance: NDArray[np.float32], colour: tuple[float, float, float], enlarged: int = 1
) -> NDArray[np.float32]:
    """View of a shape from obliquely above, as an RGBA picture in [0, 1].

    Parameters
    ----------
    signed_distance : (64, 64, 64) array
    colour : (float, float, float)
        Of the fully lit surface.
    enlarged : int
        Pixels a voxel: of 1 the picture is (64, 64, 4).
    """
    turn = Rotation.from_euler("z", TILT, degrees=True).as_matrix()  # about the last axis, x
    pivot = np.array([grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE])
    seen = affine_transform(signed_distance, turn, pivot - turn @ pivot, order=1, mode="constant", cval=-1.0)
    inside = seen > 0
    hit = inside.argmax(axis=0)
    rows, columns = np.indices(hit.shape)
    slopes = np.stack([g[hit, rows, columns] for g in np.gradient(gaussian_filter(seen, 1.0))])
    normals = -slopes / np.maximum(np.linalg.norm(slopes, axis=0), 1e-6)
    light = np.array([-0.75, -0.45, -0.45])
    lit = np.clip(np.tensordot(light / np.linalg.norm(light), normals, 1), 0, 1)
    covered = inside.any(axis=0)
    if enlarged > 1 and covered.any():
        # Light goes on beyond the outline, so that enlarging mixes nothing else in; how near the ray comes
        # to the surface crosses 0 at the outline and stays sharp.
        nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
        lit = np.clip(_times(gaussian_filter(lit[tuple(nearest)], 0.5), enlarged), 0, 1)
        alpha = np.clip(_times(gaussian_filter(seen.max(axis=0), 0.5), enlarged) * enlarged + 0.5, 0, 1)
    else:
        lit, covered = (np.repeat(np.repeat(a, enlarged, 0), enlarged, 1) for a in (lit, covered))
        alpha = gaussian_filter(covered.astype(np.float32), 0.4)
    picture = np.zeros((*lit.shape, 4), np.float32)
    picture[..., :3] = (0.2 + 0.8 * lit)[..., None] * np.asarray(colour)
    picture[..., 3] = alpha
    return picture


def _times(picture: NDArray[np.float32], enlarged: int) -> NDArray[np.float32]:
    """A smooth picture (64, 64) enlarged smoothly."""
    return np.asarray(zoom(picture, enlarged, order=3, mode="nearest", grid_mode=True))


def montage(cells: Sequence[CellFile], columns: int = 6, rows: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    """Cells side by side: of each its picture with the outline of the mask, and beside it its true shape.

    Parameters
    ----------
    cells : sequence of CellFile
        If there are more than fit, some of them are taken at random; in their order in any case.
    columns, rows : int
        Cells side by side and above one another, at most.
    seed : int
        Which of them, if not all.

    Returns
    -------
    (H, W, 3) uint8
        A cell without an image shows its mask, one without an object no shape.
    """
    count = min(len(cells), columns * rows)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cells))[:count])
    columns = max(1, min(columns, count))
    tiles = [_tile(cells[index]) for index in chosen]
    side = grid.SIZE * ENLARGED
    height, width = side + GAP, 2 * side + SEAM + GAP
    page = np.empty((max(1, -(-count // columns)) * height + GAP, columns * width + GAP, 3), np.uint8)
    page[:] = BACKGROUND
    for number, tile in enumerate(tiles):
        top, left = GAP + number // columns * height, GAP + number % columns * width
        page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return page


def _tile(cell: CellFile) -> NDArray[np.uint8]:
    """Picture and shape of one cell."""
    picture = _outlined(cell.mask, cell.image)
    side = len(picture)
    tile = np.empty((side, 2 * side + SEAM, 3), np.uint8)
    tile[:] = BACKGROUND
    tile[:, :side] = picture
    if cell.obj is not None:
        # All that shading asks of a signed distance is that it crosses 0 smoothly at the surface.
        level = gaussian_filter(cell.obj.astype(np.float32) / 127.5 - 1, 0.7)
        tile[:, side + SEAM :] = _on_background(np.clip(_enlarged(shaded(level, SHAPE)), 0, 1))
    return tile


def _outlined(mask: NDArray[np.float32], image: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """A cell's picture, enlarged, with the outline of its mask; without a picture the mask in grey."""
    mask = _enlarged(mask)
    inside = mask > 0.5
    grey = mask * 0.5 if image is None else _enlarged(image)
    own = grey[inside] if inside.any() else grey
    low, high = min(0.0, float(own.min())), float(np.percentile(own, 99.5))
    grey = np.clip((grey - low) / ((high - low) or 1.0), 0, 1)
    if image is None:
        grey *= 0.5
    picture = np.repeat((255 * grey)[..., None], 3, axis=2)
    picture[_edge(inside)] = OUTLINE
    return np.rint(picture).astype(np.uint8)


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels of a mask."""
    padded = np.pad(inside, 1)
    return inside & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def _on_background(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An RGBA picture in [0, 1] in front of the background."""
    alpha = picture[..., 3:]
    return np.rint(255 * alpha * picture[..., :3] + (1 - alpha) * np.array(BACKGROUND)).astype(np.uint8)


def denoising_overview(path: Denoising, noise: Sequence[float] = LEVELS) -> NDArray[np.uint8]:
    """How a shape came to be, side by side: what it was under less and less noise, and its imaged plane.

    Parameters
    ----------
    path : Denoising
    noise : sequence of float
        Standard deviation of the noise in each picture, from 1 (noise alone) to 0 (the finished shape).

    Returns
    -------
    (H, W, 3) uint8
        Above the shapes; below their imaged planes, bright inside, with the outline of the cell's mask. Where
        the cell was drawn from a picture, that comes first.
    """
    frames = path.at(noise)
    side = grid.SIZE * ENLARGED
    height, width = 2 * side + GAP, side + GAP
    section = path.section
    columns = []
    if section is not None:
        column = np.empty((height, side, 3), np.uint8)
        column[:] = BACKGROUND
        middle = (height - side) // 2
        column[middle : middle + side] = _outlined(section.mask, section.image)
        columns.append(column)
    for frame in frames:
        column = np.empty((height, side, 3), np.uint8)
        column[:] = BACKGROUND
        column[:side] = _on_background(shaded(frame, SHAPE, ENLARGED))
        column[-side:] = _plane(frame, None if section is None else section.mask)
        columns.append(column)
    page = np.empty((height + 2 * GAP, len(columns) * width + GAP, 3), np.uint8)
    page[:] = BACKGROUND
    for number, column in enumerate(columns):
        left = GAP + number * width
        page[GAP : GAP + height, left : left + side] = column
    return page


def save_denoising(file: str | os.PathLike[str], path: Denoising) -> None:
    """Write :func:`denoising_overview` as PNG."""
    from matplotlib.image import imsave

    with written_aside(file) as aside:
        imsave(aside, denoising_overview(path), format="png")


def _plane(frame: NDArray[np.float32], mask: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """The imaged plane of a signed distance, the brighter the deeper inside, with the outline of a mask."""
    level = np.repeat(np.repeat(frame[grid.IMAGED_PLANE], ENLARGED, 0), ENLARGED, 1)
    share = np.clip(0.5 + level / (2 * PLANE_RANGE), 0, 1)[..., None]
    picture = np.rint(255 * share * np.asarray(SHAPE) + (1 - share) * np.array(BACKGROUND)).astype(np.uint8)
    if mask is not None:
        picture[_edge(_enlarged(mask) > 0.5)] = OUTLINE
    return picture


def _enlarged(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """``ENLARGED`` times as large along y and x, linearly."""
    sizes = (ENLARGED, ENLARGED, *[1] * (picture.ndim - 2))
    return np.asarray(zoom(picture, sizes, order=1, mode="nearest", grid_mode=True))


def save_page(
    path: str | os.PathLike[str],
    prediction: Prediction,
    image: NDArray[Any],
    labels: NDArray[Any],
    truths: Mapping[int, NDArray[np.float32]] | None = None,
    title: str = "",
) -> None:
    """Write a PNG: the picture with the cells outlined, and each cell's members beside its crop.

    Parameters
    ----------
    path : path
    prediction : Prediction
    image, labels : (y, x) arrays
    truths : mapping of label to (64, 64, 64) signed distance, optional
        On the grid of the prediction, where the true shapes are known.
    title : str
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import hsv_to_rgb
    from matplotlib.figure import Figure

    cells, members = list(prediction), prediction.members
    columns = members + 1 + bool(truths)
    height = max(4.0, 1.35 * len(cells))
    figure = Figure(figsize=(height + 1.35 * columns, height + 0.5), facecolor="#101418")
    FigureCanvasAgg(figure)
    parts = figure.add_gridspec(
        1, 2, width_ratios=[height, 1.35 * columns], wspace=0.03, left=0.01, right=0.99, bottom=0.01, top=0.93
    )
    axes = figure.add_subplot(parts[0])
    axes.imshow(image, cmap="gray", vmax=np.percentile(image, 99.8))
    colours = {cell: hsv_to_rgb((i / max(1, len(cells)), 0.55, 1.0)) for i, cell in enumerate(cells)}
    for cell, colour in colours.items():
        mask = labels == cell
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)
        y, x = np.argwhere(mask).mean(axis=0)
        axes.text(x, y, str(cell), color="white", ha="center", va="center", fontsize=9)
    axes.set_axis_off()
    axes.set_title(title, color="white", fontsize=10)
    tiles = parts[1].subgridspec(len(cells), columns, wspace=0.02, hspace=0.02).subplots(squeeze=False)
    heads = ["picture", *(["truth"] if truths else []), *[f"member {m + 1}" for m in range(members)]]
    for row, (cell, ensemble) in zip(tiles, prediction.items(), strict=True):
        crop = crop_cell(image, labels, cell, zoom=ensemble.zoom)
        assert crop.image is not None
        row[0].imshow(crop.image * crop.mask, cmap="gray")
        row[0].text(2, 8, str(cell), color=colours[cell], fontsize=10)
        shapes = [*([truths[cell]] if truths else []), *ensemble.signed_distance]
        for i, (tile, shape) in enumerate(zip(row[1:], shapes, strict=True)):
            known = bool(truths) and i == 0
            tile.imshow(shaded(shape, (0.85, 0.85, 0.85) if known else tuple(colours[cell])))
    for tile in tiles.flat:
        tile.set_facecolor("#101418")
        tile.set_xticks([])
        tile.set_yticks([])
        for spine in tile.spines.values():
            spine.set_visible(False)
    for tile, head in zip(tiles[0], heads, strict=True):
        tile.set_title(head, color="white", fontsize=9)
    with written_aside(Path(path)) as aside:
        figure.savefig(aside, dpi=110, format="png", facecolor="#101418")
