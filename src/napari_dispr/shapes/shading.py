"""A shaded view of a shape, computed without a screen."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, distance_transform_edt, gaussian_filter, zoom

from napari_dispr import grid

#: Seen from above the picture, tilted towards it by this many degrees.
TILT = 55.0


def shaded(
    signed_distance: NDArray[np.float32], colour: tuple[float, float, float], enlarged: int = 1
) -> NDArray[np.float32]:
    """A shape (64, 64, 64) seen obliquely from above, as an RGBA picture in [0, 1], (64, 64, 4) or
    ``enlarged``.

    ``colour`` is that of the fully lit surface.
    """
    from scipy.spatial.transform import Rotation  # not needed where a window opens

    turn = Rotation.from_euler("z", TILT, degrees=True).as_matrix()  # about the last axis, x
    pivot = np.array(grid.MIDDLE)
    seen = affine_transform(signed_distance, turn, pivot - turn @ pivot, order=1, mode="constant", cval=-1.0)
    inside = seen > 0
    hit = inside.argmax(axis=0)
    rows, columns = np.indices(hit.shape)
    slopes = np.stack([g[hit, rows, columns] for g in np.gradient(gaussian_filter(seen, 1.0))])
    normals = -slopes / np.maximum(np.linalg.norm(slopes, axis=0), 1e-6)
    light = np.array([-0.75, -0.45, -0.45])
    lit = np.clip(np.tensordot(light / np.linalg.norm(light), normals, 1), 0, 1)
    covered = inside.any(axis=0)
    if enlarged > 1 and covered.any():
        # Light continues beyond the outline, so that enlarging does not mix it with the background. The
        # largest distance along each ray crosses 0 at the outline, which stays sharp.
        nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
        lit = np.clip(_times(gaussian_filter(lit[tuple(nearest)], 0.5), enlarged), 0, 1)
        alpha = np.clip(_times(gaussian_filter(seen.max(axis=0), 0.5), enlarged) * enlarged + 0.5, 0, 1)
    else:
        lit, covered = (np.repeat(np.repeat(a, enlarged, 0), enlarged, 1) for a in (lit, covered))
        alpha = gaussian_filter(covered.astype(np.float32), 0.4)
    picture = np.zeros((*lit.shape, 4), np.float32)
    picture[..., :3] = (0.2 + 0.8 * lit)[..., None] * np.asarray(colour)
    picture[..., 3] = alpha
    return picture


def _times(picture: NDArray[np.float32], enlarged: int) -> NDArray[np.float32]:
    """A smooth picture (64, 64) enlarged smoothly."""
    return np.asarray(zoom(picture, enlarged, order=3, mode="nearest", grid_mode=True))
