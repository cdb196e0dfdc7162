"""The condition of a network: planes on the model grid, made from a crop's mask and image.

Training, prediction and evaluation all make their conditions here. Knows arrays only.
"""

import numpy as np
from numpy.typing import NDArray

from napari_dispr import signed_distance

#: Distances from the edge of the mask are clipped to this, in voxels, and scaled to [-1, 1].
MASK_TRUNCATION = 16.0
#: Unit of the logarithm of scales, which brings them to about [-1, 1].
SCALE_UNIT = 0.15

Plane = NDArray[np.float32]


def normalise_inside(image: Plane, mask: Plane) -> Plane | None:
    """Scale the 1st to 99th percentile inside the mask to [0, 1], and set the outside to 0.

    Neighbours, background and the gain of the camera do not change the result. It is None if the image is
    constant inside the mask.
    """
    inside = image[mask > 0.5]
    if not inside.size:
        return None
    low, high = np.percentile(inside, (1, 99))
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return None
    return (np.clip((image - low) / (high - low), -0.5, 1.5) * mask).astype(np.float32)


def signed_planes(mask: Plane, image: Plane | None, scale: float | None = None) -> Plane:
    """Condition of our models, shape (6, 64, 64). Models with fewer condition planes use the first ones.

    Mask in [0, 1]; signed distance from its edge, positive inside, in units of 16 voxels; image normalised
    inside the mask; 1 everywhere if there is an image, else 0; logarithm of ``scale`` in units of 0.15; 1
    everywhere if the scale is known, else 0.

    Parameters
    ----------
    scale : float or None
        Size of the cell on the grid relative to its size in the training data; None: not known. Size
        matters for the shape: blood cells have similar volumes, so that large ones are flat.
    """
    picture = None if image is None else normalise_inside(image, mask)
    distance = signed_distance.from_level(mask, truncation=MASK_TRUNCATION) / MASK_TRUNCATION
    return np.stack(
        [
            mask,
            distance,
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
