"""Measures of one shape, by the surface of its signed distance. `measures` has their names and units.

Knows neither cells nor tables.
"""

from collections.abc import Callable, Collection
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import csr_array, eye_array

from napari_dispr import grid
from napari_dispr.shapes import curvature, descriptors
from napari_dispr.shapes.measures import HEADLINE, MEASURES
from napari_dispr.shapes.meshes import affine_of, surface_mesh

#: Laplacian steps of `roughness`. On a marching-cubes mesh, whose edges are about 0.7 voxel long, they have
#: the effect of a Gaussian of 2 voxels on a volume.
_SMOOTHING_STEPS = 20
#: Voxels around a shape that the smoothing of `curvature.curvatures` needs.
_MARGIN = 9


def measure_shape(
    signed_distance: ArrayLike, frame: ArrayLike = (1.0, 1.0, 1.0), only: Collection[str] | None = None
) -> dict[str, float]:
    """Measure one shape by its surface mesh, with sub-voxel precision.

    Parameters
    ----------
    signed_distance : (z, y, x) array
        In voxels, positive inside.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or the affine from voxel-centre index to world; its translation
        has no effect.
    only : collection of str, optional
        Names of `MEASURES`. A few take less time than all.

    Returns
    -------
    dict
        A value for each name, in the unit of the frame to the power of the measure. An empty shape has 0
        for volume and parts, and NaN for the others.

    Notes
    -----
    docs/measures.md has all formulas and the errors on known shapes. With V the volume and A the area of
    the closed mesh (`surface_mesh`):

    - sphericity ``pi^(1/3) (6 V)^(2/3) / A`` [1]_;
    - curvature ``M / A``, where M, the integral of the mean curvature, is the sum over the edges of the mesh
      of half the length times the signed angle between the two faces [2]_. In this sum the angles between
      voxels cancel. It is negative for a mostly concave shape; for a convex shape M is 2 pi times the mean
      width;
    - roughness: 20 Laplacian steps, each half of the way to the mean of the neighbours [3]_, move each
      vertex by a distance along its normal. Roughness is the area-weighted standard deviation of that
      distance. It is 0 for spheres of all sizes, unlike SHAPR's voxel roughness (Gaussian of sigma 2), which
      it resembles. Details finer than 2 voxels count fully, much coarser ones hardly.

    References
    ----------
    .. [1] Wadell (1935). Volume, shape, and roundness of quartz particles. Journal of Geology 43(3).
    .. [2] Cohen-Steiner and Morvan (2003). Restricted Delaunay triangulations and normal cycle.
       Symposium on Computational Geometry.
    .. [3] Vollmer et al. (1999). Improved Laplacian smoothing of noisy surface meshes. Computer Graphics
       Forum 18(3).

    Examples
    --------
    >>> z, y, x = np.indices((64, 64, 64)) - 31.5
    >>> ball = measure_shape(20 - np.sqrt(z**2 + y**2 + x**2), (0.1, 0.1, 0.1))
    >>> round(ball["equivalent_diameter"], 2), round(ball["curvature"], 2)
    (4.0, 0.5)
    """
    wanted = [name for name in MEASURES if only is None or name in only]
    distance, linear = np.asarray(signed_distance, dtype=np.float32), affine_of(frame)[:3, :3]
    within = grid.box_of(distance > 0, _MARGIN)
    shape = None if within is None else _Shape(distance[within], linear)
    if shape is None or not len(shape.faces):
        return {name: 0.0 if name in ("volume", "parts") else float("nan") for name in wanted}
    found: dict[str, float] = {}
    for names, measures in _STEPS:
        if not names.isdisjoint(wanted):
            found |= measures(shape)
    return {name: float(found[name]) for name in wanted}


class _Shape:
    """A signed distance in voxels, and values that several measures use, computed at first use."""

    def __init__(self, level: NDArray[np.float32], linear: NDArray[np.float64]) -> None:
        self.level, self.linear = level, linear
        self.inside = level > 0
        frame = np.eye(4)
        frame[:3, :3] = linear
        mesh = surface_mesh(level, frame)
        # As plain arrays: trimesh hashes its own at each use.
        self.vertices, self.faces = (np.asarray(array) for array in (mesh.vertices, mesh.faces))

    @cached_property
    def corners(self) -> tuple[NDArray[np.float64], ...]:
        """The first, second and third vertex of each face, (face, 3) each."""
        return tuple(self.vertices.take(self.faces[:, k], axis=0) for k in range(3))

    @cached_property
    def crosses(self) -> NDArray[np.float64]:
        """Outward normals of the faces with twice their area as length."""
        a, b, c = self.corners
        return curvature.cross(b - a, c - a)

    @cached_property
    def face_areas(self) -> NDArray[np.float64]:
        return _lengths(self.crosses) / 2

    @cached_property
    def face_normals(self) -> NDArray[np.float64]:
        return self.crosses / np.maximum(2 * self.face_areas, np.finfo(float).tiny)[:, None]

    @cached_property
    def normals(self) -> NDArray[np.float64]:
        """Outward normals of the vertices: those of their faces, weighted by the angles at the vertex."""
        a, b, c = self.corners
        sides = b - a, c - b, a - c
        # The tangent of an angle is twice the area over the product of the two sides.
        products = [-np.einsum("ij,ij->i", sides[k], sides[k - 1]) for k in range(3)]
        weights = np.arctan2(2 * self.face_areas[:, None], np.stack(products, axis=1))
        sums = [self.summed(weights * self.face_normals[:, [axis]]) for axis in range(3)]
        normals = np.stack(sums, axis=1)
        return normals / np.maximum(_lengths(normals), np.finfo(float).tiny)[:, None]

    @cached_property
    def solid(self) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Volume, centroid (3,) and covariance (3, 3) of the points inside, in closed form.

        The sum over tetrahedra from a point to each face, negative where the face looks towards it.
        """
        middle = self.vertices.mean(axis=0)
        corners = [corner - middle for corner in self.corners]
        sixfold = np.einsum("ij,ij->i", corners[0], self.crosses)
        volume, sums = sixfold.sum() / 6, corners[0] + corners[1] + corners[2]
        centroid = sixfold @ sums / (24 * volume)
        moments = sum((one * sixfold[:, None]).T @ one for one in (*corners, sums))
        covariance = moments / (120 * volume) - np.outer(centroid, centroid)
        return float(volume), middle + centroid, covariance

    @cached_property
    def volume(self) -> float:
        return self.solid[0]

    @cached_property
    def area(self) -> float:
        return float(self.face_areas.sum())

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Area of each vertex: a third of its faces."""
        return self.summed(np.repeat(self.face_areas[:, None] / 3, 3, axis=1))

    def summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the corners of faces at each vertex of a value for each corner, (face, 3)."""
        sums = np.bincount(self.faces.ravel(), values.ravel(), len(self.vertices))
        return np.asarray(sums, dtype=np.float64)

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Vertices in voxel-centre coordinates of ``level``."""
        return np.asarray(self.vertices @ np.linalg.inv(self.linear).T)


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths of rows; `numpy.linalg.norm` takes longer."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def _size(shape: _Shape) -> dict[str, float]:
    volume, area = shape.volume, shape.area
    edges = curvature.edges_of(shape.faces)
    total = curvature.integral_mean_curvature(shape.vertices, shape.face_normals, edges)
    return {
        "volume": volume,
        "surface_area": area,
        "sphericity": np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area,
        "curvature": total / area,
        "equivalent_diameter": (6 * volume / np.pi) ** (1 / 3),
        # Half of the Euler characteristic of the surface, which is 2 for a ball.
        "euler_number": (len(shape.vertices) - len(edges.vertices) + len(shape.faces)) / 2,
    }


def _roughness(shape: _Shape) -> dict[str, float]:
    # Each edge of a closed mesh is once in each direction in the faces.
    one, other = shape.faces.ravel(), shape.faces[:, [1, 2, 0]].ravel()
    count = len(shape.vertices)
    share = 0.5 / np.maximum(np.bincount(one, minlength=count), 1)
    halfway = csr_array((share[one], (one, other)), shape=(count, count)) + eye_array(count) / 2
    smooth = shape.vertices
    for _ in range(_SMOOTHING_STEPS):
        smooth = halfway @ smooth
    moved = np.einsum("ij,ij->i", shape.vertices - smooth, shape.normals)
    average = np.average(moved, weights=shape.areas)
    return {"roughness": np.sqrt(np.average((moved - average) ** 2, weights=shape.areas))}


def _hull(shape: _Shape) -> dict[str, float]:
    return descriptors.hull_measures(shape.vertices, shape.volume, shape.area)


def _parts(shape: _Shape) -> dict[str, float]:
    return {"parts": ndimage.label(shape.inside[grid.box_of(shape.inside)])[1]}


def _axes(shape: _Shape) -> dict[str, float]:
    return descriptors.axes(shape.solid[2], shape.linear) | descriptors.box(
        shape.vertices, shape.linear, shape.volume
    )


def _thickness(shape: _Shape) -> dict[str, float]:
    inside = np.flatnonzero(shape.inside)
    some = np.unravel_index(inside[:: len(inside) // descriptors.POINTS + 1], shape.inside.shape)
    return descriptors.thickness(shape.vertices, shape.normals, np.stack(some, axis=1) @ shape.linear.T)


def _curvatures(shape: _Shape) -> dict[str, float]:
    return curvature.spread(*curvature.curvatures(shape.level, shape.places, shape.linear), shape.areas)


def _harmonics(shape: _Shape) -> dict[str, float]:
    centre = shape.solid[1]
    reach = float(np.linalg.norm(shape.vertices - centre, axis=1).max())
    return descriptors.harmonics(
        shape.level, np.linalg.inv(shape.linear) @ centre, reach, shape.linear, shape.volume
    )


def _named(*starts: str) -> frozenset[str]:
    return frozenset(name for name in MEASURES if name.startswith(starts))


#: Measures that are computed together, and their function.
_STEPS: tuple[tuple[frozenset[str], Callable[[_Shape], dict[str, float]]], ...] = (
    (frozenset(HEADLINE) - {"roughness"} | {"euler_number"}, _size),
    (frozenset({"roughness"}), _roughness),
    (frozenset({"convexity", "solidity", "largest_diameter", "least_width", "mean_width"}), _hull),
    (frozenset({"parts"}), _parts),
    (_named("major_", "middle_", "minor_", "elongation", "flatness", "box_"), _axes),
    (_named("thickness"), _thickness),
    (_named("curvature_", "gaussian_", "concave", "saddle", "bending"), _curvatures),
    (_named("harmonic_"), _harmonics),
)
