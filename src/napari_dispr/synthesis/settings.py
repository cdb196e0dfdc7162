"""Settings of the synthesis - learning, making, judging: defaults, ranges and help texts. No torch."""

from math import prod
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from napari_dispr.settings import Device, Seed, Settings, Share

_Length = Annotated[float, Field(ge=0, le=1e4)]
#: Least and largest number of slices, least and largest side of a slice, and most voxels of an image: more do
#: not fit into the memory of a laptop.
SLICES, SIDES, MOST_VOXELS = (2, 1024), (8, 4096), 2**27
Layout = Literal["plain", "cellpose", "stardist"]


def _size(size: tuple[int, ...]) -> tuple[int, ...]:
    limits = (SLICES, SIDES, SIDES)[-len(size) :]
    if len(size) not in (2, 3) or not all(a <= n <= b for n, (a, b) in zip(size, limits, strict=False)):
        raise ValueError(
            f"give y,x or z,y,x, with y and x from {SIDES[0]} to {SIDES[1]} and z from {SLICES[0]} to "
            f"{SLICES[1]}"
        )
    if prod(size) > MOST_VOXELS:
        raise ValueError(f"these are more than {MOST_VOXELS // 10**6} million voxels: make smaller images")
    return size


class LearnSettings(Settings):
    """How masks and textures are learned: for ``minutes`` or, if they are given, for ``steps``."""

    minutes: PositiveFloat = 20.0
    """Training time in minutes."""
    steps: PositiveInt | None = None
    """Number of training steps. It replaces the minutes; then a run can be repeated exactly."""
    start: str = "sample"
    """Learned model from which the training starts: sample (that in the package, learned from 13 nuclei in
    one stack), a file, or none.
    """
    batch: Annotated[int, Field(ge=1, le=512)] = 16
    """Number of masks, and of pictures, in each step."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of the cells whose masks are not trained on. They show whether made masks are copies."""
    learning_rate: PositiveFloat = 0.01
    """Peak learning rate of the convolutions (Muon)."""
    adam_learning_rate: PositiveFloat = 1e-3
    """Peak learning rate of all other parameters (AdamW)."""
    seed: Seed = 0
    """Seed of weights, samples and noise."""
    device: Device = "auto"


class CellSettings(Settings):
    """How cells are made by a learned model."""

    way: Literal["model", "views", "harmonics"] = "model"
    """From a mask to a volume: model (a shape model of this package, seconds), views (the way of the paper:
    many views of the cell, then a surface), or for comparison harmonics (a random body of spherical harmonics
    as large as the mask).
    """
    views_model: str = ""
    """For the way views: the model file that the command synthesise views has trained."""
    shape_model: str = "generic"
    """For the way model: the shape model, by name or file."""
    mask_sampler: Literal["dpm-solver++", "ddim", "ddpm"] = "dpm-solver++"
    """Sampler of the masks."""
    mask_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Evaluations of the network for each mask (12; 50 with ddim, 250 with ddpm)."""
    texture_sampler: Literal["dpm-solver++", "ddim"] = "dpm-solver++"
    """Sampler of the textures, both without fresh noise (eta 0)."""
    texture_steps: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Evaluations of the network for each slice of a texture (10; 50 with ddim). 0, for comparison: no
    texture, but even light and the noise of the background.
    """
    rho: Annotated[float, Field(ge=0, le=100)] | None = None
    """Common noise of the slices of a cell relative to the own noise of each slice: the noise of two slices
    correlates by rho^2 / (1 + rho^2). By default 0.7 with as_published, and otherwise 0.
    """
    as_published: bool = False
    """Make slices as in the paper: with correlated noise only, without the slice next to them as a condition.
    """
    device: Device = "auto"


class ViewsSettings(Settings):
    """How the multi-view model of the way views is trained."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1500
    """Number of training steps; about one second each on one core."""
    batch: Annotated[int, Field(ge=1, le=512)] = 16
    """Number of bodies in each step."""
    seed: Seed = 0
    """Seed of weights, bodies and noise."""


class Microscope(Settings):
    """A simulated microscope with its camera, for cells that are sharp and without noise."""

    blur: Annotated[tuple[_Length, ...], Field(min_length=2, max_length=3)] = (0.75, 0.22, 0.22)
    """Standard deviation of the point-spread function along z, y and x, in the unit of the spacing. In 2D the
    last two are used.
    """
    photons: Annotated[float, Field(gt=0, le=1e6)] = 220.0
    """Photons from a voxel of brightness 1."""
    offset: Annotated[float, Field(ge=0, le=1e4)] = 100.0
    """Grey value of the camera without light."""
    read_noise: Annotated[float, Field(ge=0, le=1e3)] = 4.0
    """Standard deviation of the noise of the camera, in grey values."""


class PopulationSettings(Settings):
    """How the cells of one image are placed."""

    size: Annotated[tuple[int, ...], AfterValidator(_size)] = (32, 256, 256)
    """Size of each image in voxels: z,y,x, or y,x for 2D images."""
    cells: Annotated[int, Field(ge=1, le=5000)] | None = None
    """Number of cells in each image (default: as dense as in the learned images; 20 simulated cells)."""
    density: Annotated[float, Field(gt=0, le=0.8)] | None = None
    """Share of the image that cells fill, from 0 to 0.8. It replaces the number of cells."""
    clustering: Share | None = None
    """Probability that a cell is placed next to an earlier one; the others are placed anywhere where there is
    room (default: as in the learned images; 0.3 simulated cells).
    """
    cut: Literal["none", "sides", "all"] = "all"
    """Where the border of the image may cut cells: none, sides (of the slices), or all (also at the first and
    the last slice, as in stacks that are lower than their cells).
    """
    microscope: Microscope | None = None
    """The microscope for simulated cells. none: the usual one of these cells."""


class JudgeSettings(Settings):
    """How segmenters are trained and compared."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 400
    """Training steps of each segmenter, the same for all."""
    batch: Annotated[int, Field(ge=1, le=256)] = 8
    """Crops in each step."""
    crop: Annotated[int, Field(ge=32, le=512, multiple_of=16)] = 64
    """Side of the crops in pixels of the resized images."""
    diameter: Annotated[float, Field(ge=6, le=100)] = 16.0
    """Images of large cells are reduced, so that the median cell has this diameter in pixels."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of repetitions with other seeds."""
    seed: Seed = 0
    """First seed."""
    device: Device = "auto"
