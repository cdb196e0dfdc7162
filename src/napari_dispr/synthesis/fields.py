"""Many synthetic images in a folder, on which Cellpose, StarDist and others train without a change."""

import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.errors import InputError, counted
from napari_dispr.events import in_one_go
from napari_dispr.files import read_rows, write_json, write_rows, written_aside
from napari_dispr.synthesis.annotated import annotated_files, read_annotated, write_image
from napari_dispr.synthesis.cell_sources import CellSource
from napari_dispr.synthesis.populations import Population, check_population, iter_make_population
from napari_dispr.synthesis.run_folder import run_folder
from napari_dispr.synthesis.settings import Layout, PopulationSettings
from napari_dispr.version import __version__

#: The card of the folder: the settings of the run, which decide whether it can be continued, and its results.
CARD_FILE = "synthesis.json"
CELLS_FILE, PREVIEW_FILE = "cells.csv", "preview.png"
#: Folders of images and of labels, and the ending of the names of labels.
LAYOUTS: dict[Layout, tuple[str, str, str]] = {
    "plain": ("image", "labels", ""),
    "stardist": ("images", "masks", ""),
    "cellpose": ("train", "train", "_masks"),
}
#: Columns of the table of cells and what they mean.
COLUMNS = {
    "image": "no unit: name of the image",
    "label": "no unit: value of the cell in the labels",
    "source": "no unit: the mask and the seed that made the cell",
    "voxels": "no unit: its voxels in the image",
    "volume": "unit^3 (3D) or unit^2 (2D): volume or area of the whole cell",
    "z": "unit: centre of its visible voxels, from the centre of the first one (3D)",
    "y": "unit: the same along y",
    "x": "unit: the same along x",
    "whole": "no unit: whether the border of the image cuts nothing off",
    "clustered": "no unit: whether it was placed next to an earlier cell",
}
#: Images in the preview, the largest side of each, and pixels between an image and that with outlines.
_SHOWN, _SIDE, _GAP = 6, 256, 2


@dataclass(frozen=True, slots=True)
class FieldMade:
    """An image and its labels are saved: ``done`` of ``total`` images."""

    name: str
    done: int
    total: int
    notes: tuple[str, ...] = ()


def iter_make_synthesis(
    source: CellSource,
    out: str | os.PathLike[str],
    images: int = 200,
    settings: PopulationSettings | None = None,
    seed: int = 0,
    layout: Layout = "plain",
) -> Generator[Any, None, dict[str, Any]]:
    """Make synthetic annotated images in a folder.

    Parameters
    ----------
    out : path
        A new or empty folder, or that of an interrupted run with the same source, settings and seed, which is
        continued. Afterwards it holds images and labels (OME-TIFF), ``cells.csv`` (a row for each cell),
        ``preview.png`` and ``synthesis.json``.
    images : int
        Number of images. A larger number continues a finished run.
    seed : int
        Image number i depends on (seed, i), the source and the settings alone. The same call writes the same
        bytes.
    layout : "plain", "cellpose" or "stardist"
        plain: ``image/NAME.tif`` and ``labels/NAME.tif``; stardist: ``images/NAME.tif`` and
        ``masks/NAME.tif``; cellpose: ``train/NAME.tif`` and ``train/NAME_masks.tif``, where each slice of a
        stack that shows cells is an image, since Cellpose trains on 2D images.

    Yields
    ------
    FieldMade, Placed, and the events of the source

    Returns
    -------
    dict
        ``images`` and ``cells`` (numbers), ``notes`` (sentences by image).

    Raises
    ------
    InputError
        If the folder holds other files or another run, another process writes into it, or the settings do not
        suit the source.
    """
    settings = settings or PopulationSettings()
    check_population(source, settings)
    if images < 1:
        raise InputError(f"The number of images is {images}: make at least 1.")
    folder = Path(out)
    request = {
        "source": {
            "name": source.name,
            "spacing": list(source.spacing),
            "unit": source.unit,
            "background": source.background.model_dump(mode="json"),
            **source.card,
        },
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "layout": layout,
    }
    with run_folder(folder, CARD_FILE, request) as before:
        notes: dict[str, list[str]] = dict((before or {}).get("notes", {}))
        rows = _read_rows(folder)
        due = 0.0  # when the table is written again
        try:
            for number in range(1, images + 1):
                name = f"synthetic_{number:04d}"
                if name not in rows:
                    population = yield from iter_make_population(source, settings, seed, number)
                    if number == 1 and before is None:
                        _write_card(folder, request, notes)  # settings that make no image leave no folder
                    _write(folder, name, population, layout)
                    if population.notes:
                        notes[name] = list(population.notes)
                        _write_card(folder, request, notes)
                    rows[name] = _rows(name, population)
                    if time.monotonic() >= due:
                        due = _write_table(folder, rows)
                    if number == 1:
                        _write_preview(folder, layout)
                yield FieldMade(name, number, images, tuple(notes.get(name, ())))
        finally:
            if rows:
                _write_table(folder, rows)
        results = {"images": len(rows), "cells": sum(len(of_one) for of_one in rows.values()), "notes": notes}
        _write_preview(folder, layout)
        _write_card(folder, request, notes, results)
        return results


make_synthesis = in_one_go(iter_make_synthesis)


def _write_card(
    folder: Path,
    request: dict[str, Any],
    notes: dict[str, list[str]],
    results: dict[str, Any] | None = None,
) -> None:
    card = {
        "software": f"napari-dispr {__version__}",
        "request": request,
        "columns": COLUMNS,
        "notes": notes,
        "results": {key: value for key, value in (results or {}).items() if key != "notes"},
    }
    write_json(folder / CARD_FILE, card)


def _write_table(folder: Path, rows: dict[str, list[dict[str, str]]]) -> float:
    """Write the table of all cells, which says which images are complete.

    Returns the time from which on it may be written again: that takes at most 1 % of the time.
    """
    started = time.monotonic()
    write_rows(folder / CELLS_FILE, COLUMNS, (row for name in sorted(rows) for row in rows[name]))
    return started + 100 * (time.monotonic() - started)


def _read_rows(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of the cells of each finished image, as text, so that they are written again unchanged."""
    rows: dict[str, list[dict[str, str]]] = {}
    path = folder / CELLS_FILE
    for row in read_rows(path, COLUMNS):
        if row.keys() != set(COLUMNS) or None in row.values():
            raise InputError(f"{path} is damaged: choose another folder, or remove this one.")
        rows.setdefault(row["image"], []).append(row)
    return rows


def _rows(name: str, population: Population) -> list[dict[str, str]]:
    rows = []
    for cell in population.cells:
        centre = [""] * (3 - len(cell.centre)) + list(cell.centre)
        values = (
            name,
            cell.label,
            cell.source,
            cell.voxels,
            cell.volume,
            *centre,
            cell.whole,
            cell.clustered,
        )
        rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
    return rows


def _write(folder: Path, name: str, population: Population, layout: Layout) -> None:
    """Write image and labels of one population."""
    images, labels, ending = LAYOUTS[layout]
    parts = {name: (population.image, population.labels)}
    if layout == "cellpose" and population.labels.ndim == 3:
        used = np.flatnonzero(population.labels.any(axis=(1, 2)))
        parts = {f"{name}_z{z:03d}": (population.image[z], population.labels[z]) for z in used}
    about = {"software": f"napari-dispr {__version__}", "synthetic": True}
    for stem, arrays in parts.items():
        for path, array in zip((f"{images}/{stem}", f"{labels}/{stem}{ending}"), arrays, strict=True):
            spacing = population.spacing[-array.ndim :]
            write_image(folder / f"{path}.tif", array, spacing, population.unit, about)


def _write_preview(folder: Path, layout: Layout) -> None:
    """A picture of the first images, each with the outlines of its cells next to it."""
    from imageio.v3 import imwrite

    images, labels, _ = LAYOUTS[layout]
    place = folder if layout != "cellpose" else folder / images
    pairs = annotated_files(*((folder / images, folder / labels) if place == folder else (place,)))
    if len(pairs) > _SHOWN and layout == "cellpose":
        pairs = pairs[:: len(pairs) // _SHOWN]
    shown = (one for image, path in pairs[:_SHOWN] for one in read_annotated(image, path))
    tiles = [tile(one.image, one.labels) for one in shown]
    height, width = (max(one.shape[axis] for one in tiles) for axis in (0, 1))
    tiles = [np.pad(one, ((0, height - one.shape[0]), (0, width - one.shape[1]), (0, 0))) for one in tiles]
    if len(tiles) > 1 and len(tiles) % 2:
        tiles.append(np.zeros_like(tiles[0]))
    page = np.concatenate([np.concatenate(tiles[i : i + 2], axis=1) for i in range(0, len(tiles), 2)])
    with written_aside(folder / PREVIEW_FILE) as aside:
        imwrite(aside, page)


def tile(image: NDArray[Any], labels: NDArray[Any], side: int = _SIDE) -> NDArray[np.uint8]:
    """An image next to the same image with the outlines of its cells, RGB, reduced to about ``side`` pixels.

    Of a stack the slice is shown in which cells fill the largest area.
    """
    from skimage.segmentation import find_boundaries

    if labels.ndim == 3:
        z = int(np.argmax((labels > 0).sum(axis=(1, 2))))
        image, labels = image[z], labels[z]
    step = max(1, min(labels.shape) // side)
    image, labels = image[::step, ::step].astype(np.float64), labels[::step, ::step]
    low, high = np.percentile(image, (0.5, 99.8))
    grey = np.rint(255 * np.clip((image - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    plain = np.stack([grey] * 3, axis=-1)
    outlined = plain.copy()
    colours = _colours(int(labels.max()) + 1)
    edge = find_boundaries(labels, mode="inner")
    outlined[edge] = colours[labels[edge]]
    gap = np.full((len(plain), _GAP, 3), 255, np.uint8)
    return np.concatenate([plain, gap, outlined], axis=1)


def _colours(count: int) -> NDArray[np.uint8]:
    """Bright colours that differ between successive labels."""
    hue = 6 * (np.arange(count) * 0.618034 % 1)
    parts = [np.clip(np.abs((hue + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2)]
    return np.rint(255 * (0.25 + 0.75 * np.stack(parts, axis=-1))).astype(np.uint8)


def summary(results: dict[str, Any], size: Sequence[int]) -> str:
    """What was made, in one sentence."""
    by = " x ".join(str(length) for length in size)
    pixels = "pixels" if len(size) == 2 else "voxels"
    return f"{counted(results['images'], 'image')} of {by} {pixels} with {counted(results['cells'], 'cell')}"
