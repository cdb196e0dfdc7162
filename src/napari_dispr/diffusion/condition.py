"""The condition of a network: planes and volumes on the model grid, made from what is known of a cell.

Training, prediction and evaluation all make their conditions here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dispr import grid, signed_distance
from napari_dispr.planes import KnownPlane

#: Distances from the edge of the mask are clipped to this, in voxels, and scaled to [-1, 1].
MASK_TRUNCATION = 16.0
#: Unit of the logarithm of scales, which brings them to about [-1, 1].
SCALE_UNIT = 0.15
#: Number of volumes of `Known.volumes`, and the distance in voxels at which its nearness is 0.
VOLUMES, NEAR = 4, 16.0

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Known:
    """The sections of a cell that are known, or the silhouette that a projection shows.

    Attributes
    ----------
    depths : (K,) float32
        Of each section, in voxels from the imaged plane, which is the first one. A projection has no depth:
        NaN.
    distances : (K, 64, 64) float32
        Signed distance from the edge of each mask, in units of 16 voxels, from -1 to 1.
    pictures : (K, 64, 64) float32
        Each image normalised inside its mask; 0 without image.
    """

    depths: NDArray[np.float32]
    distances: NDArray[np.float32]
    pictures: NDArray[np.float32]

    @classmethod
    def of(
        cls, mask: Plane, image: Plane | None, planes: Sequence[KnownPlane] = (), projection: bool = False
    ) -> Self:
        """From the mask and image of the picture, and further sections."""
        seen = [(mask, image), *((plane.mask, plane.image) for plane in planes)]
        pictures = [normalise_inside(image, mask) for mask, image in seen]
        return cls(
            np.array([np.nan if projection else 0, *(plane.depth for plane in planes)], np.float32),
            np.stack([mask_distance(mask) for mask, _ in seen]),
            np.stack([np.zeros_like(mask) if picture is None else picture for picture in pictures]),
        )

    def volumes(self) -> NDArray[np.float32]:
        """What is known at each voxel, (4, 64, 64, 64).

        0. Nearness: 1 in a known section, less with the distance along z, 0 from 16 voxels on.
        1. Signed distance, interpolated along z between the sections and constant beyond them.
        2. Picture, only in its section (divided between two voxels, if it lies between them).
        3. 1 everywhere for a projection, else 0.
        """
        result = np.zeros((VOLUMES, *grid.SHAPE), np.float32)
        if np.isnan(self.depths[0]):
            result[1], result[3] = self.distances[0], 1
            return result
        z = grid.plane_distance()
        order = np.argsort(self.depths)
        depths, distances = self.depths[order], self.distances[order]
        apart = np.abs(z[:, None] - depths)
        result[0] = np.clip(1 - apart.min(axis=1) / NEAR, 0, 1)[:, None, None]
        result[1] = grid.between(distances, depths, z)
        for weight, picture in zip(np.clip(1 - apart, 0, 1).T, self.pictures[order], strict=True):
            for i in np.flatnonzero(weight):
                result[2, i] += weight[i] * picture
        return result


class Condition(NamedTuple):
    """The conditions of a batch, as tensors.

    Attributes
    ----------
    planes : (B, C, 64, 64)
        Of `signed_planes` or `dispr_planes`.
    volumes : (B, V, 64, 64, 64)
        Of `Known.volumes`; V is 0 for a network without them.
    depths, distances : (B, K), (B, K, 64, 64)
        Of `Known`; the depths in the memory of the CPU, where NaN fills up the cells with fewer sections.
    """

    planes: Tensor
    volumes: Tensor
    depths: Tensor
    distances: Tensor

    def to(self, device: torch.device) -> "Condition":
        """On a device, except the depths."""
        planes, volumes, depths, distances = self
        return Condition(planes.to(device), volumes.to(device), depths, distances.to(device))

    def sections(self, truncation: float) -> tuple[Tensor, Tensor]:
        """Depths, and distances in units of a model's truncation, from -1 to 1."""
        return self.depths, (self.distances * (MASK_TRUNCATION / truncation)).clamp(-1, 1)


def filled_up(known: Sequence[Known], count: int | None = None) -> tuple[Tensor, Tensor]:
    """Depths (B, K) and distances (B, K, 64, 64) of cells; K is ``count``, or the largest number."""
    count = count or max(len(one.depths) for one in known)
    depths = np.full((len(known), count), np.nan, np.float32)
    distances = np.zeros((len(known), count, grid.SIZE, grid.SIZE), np.float32)
    for i, one in enumerate(known):
        depths[i, : len(one.depths)] = one.depths
        distances[i, : len(one.depths)] = one.distances
    return torch.from_numpy(depths), torch.from_numpy(distances)


def mask_distance(mask: Plane) -> Plane:
    """Signed distance from the edge of a mask, positive inside, in units of 16 voxels, from -1 to 1."""
    return _mask_distance(np.asarray(mask, np.float32).tobytes(), mask.shape).copy()


@lru_cache(maxsize=8)  # a cell's condition and its start both need that of each section
def _mask_distance(mask: bytes, shape: tuple[int, ...]) -> Plane:
    level = np.frombuffer(mask, np.float32).reshape(shape)
    return signed_distance.from_level(level, truncation=MASK_TRUNCATION) / np.float32(MASK_TRUNCATION)


def normalise_inside(image: Plane | None, mask: Plane) -> Plane | None:
    """Scale the 1st to 99th percentile inside the mask to [0, 1], and set the outside to 0.

    Neighbours, background and the gain of the camera do not change the result. It is None without an image,
    or if the image is constant inside the mask.
    """
    if image is None:
        return None
    inside = image[mask > 0.5]
    if not inside.size:
        return None
    low, high = np.percentile(inside, (1, 99))
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return None
    return (np.clip((image - low) / (high - low), -0.5, 1.5) * mask).astype(np.float32)


def signed_planes(mask: Plane, image: Plane | None, scale: float | None = None) -> Plane:
    """Condition of our models, shape (6, 64, 64). Models with fewer condition planes use the first ones.

    0. Mask in [0, 1].
    1. Signed distance from its edge, positive inside, in units of 16 voxels.
    2. Image, normalised inside the mask.
    3. 1 everywhere if there is an image, else 0.
    4. Logarithm of ``scale`` in units of 0.15.
    5. 1 everywhere if the scale is known, else 0.

    Parameters
    ----------
    scale : float or None
        Size of the cell on the grid relative to its size in the training data; None: not known. Size
        matters for the shape: blood cells have similar volumes, so that large ones are flat.
    """
    picture = normalise_inside(image, mask)
    return np.stack(
        [
            mask,
            mask_distance(mask),
            np.zeros_like(mask) if picture is None else picture,
            np.full_like(mask, picture is not None),
            np.full_like(mask, 0.0 if scale is None else np.log(scale) / SCALE_UNIT),
            np.full_like(mask, scale is not None),
        ]
    ).astype(np.float32)


def dispr_planes(mask: Plane, image: Plane | None) -> Plane:
    """Condition of the original, shape (2, 64, 64): mask, and image times mask, both in [0, 1]."""
    picture = np.zeros_like(mask) if image is None else image * mask
    return np.stack([mask, picture]).astype(np.float32)
