"""From occupancy to signed distance and back; distances in voxels, positive inside (NumPy, SciPy)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree


def crossings(level: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Points of the surface ``level == threshold``, shape (n, ndim), in voxel-centre coordinates.

    One point for each pair of face neighbours on either side of the threshold, placed by linear
    interpolation, so that an antialiased edge keeps its place between the voxels.
    """
    inside = level > threshold
    points = []
    for axis in range(level.ndim):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in range(level.ndim))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in range(level.ndim))
        index = np.argwhere(inside[here] != inside[there])
        near, far = level[here][tuple(index.T)], level[there][tuple(index.T)]
        crossing = index.astype(np.float32)
        crossing[:, axis] += (threshold - near) / (far - near)
        points.append(crossing)
    return np.concatenate(points)


def from_level(level: ArrayLike, threshold: float = 0.5, truncation: float = np.inf) -> NDArray[np.float32]:
    """Signed distance to the surface ``level == threshold``.

    Parameters
    ----------
    level : array, 2D or 3D
        Occupancy, binary or antialiased; inside where it is above ``threshold``.
    threshold : float
        Level of the surface (127.5 for uint8 objects).
    truncation : float
        Distances are cut off at this many voxels on both sides.

    Returns
    -------
    float32 array of the same shape
        In voxels, positive inside. Where nothing crosses the threshold all is ``+-truncation``
        (or plus or minus the size of the array where there is no truncation).

    Notes
    -----
    On an antialiased ball of radius 12 the mean error is below 0.1 voxel and no error exceeds 0.5
    (see the tests); a distance transform of the binary volume is off by half a voxel throughout.
    """
    level = np.asarray(level, dtype=np.float32)
    sign = np.where(level > threshold, 1, -1).astype(np.float32)
    limit = truncation if np.isfinite(truncation) else float(np.linalg.norm(level.shape))
    points = crossings(level, threshold)
    if not len(points):
        return sign * np.float32(limit)
    voxels = np.indices(level.shape, dtype=np.float32).reshape(level.ndim, -1).T
    distance, _ = cKDTree(points).query(voxels, distance_upper_bound=limit)
    return sign * np.minimum(distance, limit).reshape(level.shape).astype(np.float32)
