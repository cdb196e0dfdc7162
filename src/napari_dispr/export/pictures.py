"""Pictures of shapes without a screen: a montage of cells, the sampling of a member, a page of results."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter, zoom
from skimage.util import montage as skimage_montage

from napari_dispr import grid
from napari_dispr.cells.cropping import crop_cell
from napari_dispr.cells.folders import CellFile
from napari_dispr.files import written_aside
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.shapes.shading import shaded
from napari_dispr.version import __version__

#: Colours of a montage.
BACKGROUND, OUTLINE, SHAPE = (16, 20, 24), (255, 190, 60), (0.55, 0.8, 1.0)
#: Pixels per voxel; pixels between two cells, and between picture and shape of a cell.
ENLARGED, GAP, SEAM = 2, 10, 2
#: Standard deviation of the noise in the pictures of sampling, from 1 (only noise) to 0 (the finished shape).
LEVELS = (1.0, 0.6, 0.48, 0.4, 0.33, 0.2, 0.0)
#: Signed distance that is brightest in their planes.
PLANE_RANGE = 10.0


def montage(cells: Sequence[CellFile], columns: int = 6, rows: int = 4) -> NDArray[np.uint8]:
    """A picture of cells: for each its image with the outline of the mask, and its true shape.

    Parameters
    ----------
    cells : sequence of CellFile
        If there are too many, some are chosen at random; they keep their order.
    columns, rows : int
        At most as many cells in a row and in a column.

    Returns
    -------
    (H, W, 3) uint8
        A cell without an image shows its mask, one without an object no shape.
    """
    count = min(len(cells), columns * rows)
    chosen = np.sort(np.random.default_rng(0).permutation(len(cells))[:count])
    tiles = [_tile(cells[index]) for index in chosen]
    return _page(tiles or [_canvas(ENLARGED * grid.SIZE, ENLARGED * grid.SIZE)], columns)


def _page(tiles: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Pictures of one size in rows, with gaps."""
    columns = min(columns, len(tiles))
    shape = -(-len(tiles) // columns), columns
    page = skimage_montage(tiles, BACKGROUND, grid_shape=shape, padding_width=GAP, channel_axis=-1)
    return np.asarray(page, np.uint8)


def _canvas(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _tile(cell: CellFile) -> NDArray[np.uint8]:
    picture = _outlined(cell.mask, cell.image)
    side = len(picture)
    tile = _canvas(side, 2 * side + SEAM)
    tile[:, :side] = picture
    if cell.obj is not None:
        # Shading needs only that the level crosses 0 smoothly at the surface.
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
    return inside & ~binary_erosion(inside)


def _on_background(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An RGBA picture in [0, 1] in front of the background."""
    alpha = picture[..., 3:]
    return np.rint(255 * alpha * picture[..., :3] + (1 - alpha) * np.array(BACKGROUND)).astype(np.uint8)


def denoising_overview(path: Denoising) -> NDArray[np.uint8]:
    """The sampling of a member in one picture: the shape under less and less noise, and its imaged plane.

    Returns
    -------
    (H, W, 3) uint8
        Shapes above, their imaged planes below, bright inside, with the outline of the cell's mask. The first
        column is the cell's picture, if there is one.
    """
    frames = path.at(LEVELS)
    side = grid.SIZE * ENLARGED
    height = 2 * side + GAP
    section = path.section
    columns = []
    if section is not None:
        column = _canvas(height, side)
        middle = (height - side) // 2
        column[middle : middle + side] = _outlined(section.mask, section.image)
        columns.append(column)
    for frame in frames:
        column = _canvas(height, side)
        column[:side] = _on_background(shaded(frame, SHAPE, ENLARGED))
        column[-side:] = _plane(frame, None if section is None else section.mask)
        columns.append(column)
    return _page(columns, len(columns))


def save_denoising(file: str | os.PathLike[str], path: Denoising) -> None:
    """Write :func:`denoising_overview` as PNG."""
    from matplotlib.image import imsave

    with written_aside(file) as aside:
        about = {"Software": f"napari-dispr {__version__}"}
        imsave(aside, denoising_overview(path), format="png", metadata=about)


def _plane(frame: NDArray[np.float32], mask: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """The imaged plane of a signed distance, brighter deeper inside, with the outline of a mask."""
    level = np.repeat(np.repeat(grid.section(frame), ENLARGED, 0), ENLARGED, 1)
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
    truths: Mapping[int, NDArray[np.float32]],
    title: str,
) -> None:
    """Write a PNG: the picture with the cells outlined, and each cell's crop, true shape and members.

    ``truths`` are signed distances (64, 64, 64) of the true shapes on the grid of the prediction.
    """
    from matplotlib.colors import hsv_to_rgb
    from matplotlib.figure import Figure

    cells, members = list(prediction), prediction.members
    columns = members + 2
    height = max(4.0, 1.35 * len(cells))
    figure = Figure(figsize=(height + 1.35 * columns, height + 0.5), facecolor="#101418")
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
    heads = ["picture", "truth", *[f"member {m + 1}" for m in range(members)]]
    for row, (cell, ensemble) in zip(tiles, prediction.items(), strict=True):
        crop = crop_cell(
            image, labels, cell, zoom=ensemble.zoom, sides=grid.pixel_sides(prediction.image_to_world)
        )
        assert crop.image is not None
        row[0].imshow(crop.image * crop.mask, cmap="gray")
        row[0].text(2, 8, str(cell), color=colours[cell], fontsize=10)
        row[1].imshow(shaded(truths[cell], (0.85, 0.85, 0.85)))
        for tile, shape in zip(row[2:], ensemble.signed_distance, strict=True):
            tile.imshow(shaded(shape, tuple(colours[cell])))
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
