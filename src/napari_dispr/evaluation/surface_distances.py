"""How far apart the surfaces of two binary volumes lie."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_dispr.signed_distance import crossings


class SurfaceDistances(NamedTuple):
    """Distances between two surfaces, in voxels; both NaN where one of the two has no surface.

    Attributes
    ----------
    mean : float
        Over the points of both surfaces (average symmetric surface distance).
    hausdorff_95 : float
        The 95th percentile of each surface's distances from the other, and of these two the larger.
    """

    mean: float
    hausdorff_95: float


def surface_points(shape: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Where the surface of a binary volume is: half-way between voxels inside and outside, (n, 3).

    These are the vertices of its marching-cubes mesh. Beyond the array is outside.
    """
    # The points of the array's border are where they are without the border, too.
    return crossings(np.pad(shape, 1).astype(np.float32), 0.5) - 1


def surface_distances(
    first: NDArray[np.float32], second: NDArray[np.float32], tree: KDTree | None = None
) -> SurfaceDistances:
    """Distances between two surfaces that are given by their points.

    Parameters
    ----------
    first, second : (n, 3) arrays
        Of `surface_points`.
    tree : KDTree, optional
        Of ``second``, where it is there already.

    Notes
    -----
    From each point to the nearest of the other surface's, by KD trees; all points count alike. A shape
    against itself has 0, and flat faces that are whole voxels apart have exactly that. Of balls, whose voxels
    stand out a little, means come out smaller by up to 0.2 voxel (see the tests).
    """
    if not len(first) or not len(second):
        return SurfaceDistances(np.nan, np.nan)
    there, _ = (KDTree(second) if tree is None else tree).query(first)
    back, _ = KDTree(first).query(second)
    return SurfaceDistances(
        float(np.concatenate([there, back]).mean()),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
    )
