"""Settings of synthetic populations and of the trial that judges them: defaults, ranges and help texts."""

from typing import Annotated, Literal

from pydantic import Field

from napari_dispr.settings import Settings

_Length = Annotated[float, Field(ge=0, le=1e4)]
_Voxels = Annotated[int, Field(ge=8, le=4096)]
Layout = Literal["plain", "cellpose", "stardist"]


class Microscope(Settings):
    """A simulated microscope with its camera, for cells that are sharp and without noise."""

    blur: Annotated[tuple[_Length, ...], Field(min_length=2, max_length=3)] = Field(
        (0.75, 0.22, 0.22),
        description="Standard deviation of the point-spread function along z, y and x, in the unit of the "
        "spacing. In 2D the last two are used.",
    )
    photons: Annotated[float, Field(gt=0, le=1e6)] = Field(
        220.0, description="Photons from a voxel of brightness 1."
    )
    offset: Annotated[float, Field(ge=0, le=1e4)] = Field(
        100.0, description="Grey value of the camera without light."
    )
    read_noise: Annotated[float, Field(ge=0, le=1e3)] = Field(
        4.0, description="Standard deviation of the noise of the camera, in grey values."
    )


class PopulationSettings(Settings):
    """How the cells of one image are placed."""

    size: tuple[_Voxels, _Voxels] | tuple[Annotated[int, Field(ge=2, le=1024)], _Voxels, _Voxels] = Field(
        (32, 256, 256), description="Size of each image in voxels: z,y,x, or y,x for 2D images."
    )
    cells: Annotated[int, Field(ge=1, le=5000)] | None = Field(
        None,
        description="Number of cells in each image (default: as dense as in the learned images; 20 simulated "
        "cells).",
    )
    density: Annotated[float, Field(gt=0, le=0.8)] | None = Field(
        None,
        description="Share of the image that cells fill, from 0 to 0.8. It replaces the number of cells.",
    )
    clustering: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Probability that a cell is placed next to an earlier one; the others are placed "
        "anywhere where there is room (default: as in the learned images; 0.3 simulated cells).",
    )
    cut: Literal["none", "sides", "all"] = Field(
        "all",
        description="Where the border of the image may cut cells: none, sides (of the slices), or all (also "
        "at the first and the last slice, as in stacks that are lower than their cells).",
    )
    microscope: Microscope | None = Field(
        None, description="The microscope for simulated cells. none: the usual one of these cells."
    )


class JudgeSettings(Settings):
    """How segmenters are trained and compared."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        400, description="Training steps of each segmenter, the same for all."
    )
    batch: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Crops in each step.")
    crop: Annotated[int, Field(ge=32, le=512, multiple_of=16)] = Field(
        64, description="Side of the crops in pixels of the resized images."
    )
    diameter: Annotated[float, Field(ge=6, le=100)] = Field(
        16.0,
        description="Images of large cells are reduced, so that the median cell has this diameter in pixels.",
    )
    seeds: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Number of repetitions with other seeds."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="First seed.")
    device: str = Field(
        "auto", description="Device that computes: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ..."
    )
