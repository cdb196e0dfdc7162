"""Which plane of a cell to image next: what a section at each depth tells about its members.

Works on the members alone, without a network.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError, counted
from napari_dispr.shapes.ensemble import Ensemble

Floats = NDArray[np.float64]

#: A member counts as much as exp(-d / SHARPNESS) if its section differs by d = 1 - IoU from the one imaged.
SHARPNESS = 0.3
#: Gains of neighbouring planes are averaged with this standard deviation, in voxels.
_SMOOTHING = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class PlaneGains:
    """What a further section gains at each depth of one cell; all arrays have shape (plane,).

    Parameters
    ----------
    depth : array
        Distance from the imaged plane along z, in the unit of the world.
    disagreement : array
        Mean area where the sections of two members differ, as a share of the largest section's area.
    volume_gain : array
        By how much the expected relative error of the volume falls.
    iou_gain : array
        By how much the expected IoU of the consensus rises.
    """

    depth: Floats
    disagreement: Floats
    volume_gain: Floats
    iou_gain: Floats

    @property
    def best(self) -> int:
        """Index of the plane to image next: where the consensus gains most."""
        return int(np.argmax(self.iou_gain))


def plane_gains(ensemble: Ensemble) -> PlaneGains:
    """Expected gain of a section at each z of the model grid.

    Each member in turn is taken as the truth. The others are weighted by how well their section at this depth
    agrees with its section, and their weighted mean volume and consensus are compared with it, as are those
    of equal weights. Raises an InputError if there are fewer than three members.
    """
    count = len(ensemble)
    if count < 3:
        raise InputError(
            f"Cell {ensemble.label} has {counted(count, 'member')}: draw three or more to see which plane to "
            "image next."
        )
    members = ensemble.members
    sections = members.reshape(count, grid.SIZE, -1).astype(np.float32)
    area = sections.sum(axis=2, dtype=np.float64)  # (member, z)
    both = np.einsum("izp,jzp->zij", sections, sections, optimize=True).astype(np.float64)
    either = area.T[:, :, None] + area.T[:, None, :] - both
    distance = 1 - np.where(either > 0, both / np.maximum(either, 1), 1)
    weight = np.exp(-distance / SHARPNESS) * (1 - np.eye(count))
    weight /= np.maximum(weight.sum(axis=2, keepdims=True), 1e-12)
    equal = (1 - np.eye(count))[None] / (count - 1)

    volume = area.sum(axis=1)
    half = sections.reshape(count, 32, 2, 32, 2, 32, 2).mean(axis=(2, 4, 6)).reshape(count, -1)

    def errors(weights: Floats) -> tuple[Floats, Floats]:
        """Relative error of the volume, and IoU, for each set of weights (z, member, member)."""
        estimate = weights @ volume
        relative = (np.abs(estimate - volume) / np.maximum(volume, 1)).mean(axis=1)
        iou = np.empty(len(weights))
        for z, of_plane in enumerate(weights):
            consensus, truth = of_plane.astype(np.float32) @ half >= 0.5, half >= 0.5
            union = (consensus | truth).sum(axis=1)
            iou[z] = np.where(union, (consensus & truth).sum(axis=1) / np.maximum(union, 1), 1).mean()
        return relative, iou

    (error,), (agreement,) = errors(equal)
    with_plane, iou_with_plane = errors(weight)
    different = (either - both).sum(axis=(1, 2)) / (count * (count - 1))
    return PlaneGains(
        depth=grid.plane_distance().astype(np.float64) * ensemble.spacing[0],
        disagreement=different / max(area.mean(axis=0).max(), 1.0),
        volume_gain=_smoothed(error - with_plane),
        iou_gain=_smoothed(iou_with_plane - agreement),
    )


def _smoothed(gain: Floats) -> Floats:
    z = np.arange(len(gain))
    kernel = np.exp(-0.5 * ((z[:, None] - z) / _SMOOTHING) ** 2)
    return np.asarray(kernel @ gain / kernel.sum(axis=1))
