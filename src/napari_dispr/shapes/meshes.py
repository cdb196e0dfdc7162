"""Closed surface meshes of shapes. Knows neither files nor models."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError

if TYPE_CHECKING:
    import trimesh

#: Smaller distances, in voxels, count as outside: a surface exactly on a voxel centre would give triangles
#: without area.
_NEAR_ZERO = 1e-3


def surface_mesh(signed_distance: ArrayLike, frame: ArrayLike = (1.0, 1.0, 1.0)) -> "trimesh.Trimesh":
    """Mesh of the surface on which the signed distance is 0.

    Parameters
    ----------
    signed_distance : (z, y, x) array
        Positive inside. Only its zero level matters; it is interpolated linearly.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or an affine from voxel-centre index to world.

    Returns
    -------
    trimesh.Trimesh
        Vertices (z, y, x) in the coordinates of the frame. Closed, with outward normals. A shape that
        touches the border of the array is cut flat at the outer side of its last voxels. An empty shape has
        an empty mesh.

    Notes
    -----
    Marching cubes by Lewiner, which gives closed manifolds [1]_.

    References
    ----------
    .. [1] Lewiner et al. (2003). Efficient implementation of marching cubes' cases with topological
       guarantees. Journal of Graphics Tools 8(2), 1-15.
    """
    import trimesh  # takes longer than a window may take to open
    from skimage.measure import marching_cubes

    distance = np.asarray(signed_distance, dtype=np.float32)
    inside = grid.box_of(distance >= _NEAR_ZERO)
    if inside is None:
        return trimesh.Trimesh()
    # Only the box of the shape and one voxel around it: most of the grid is outside.
    low, high = np.array([(side.start - 1, side.stop + 1) for side in inside]).T
    box = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, distance.shape, strict=True))
    beyond = [(int(a < 0), int(b > n)) for a, b, n in zip(low, high, distance.shape, strict=True)]
    level = _closed(distance[box], beyond)
    vertices, faces, _, _ = marching_cubes(level, 0.0, gradient_direction="ascent", method="lewiner")
    affine = affine_of(frame)
    vertices = (vertices + low).astype(np.float64) @ affine[:3, :3].T + affine[:3, 3]
    if np.linalg.det(affine[:3, :3]) < 0:  # a mirror reverses the faces
        faces = faces[:, ::-1]
    return trimesh.Trimesh(vertices, faces, process=False)


def without_creases(mesh: "trimesh.Trimesh") -> "trimesh.Trimesh":
    """A consensus to look at: where the members' surfaces cross, its mesh has ragged creases.

    The filter of Taubin (1995) does not shrink the mesh.
    """
    from trimesh.smoothing import filter_taubin

    return filter_taubin(mesh.copy(), iterations=20) if len(mesh.vertices) else mesh


def _closed(level: NDArray[np.float32], beyond: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Pad the level with outside where the shape extends ``beyond`` the array."""
    level = np.where(np.abs(level) < _NEAR_ZERO, np.float32(-_NEAR_ZERO), level)
    closed = np.pad(level, beyond, mode="edge")
    layer = np.pad(np.zeros(level.shape, dtype=bool), beyond, constant_values=True)
    closed[layer] = -np.abs(closed[layer])
    return closed


def affine_of(frame: ArrayLike) -> NDArray[np.float64]:
    """The affine (4, 4) from voxel-centre index to world, given itself or as a spacing (3,)."""
    frame = np.asarray(frame, dtype=np.float64)
    if frame.shape == (4, 4):
        return frame
    if frame.shape == (3,):
        return np.diag([*frame, 1.0])
    raise InputError(
        f"The frame has the shape {frame.shape}: give the spacing (z, y, x), or an affine of 4 x 4 numbers."
    )
