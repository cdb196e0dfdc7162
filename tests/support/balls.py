"""Balls as a source of cells: quick, and their voxels and grey values are known."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from napari_dispr.synthesis.background import Background
from napari_dispr.synthesis.cell_sources import CellSource, TexturedCell

#: Grey values of the background and of the balls.
LEVEL, BRIGHT = 100.0, 900.0


def ball(radius: float, ndim: int, source: str = "ball") -> TexturedCell:
    """A ball with a margin of two voxels, where its light falls to the background."""
    reach = int(radius) + 3
    index = np.indices((2 * reach + 1,) * ndim) - reach
    far = np.sqrt((index**2).sum(axis=0))
    mask = far <= radius
    image = LEVEL + (BRIGHT - LEVEL) * np.clip(radius + 1.5 - far, 0, 1)
    return TexturedCell(mask, image.astype(np.float32), source)


def balls(ndim: int = 3, blurred: str = "", noise: bool = False) -> CellSource:
    """A source of balls of radius 3 to 6 voxels."""

    def draw(rng: np.random.Generator, count: int) -> Iterator[TexturedCell]:
        while True:
            radius = rng.uniform(3, 6)
            cell = ball(radius, ndim, f"ball {radius:.4f}")
            texture = rng.normal(0, 20 * noise, cell.image.shape).astype(np.float32)
            yield replace(cell, image=cell.image + texture)

    quantiles = tuple(np.linspace(-20, 20, 9)) if noise else ()
    spacing = (1.0, 0.5, 0.5)[-ndim:]
    return CellSource(
        name="balls",
        spacing=spacing,
        unit="micrometer",
        background=Background(level=LEVEL, quantiles=quantiles),
        draw=draw,
        volume=float((np.pi / 6 if ndim == 3 else np.pi / 4) * 9**ndim * np.prod(spacing)),
        blurred=blurred,
        card={"model": "balls"},
    )
