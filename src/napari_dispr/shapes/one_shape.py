"""Measures of one shape in the image's units, by the surface of its signed distance.

Knows neither cells nor tables; names and units of the measures stand in `measures`.
"""

from collections.abc import Callable, Collection
from functools import cached_property

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_dispr.shapes import curvature, descriptors
from napari_dispr.shapes.measures import HEADLINE, MEASURES
from napari_dispr.shapes.meshes import affine_of, surface_mesh
from napari_dispr.shapes.shapr_set import roughness_mesh, roughness_voxel

#: Laplacian steps of `roughness`; on a marching-cubes mesh, whose edges are about 0.7 voxel long, they
#: do what a Gaussian of 2 voxels does to a volume.
_SMOOTHING_STEPS = 20


def measure_shape(
    signed_distance: ArrayLike,
    frame: ArrayLike = (1.0, 1.0, 1.0),
    only: Collection[str] | None = None,
    binary: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Measure one shape by its surface mesh, so that measures vary smoothly below the size of a voxel.

    Parameters
    ----------
    signed_distance : (z, y, x) array
        In voxels, positive inside.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or the affine from voxel-centre index to world. Only lengths
        and angles matter, not where the shape lies.
    only : collection of str, optional
        The names of `MEASURES` that are wanted: a few take less time than all.
    binary : (z, y, x) bool array, optional
        Of the same shape: the voxels of which SHAPR's two roughnesses are, if not those that the signed
        distance has inside.

    Returns
    -------
    dict
        A value for every name in `MEASURES`, in the frame's unit to the measure's power. A shape
        without a voxel inside has 0 for volume and parts, and NaN for all else.

    Notes
    -----
    docs/measures.md has every formula and the errors on known shapes. With V the volume and A the area of
    the closed mesh (`surface_mesh`):

    - sphericity ``pi^(1/3) (6 V)^(2/3) / A`` [1]_;
    - curvature ``M / A``, where M, the integral of the mean curvature, is the sum over the mesh's edges
      of half the length times the signed angle between the faces that meet there [2]_. The angles that
      voxels put into a mesh cancel in this sum. It is bounded as M and A are, negative for a shape that
      is mostly hollowed out, and for a convex shape M is 2 pi times its mean width;
    - roughness: each vertex moves under 20 Laplacian steps (half of the way to the mean of its
      neighbours [3]_) by some distance along its normal; roughness is the area-weighted standard
      deviation of that distance. Smoothing moves a sphere everywhere alike, so that spheres of all sizes
      have 0. It is the sub-voxel relative of SHAPR's voxel roughness (Gaussian of sigma 2), which grows
      as a smooth object shrinks. What is finer than 2 voxels counts in full, what is much coarser hardly.

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
    within = _box(distance)
    if within is None:
        return {name: 0.0 if name in ("volume", "parts") else float("nan") for name in wanted}
    shape = _Shape(distance[within], linear, None if binary is None else binary[within])
    found: dict[str, float] = {}
    for names, measures in _STEPS:
        if not names.isdisjoint(wanted):
            found |= measures(shape)
    return {name: float(found[name]) for name in wanted}


def _box(distance: NDArray[np.float32]) -> tuple[slice, ...] | None:
    """Where the shape is, and as much around it as the Gaussian of 2 voxels looks at."""
    inside = distance > 0
    slices = []
    for axis, length in enumerate(distance.shape):
        held = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(held):
            return None
        slices.append(slice(max(int(held[0]) - 9, 0), min(int(held[-1]) + 10, length)))
    return tuple(slices)


class _Shape:
    """One shape and what several measures need of it, computed when first asked for.

    Parameters
    ----------
    level : (z, y, x) array
        Signed distance in voxels.
    linear : (3, 3) array
        From voxels to world.
    binary : (z, y, x) bool array, optional
        The voxels inside, where they are known otherwise.
    """

    def __init__(
        self,
        level: NDArray[np.float32],
        linear: NDArray[np.float64],
        binary: NDArray[np.bool_] | None = None,
    ) -> None:
        self.level, self.linear = level, linear
        self.inside = level > 0
        # Around voxels that are given there is nothing; of the grid that is not known.
        self.binary = self.inside if binary is None else np.pad(binary, 8)
        frame = np.eye(4)
        frame[:3, :3] = linear
        self.mesh = surface_mesh(level, frame)
        self.vertices = np.asarray(self.mesh.vertices)
        self.faces = np.asarray(self.mesh.faces)
        self.voxel = float(abs(np.linalg.det(linear)))

    @cached_property
    def volume(self) -> float:
        return float(self.mesh.volume)

    @cached_property
    def area(self) -> float:
        return float(self.mesh.area)

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Area around each vertex: a third of its faces."""
        areas = np.repeat(self.mesh.area_faces / 3, 3)
        return np.asarray(np.bincount(self.faces.ravel(), areas, len(self.vertices)), dtype=np.float64)

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Vertices in voxel-centre coordinates of ``level``."""
        return np.asarray(self.vertices @ np.linalg.inv(self.linear).T)


def _size(shape: _Shape) -> dict[str, float]:
    volume, area = shape.volume, shape.area
    edges = curvature.edges_of(shape.faces)
    total = curvature.integral_mean_curvature(shape.vertices, shape.mesh.face_normals, edges)
    return {
        "volume": volume,
        "surface_area": area,
        "sphericity": np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area,
        "curvature": total / area,
        "equivalent_diameter": (6 * volume / np.pi) ** (1 / 3),
        # The surface of a ball has 2, the ball itself 1; so for parts, tunnels and hollows.
        "euler_number": (len(shape.vertices) - len(edges.vertices) + len(shape.faces)) / 2,
    }


def _roughness(shape: _Shape) -> dict[str, float]:
    smooth = trimesh.smoothing.filter_laplacian(
        shape.mesh.copy(),
        lamb=0.5,
        iterations=_SMOOTHING_STEPS,
        volume_constraint=False,
    )
    moved = np.einsum("ij,ij->i", shape.vertices - smooth.vertices, shape.mesh.vertex_normals)
    average = np.average(moved, weights=shape.areas)
    return {"roughness": np.sqrt(np.average((moved - average) ** 2, weights=shape.areas))}


def _shapr_roughness(shape: _Shape) -> dict[str, float]:
    # Nothing that a Gaussian leaves of a shape above one half lies outside its box: without the border of the
    # grid nearby the box is enough.
    binary, mode = shape.binary, "reflect"
    sides = [np.moveaxis(binary, axis, 0) for axis in range(3)]
    if not any(side[:8].any() or side[-8:].any() for side in sides):
        box = ndimage.find_objects(binary.astype(np.uint8))[0]
        binary, mode = np.pad(binary[box], 1), "constant"
    return {
        "roughness_voxel": roughness_voxel(binary, mode) * shape.voxel,
        "roughness_mesh": roughness_mesh(binary) * np.cbrt(shape.voxel),
    }


def _hull(shape: _Shape) -> dict[str, float]:
    return descriptors.hull_measures(shape.vertices, shape.volume, shape.area)


def _parts(shape: _Shape) -> dict[str, float]:
    return {"parts": ndimage.label(shape.inside)[1]}


def _axes(shape: _Shape) -> dict[str, float]:
    return descriptors.axes(shape.mesh, shape.linear) | descriptors.box(
        shape.vertices, shape.linear, shape.volume
    )


def _thickness(shape: _Shape) -> dict[str, float]:
    inside = np.argwhere(shape.inside) @ shape.linear.T
    return descriptors.thickness(shape.vertices, np.asarray(shape.mesh.vertex_normals), inside)


def _curvatures(shape: _Shape) -> dict[str, float]:
    return curvature.spread(*curvature.curvatures(shape.level, shape.places, shape.linear), shape.areas)


def _harmonics(shape: _Shape) -> dict[str, float]:
    centre = np.asarray(shape.mesh.center_mass)
    reach = float(np.linalg.norm(shape.vertices - centre, axis=1).max())
    return descriptors.harmonics(
        shape.level, np.linalg.inv(shape.linear) @ centre, reach, shape.linear, shape.volume
    )


def _named(*starts: str) -> frozenset[str]:
    return frozenset(name for name in MEASURES if name.startswith(starts))


#: What is computed together: the names, and how.
_STEPS: tuple[tuple[frozenset[str], Callable[[_Shape], dict[str, float]]], ...] = (
    (frozenset(HEADLINE) - {"roughness"} | {"euler_number"}, _size),
    (frozenset({"roughness"}), _roughness),
    (frozenset({"roughness_voxel", "roughness_mesh"}), _shapr_roughness),
    (frozenset({"convexity", "solidity", "largest_diameter", "least_width", "mean_width"}), _hull),
    (frozenset({"parts"}), _parts),
    (_named("major_", "middle_", "minor_", "elongation", "flatness", "box_"), _axes),
    (_named("thickness"), _thickness),
    (_named("curvature_", "gaussian_", "concave", "saddle", "bending"), _curvatures),
    (_named("harmonic_"), _harmonics),
)
