"""The measures and features of the SHAPR notebooks for binary volumes, in voxels.

Five measures compare a shape with the truth (`shapr_measures`); all features together (`shapr_features`) are
the input of a classifier.
"""

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats
from scipy.signal import fftconvolve
from scipy.spatial import ConvexHull, QhullError
from skimage.feature import graycomatrix, graycoprops
from skimage.filters import gabor_kernel, threshold_otsu
from skimage.measure import marching_cubes, perimeter
from skimage.morphology import convex_hull_image

from napari_dispr import grid
from napari_dispr.shapes.measures import Measure

#: Grey levels of the co-occurrence matrix of the projection, and directions of neighbours.
_LEVELS, _ANGLES = 16, (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
#: Cycles per voxel of the Gabor filter.
_FREQUENCY = 0.1

#: Smaller curvatures are rounding errors.
_NO_CURVATURE = 1e-9

_Object = NDArray[np.bool_]


def binarise(volume: ArrayLike) -> _Object:
    """Object voxels as in SHAPR: above Otsu's threshold of the volume divided by its maximum.

    A bool volume is not changed. A volume without values above 0 has no object voxels.
    """
    volume = np.asarray(volume)
    if volume.dtype == bool:
        return volume
    if not volume.max() > 0:
        return np.zeros(volume.shape, dtype=bool)
    level = volume / volume.max()
    if level.min() == 1:  # all object: Otsu has no threshold
        return np.ones(volume.shape, dtype=bool)
    return np.asarray(level > threshold_otsu(level.ravel()))


def _binary_mesh(obj: _Object) -> trimesh.Trimesh:
    # As in SHAPR, an object that touches the border is not closed.
    if obj.all() or not obj.any():
        return trimesh.Trimesh()
    vertices, faces, _, _ = marching_cubes(obj.astype(np.float32), 0.5, gradient_direction="ascent")
    return trimesh.Trimesh(vertices, faces, process=False)


def shapr_measures(obj: _Object) -> dict[str, float]:
    """The measures with which SHAPR and DISPR compare a binary volume (see `binarise`) with the truth.

    Returns
    -------
    dict
        In voxels:

        - ``volume``: object voxels;
        - ``surface_mesh``: area of the unsmoothed marching-cubes mesh;
        - ``surface_voxel``: object voxels with background among their 26 neighbours (there is none beyond the
          border);
        - ``roughness_mesh``: root of the sum of squared moves of the mesh's vertices under trimesh's
          `filter_humphrey` with its defaults (after Vollmer et al. 1999);
        - ``roughness_voxel``: voxels that change under a Gaussian of sigma 2 and a threshold of 0.5.
    """
    mesh, moved = _binary_mesh(obj), 0.0
    if len(mesh.faces):
        smooth = trimesh.smoothing.filter_humphrey(mesh.copy())
        moved = float(np.linalg.norm(mesh.vertices - smooth.vertices))
    inner = ndimage.binary_erosion(obj, np.ones((3, 3, 3)), border_value=1)
    changed = (ndimage.gaussian_filter(obj.astype(np.float32), 2) > 0.5) != obj
    return {
        "volume": float(np.count_nonzero(obj)),
        "surface_mesh": float(mesh.area),
        "surface_voxel": float(np.count_nonzero(obj & ~inner)),
        "roughness_mesh": moved,
        "roughness_voxel": float(np.count_nonzero(changed)),
    }


def gaussian_curvature_within(obj: _Object) -> float:
    """Mean over the vertices of the mesh of the discrete Gaussian curvature measure within a radius.

    Returns
    -------
    float
        No unit. About 0.6 for a ball of voxels, pi / 4 for a smooth ball, 0 for an empty shape. For many
        shapes it is near 0 or negative, so that its relative error has no bound.

    Notes
    -----
    The measure is the sum of the angle defects of the vertices within the radius [1]_. The radius is that of
    the largest sphere that goes through the centre of mass, lies on the side away from the nearest face, and
    has no vertex inside (the limit of trimesh's `max_tangent_sphere` [2]_ with the start of the notebooks).

    References
    ----------
    .. [1] Cohen-Steiner and Morvan (2003). Restricted Delaunay triangulations and normal cycle. Symposium on
       Computational Geometry.
    .. [2] Inui, Umezu and Shimane (2016). Shrinking sphere. Computer-Aided Design and Applications 13(2).
    """
    mesh = _binary_mesh(np.pad(obj, 1))  # its vertices lie half way between voxels
    if not len(mesh.faces):
        return 0.0
    start = np.asarray(mesh.center_mass)
    nearest = np.linalg.norm(mesh.triangles_center - start, axis=1).argmin()
    offsets = mesh.vertices - start
    along = offsets @ -mesh.face_normals[nearest]
    # A sphere of radius r through the start contains a vertex if |offset|^2 < 2 r along.
    ahead = along > 1e-9
    if not ahead.any():
        return 0.0
    radius = float((np.einsum("ij,ij->i", offsets, offsets)[ahead] / (2 * along[ahead])).min())
    # The defect of a vertex counts once for every vertex within the radius, itself included.
    counts = _neighbours(np.rint(2 * mesh.vertices).astype(np.int64), 2 * radius)
    mean = float(np.asarray(mesh.vertex_defects) @ counts / len(counts))
    return 0.0 if abs(mean) < _NO_CURVATURE else mean


def _neighbours(places: NDArray[np.int64], radius: float) -> NDArray[np.float32]:
    """For each point of a lattice, the number of points within a radius; the time does not depend on it."""
    places = places - places.min(axis=0)
    there = np.zeros(places.max(axis=0) + 1, np.float32)
    there[tuple(places.T)] = 1
    reach = int(radius)
    z, y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1]
    within = (z**2 + y**2 + x**2 <= radius**2).astype(np.float32)
    near: NDArray[np.float32] = fftconvolve(there, within, mode="same")
    return np.rint(near[tuple(places.T)])


# --- the features of the notebooks ------------------------------------------------------------------


def _features() -> dict[str, Measure]:
    found = {
        "volume": (3, "object voxels"),
        "surface_mesh": (2, "area of the binary volume's mesh"),
        "surface_voxel": (0, "object voxels with background among their 26 neighbours"),
        "roughness_mesh": (1, "root of the sum of squared moves of vertices under Humphrey's filter"),
        "roughness_voxel": (3, "voxels that change under a Gaussian of 2 voxels and a threshold of one half"),
        "mesh_volume": (3, "space inside the mesh"),
        "hull_volume": (3, "space inside the mesh's convex hull"),
        "hull_area": (2, "area of the mesh's convex hull"),
        "mesh_convexity": (0, "volume of the mesh divided by that of its hull"),
    }
    for axis in "zyx":
        found |= {
            f"projection_{axis}_area": (2, f"area of the silhouette along {axis}"),
            f"projection_{axis}_perimeter": (1, f"perimeter of the silhouette along {axis}"),
            f"projection_{axis}_convexity": (
                0,
                f"area of the silhouette along {axis} divided by that of its hull",
            ),
        }
    for i in range(3):
        found[f"inertia_{i}"] = (5, f"eigenvalue {i} of the mesh's inertia tensor, in ascending order")
        for axis in "zyx":
            found[f"principal_axis_{i}_{axis}"] = (0, f"component {axis} of the unit vector of inertia_{i}")
    for powers in _MOMENTS:
        name = "".join(map(str, powers))
        found[f"moment_{name}"] = (0, f"central moment of powers {powers} of (z, y, x), normalised for size")
    for name, text in _SUM_STATISTICS.items():
        found[f"z_sum_{name}"] = (0, f"{text} of the numbers of object voxels along z that are not 0")
    for degrees in (0, 45, 90, 135):
        for name in ("dissimilarity", "correlation"):
            found[f"glcm_{name}_{degrees}"] = (0, f"GLCM {name} of the sum along z, neighbours at {degrees}°")
    for z in range(grid.SIZE):
        found[f"gabor_{z:02d}"] = (0, f"energy of slice {z} under a Gabor filter, mean over 4 directions")
    return {f"shapr_{name}": Measure(f"shapr_{name}", p, text, "shapr") for name, (p, text) in found.items()}


#: Powers of (z, y, x) of the second and third central moments.
_MOMENTS = [
    (i, j, total - i - j) for total in (2, 3) for i in range(total, -1, -1) for j in range(total - i, -1, -1)
]
_SUM_STATISTICS = {
    "mean": "mean",
    "sd": "standard deviation",
    "max": "largest",
    "median": "median",
    "skewness": "skewness",
    "kurtosis": "excess kurtosis",
}
#: The features by column name, with the prefix ``shapr_``; lengths are in voxels of the model grid.
SHAPR_FEATURES: dict[str, Measure] = _features()


def shapr_features(obj: _Object) -> dict[str, float]:
    """The features with which the SHAPR notebooks classify cells, as far as they are documented.

    Raises a ValueError if the volume has another shape.

    Parameters
    ----------
    obj : (64, 64, 64) bool array
        On the model grid.

    Returns
    -------
    dict
        A value for each of `SHAPR_FEATURES`, in voxels; NaN where an empty shape has none.

    Notes
    -----
    docs/measures.md lists which parameters are those of the notebooks and which were chosen here. Slices,
    axes and projections are those of the grid, so that most features change if a shape is rotated.
    """
    if obj.shape != grid.SHAPE:
        raise ValueError(f"the features are of the model grid of (64, 64, 64) voxels, not of {obj.shape}")
    values = dict.fromkeys((name.removeprefix("shapr_") for name in SHAPR_FEATURES), float("nan"))
    values |= shapr_measures(obj)
    values |= dict(zip((f"gabor_{z:02d}" for z in range(grid.SIZE)), _gabor_energies(obj), strict=True))
    if obj.any():
        values |= _of_mesh(obj) | _of_projections(obj) | _of_moments(obj) | _of_sum(obj)
    return {f"shapr_{name}": float(value) for name, value in values.items()}


def _of_mesh(obj: _Object) -> dict[str, float]:
    mesh = _binary_mesh(np.pad(obj, 1))
    variances, vectors = np.linalg.eigh(np.asarray(mesh.moment_inertia))
    # The sign of eigenvectors is arbitrary: the largest component is made positive.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])
    try:
        hull = ConvexHull(mesh.vertices)
        hull_volume, hull_area = hull.volume, hull.area
    except QhullError:
        hull_volume = hull_area = float("nan")
    volume = float(mesh.volume)
    found = {
        "mesh_volume": volume,
        "hull_volume": hull_volume,
        "hull_area": hull_area,
        "mesh_convexity": volume / hull_volume,
    }
    for i in range(3):
        found[f"inertia_{i}"] = variances[i]
        found |= {f"principal_axis_{i}_{axis}": vectors[j, i] for j, axis in enumerate("zyx")}
    return found


def _of_projections(obj: _Object) -> dict[str, float]:
    found = {}
    for axis, name in enumerate("zyx"):
        silhouette = np.pad(obj.any(axis=axis), 1)
        area = float(np.count_nonzero(silhouette))
        found[f"projection_{name}_area"] = area
        found[f"projection_{name}_perimeter"] = float(perimeter(silhouette, 8))
        # Pixels on a line are their own hull.
        rows, columns = np.nonzero(silhouette)
        flat = np.linalg.matrix_rank(np.stack([rows - rows[0], columns - columns[0]])) < 2
        hull = area if flat else float(np.count_nonzero(convex_hull_image(silhouette)))
        found[f"projection_{name}_convexity"] = area / hull
    return found


def _of_moments(obj: _Object) -> dict[str, float]:
    points = np.argwhere(obj).astype(np.float64)
    points -= points.mean(axis=0)
    found = {}
    for powers in _MOMENTS:
        moment = np.prod(points ** np.array(powers), axis=1).sum()
        found["moment_" + "".join(map(str, powers))] = moment / len(points) ** (1 + sum(powers) / 3)
    return found


def _of_sum(obj: _Object) -> dict[str, float]:
    total = obj.sum(axis=0)
    values = total[total > 0].astype(np.float64)
    level = total.astype(np.float64) / total.max() * (_LEVELS - 1)
    matrix = graycomatrix(
        np.rint(level).astype(np.uint8), [1], _ANGLES, levels=_LEVELS, symmetric=True, normed=True
    )
    varied = float(np.ptp(values)) > 0
    found = {
        "z_sum_mean": values.mean(),
        "z_sum_sd": values.std(),
        "z_sum_max": values.max(),
        "z_sum_median": np.median(values),
        "z_sum_skewness": stats.skew(values) if varied else 0.0,
        "z_sum_kurtosis": stats.kurtosis(values) if varied else 0.0,
    }
    for name in ("dissimilarity", "correlation"):
        for degrees, value in zip((0, 45, 90, 135), graycoprops(matrix, name)[0], strict=True):
            found[f"glcm_{name}_{degrees}"] = value
    return {name: float(value) for name, value in found.items()}


def _gabor_energies(obj: _Object) -> NDArray[np.float64]:
    """Mean squared magnitude of the filter response of each slice."""
    slices = np.flatnonzero(obj.any(axis=(1, 2)))
    energies = np.zeros(len(obj))
    if len(slices):
        kernels = [gabor_kernel(_FREQUENCY, theta=angle) for angle in _ANGLES]
        pad = max(max(kernel.shape) for kernel in kernels) // 2
        padded = np.pad(obj[slices].astype(np.float64), ((0, 0), (pad, pad), (pad, pad)))
        seen = np.fft.fft2(padded)
        for kernel in kernels:
            response = np.fft.ifft2(seen * np.fft.fft2(kernel, s=padded.shape[1:]))
            energies[slices] += (np.abs(response) ** 2).mean(axis=(1, 2)) / len(kernels)
    return energies
