"""The card of a learned model of synthesis: what it was learned from. No torch."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open

from napari_dispr.errors import InputError
from napari_dispr.files import check_readable
from napari_dispr.settings import PixelSize, Settings, Share
from napari_dispr.synthesis.background import Background, Grey
from napari_dispr.synthesis.glow import GLOW_DEPTHS

FORMAT = "napari-dispr synthesis 1"
#: Without the ends: in a few cells one is brighter than all others.
LIGHT_RANKS = tuple(n / 20 for n in range(1, 20, 2))


class SynthesisCard(Settings):
    """What a learned model was learned from; all grey values are those of the real images.

    Attributes
    ----------
    dimensions, spacing : int, (z, y, x) or (y, x)
        Of the real images; size of their voxels in ``unit``.
    dtype, limits : str, (float, float)
        Data type, and darkest and brightest grey value of the real images.
    mask_pixel : float
        Side of a pixel of the masks.
    picture_pixel : (float, float)
        Size (y, x) of a pixel of the textures; larger than that of the images if cells are large.
    margin : float
        Width of the surroundings of a cell in the textures, in their pixels.
    side : int
        Side of the pictures of the training, in pixels.
    offset, scale : float
        Mean and standard deviation of these pictures, which normalise them.
    neighbours : bool
        Whether the slice next to a slice was a condition of the training.
    beyond : bool
        Whether slices above and below cells were learned.
    depths : bool
        Whether it was learned how light changes from the middle of a cell to its ends.
    heights, diameters : tuple of float
        Quantiles 0, .25, .5, .75 and 1 of the height of the cells over the diameter of their middle section
        (empty: not known), and of these diameters.
    lights : tuple of float
        Quantiles, at ``LIGHT_RANKS``, of the light of the cells above the background, in the middle of each;
        empty: not known.
    glow : tuple of float
        Light above and below a cell, relative to that in its middle, at the depths `glow.GLOW_DEPTHS`; empty:
        not known.
    light : (float, float)
        Mean and standard deviation, over the cells, of the mean grey value of a cell.
    density : float
        Share of the annotated slices that cells fill.
    clustering : float
        Share of the cells that are next to another, as the probability of `PopulationSettings`.
    training : dict
        Cells, steps, seconds, losses, and how similar masks are to those of the training.
    """

    name: str
    description: str = ""
    licence: str = ""
    attribution: str = ""
    dimensions: Literal[2, 3]
    spacing: tuple[PixelSize, ...] = Field(min_length=2, max_length=3)
    unit: str
    dtype: str = Field(pattern=r"^(u?int(8|16|32|64)|float(16|32|64))$")
    limits: tuple[Grey, Grey]
    background: Background
    mask_pixel: PixelSize
    picture_pixel: tuple[PixelSize, PixelSize]
    margin: float = Field(ge=0, le=256)
    side: int = Field(ge=16, le=4096)
    offset: Grey
    scale: Grey = Field(gt=0)
    neighbours: bool
    beyond: bool
    depths: bool = False
    heights: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    lights: tuple[Grey, ...] = ()
    glow: tuple[Share, ...] = ()
    light: tuple[Grey, Grey]
    diameters: tuple[PixelSize, ...] = Field(min_length=1, max_length=100)
    density: float = Field(ge=0, le=1)
    clustering: float = Field(0.3, ge=0, le=1)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.lights) not in (0, len(LIGHT_RANKS)):
            raise ValueError("the light of cells is known at all ranks or at none")
        if len(self.glow) not in (0, len(GLOW_DEPTHS)):
            raise ValueError("the light above and below a cell is known at all depths or at none")
        if len(self.spacing) != self.dimensions or self.limits[0] > self.limits[1]:
            raise ValueError("a spacing has as many numbers as dimensions, and limits rise")
        return self

    def usual_density(self, ndim: int) -> float | None:
        """Share of new images that cells fill; denser ones than of the result hardly fit."""
        return min(self.density, 0.25 if ndim == 3 else 0.6) or None


def read_card(path: str | os.PathLike[str]) -> SynthesisCard:
    """The card of a model file.

    Raises an InputError if the file does not exist, or is no learned model of synthesis.
    """
    check_readable(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        if metadata["format"] != FORMAT:
            raise ValueError(metadata["format"])
        return SynthesisCard.model_validate_json(metadata["card"])
    except (SafetensorError, LookupError, ValueError, OSError) as error:
        raise no_model(path) from error


def no_model(path: str | os.PathLike[str]) -> InputError:
    """The error for a file that is no learned model."""
    return InputError(
        f"{path} is no learned model of synthesis: choose a .safetensors file that "
        "`napari-dispr synthesise learn` wrote."
    )
