"""The source of synthetic cells by its name: simulated cells, or the file of a learned model."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from napari_dispr.errors import InputError
from napari_dispr.synthesis.cell_sources import CellSource
from napari_dispr.synthesis.settings import CellSettings
from napari_dispr.synthesis.simulated_sources import SIMULATED, simulated_source

#: Name of the learned model in the package, and its file.
SAMPLE = "sample"
_SAMPLE_FILE = Path(__file__).parents[1] / "weights" / "synthesis" / "nuclei.safetensors"
#: Spacing (z, y, x) of simulated cells, micrometer, if none is given.
_NUCLEI, _RED_CELLS = (1.0, 0.3, 0.3), (0.3, 0.11, 0.11)


def learned_file(source: str | PathLike[str]) -> Path:
    """The file of a learned model: that of the package by the name "sample", or any by its path."""
    return _SAMPLE_FILE if str(source) == SAMPLE else Path(source)


def cell_source(
    source: str | PathLike[str],
    ndim: int = 3,
    spacing: Sequence[float] | None = None,
    settings: CellSettings | None = None,
) -> CellSource:
    """Cells by the name of a simulation, or by the file of a learned model.

    Parameters
    ----------
    source : str or path
        One of ``SIMULATED``, "sample" (the learned model in the package), or a file of `learn_synthesis`.
    ndim : 2 or 3
        Of the images to be made.
    spacing : (z, y, x) or (y, x), optional
        Size of a voxel, in the unit of the model or in micrometer; by default the usual one of the simulated
        cells, or that of the images from which the model learned.
    settings : CellSettings, optional
        How cells are made by a learned model.

    Raises
    ------
    InputError
        If there is no such source, or the spacing has another number of axes than the images.
    """
    name = str(source)
    if spacing is not None and len(spacing) != ndim:
        raise InputError(
            f"The spacing {tuple(spacing)} has {len(spacing)} numbers: {ndim}D images need {ndim}."
        )
    if name in SIMULATED:
        usual = _NUCLEI if name == "nuclei" else _RED_CELLS
        return simulated_source(name, spacing or usual[3 - ndim :])
    if not learned_file(source).is_file():
        raise InputError(
            f"There is no learned model {name}: give its file, {SAMPLE} for that in the package, or "
            f"simulated cells: {', '.join(SIMULATED)}."
        )
    return _learned_source(learned_file(source), ndim, spacing, settings)


def _learned_source(
    path: Path, ndim: int, spacing: Sequence[float] | None, settings: CellSettings | None
) -> CellSource:
    from napari_dispr.synthesis.cells_made import iter_textured_cells
    from napari_dispr.synthesis.learned import LearnedSynthesis

    learned, chosen = LearnedSynthesis.load(path), settings or CellSettings()
    card = learned.card
    if spacing is None:
        spacing = card.spacing[-ndim:]
        if len(spacing) < ndim:
            raise InputError(
                f"{path} was learned from 2D images, which do not say how far slices are apart: give the "
                "spacing along z, y and x."
            )
    steps = tuple(float(step) for step in spacing)

    def draw(rng: np.random.Generator, count: int) -> Iterator[Any]:
        seed = int(rng.integers(2**31))
        return iter_textured_cells(learned, seed, steps, count, chosen)

    across = float(np.median(card.diameters))
    height = float(np.median(card.heights or 1))
    glow = card.glow if ndim == 3 else ()
    cut = 2 / 3 if card.dimensions == 3 else 1  # a slice of a stack cuts a cell anywhere: mean area
    return CellSource(
        name=card.name,
        spacing=steps,
        unit=card.unit,
        background=card.background.without_glow(card.light[0]) if glow else card.background,
        draw=draw,
        density=card.usual_density(ndim),
        clustering=card.clustering,
        volume=np.pi / 6 * across**3 * height if ndim == 3 else np.pi / 4 * across**2 * cut,
        dtype=card.dtype,
        glow=glow,
        blurred=f"The textures of {card.name} were learned from images that are already blurred by a "
        "microscope.",
        card={
            "model": path.name,
            "hash": learned.hash,
            "cells": chosen.model_dump(mode="json", exclude={"device"}),
        },
    )
