"""Descriptors of one shape: hull, axes, widths, thickness, spherical harmonics.

Knows a closed mesh and a signed distance, but neither tables nor cells.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.special import sph_harm_y

from napari_dispr.shapes.measures import DEGREES

_Floats = NDArray[np.float64]

#: Thickness is measured at up to so many points.
POINTS = 500
#: For thickness, larger meshes keep fewer vertices, at least every third one.
_VERTICES = 2000
#: A matrix product finds the nearest vertices of so many points or more, on meshes of so many vertices.
_LEAST_POINTS, _MOST_VERTICES = 200, 20_000
#: Number of shells and of polar angles for spherical harmonics.
_SHELLS, _POLAR = 20, 16


def hull_measures(vertices: _Floats, volume: float, area: float) -> dict[str, float]:
    """Convexity, solidity and widths of a closed mesh; NaN for a flat mesh.

    Widths are those of the hull along 400 even directions of the half sphere. The directions of the largest
    and the least are then refined to about 0.002 rad.
    """
    try:
        hull = ConvexHull(vertices)
    except QhullError:
        names = ("convexity", "solidity", "largest_diameter", "least_width", "mean_width")
        return dict.fromkeys(names, float("nan"))
    corners = vertices[hull.vertices]
    corners = corners - corners.mean(axis=0)
    directions = _half_sphere(400)
    widths = np.ptp(directions @ corners.T, axis=1)
    return {
        "convexity": float(hull.area / area),
        "solidity": float(volume / hull.volume),
        "largest_diameter": _extreme_width(corners, directions[np.argmax(widths)], 1),
        "least_width": _extreme_width(corners, directions[np.argmin(widths)], -1),
        "mean_width": float(widths.mean()),
    }


def _extreme_width(corners: _Floats, direction: _Floats, sign: int) -> float:
    """The largest (or least, with sign -1) width near a direction."""
    for reach in (0.12, 0.03, 0.008, 0.002):
        # Two vectors perpendicular to the direction span the cap.
        across = np.linalg.svd(direction[None])[2][1:]
        radius, angle = np.sqrt(np.arange(64) / 63) * reach, 2.399963 * np.arange(64)
        cap = direction + (radius * np.cos(angle))[:, None] * across[0]
        cap += (radius * np.sin(angle))[:, None] * across[1]
        cap /= np.linalg.norm(cap, axis=1, keepdims=True)
        widths = np.ptp(cap @ corners.T, axis=1)
        best = int(np.argmax(sign * widths))
        direction, width = cap[best], float(widths[best])
    return width


@cache
def _half_sphere(count: int) -> _Floats:
    """Even directions (count, 3), by a spiral of golden angles."""
    height = (np.arange(count) + 0.5) / count
    angle = 2.399963229728653 * np.arange(count)
    radius = np.sqrt(1 - height**2)
    return np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=1)


def axes(covariance: _Floats, frame: _Floats) -> dict[str, float]:
    """Principal axes of a solid with this covariance (3, 3) of the points inside.

    An axis is ``2 sqrt(5 lambda)``, where lambda is an eigenvalue of the covariance: the full axis of an
    ellipsoid. Elongation and flatness are defined as in ITK and MorphoLibJ. The first column of the frame,
    (3, 3) from voxels to world, is perpendicular to the imaged plane.
    """
    variances, vectors = np.linalg.eigh(covariance)
    minor, middle, major = 2 * np.sqrt(5 * np.maximum(variances, np.finfo(float).tiny))
    normal = frame[:, 0] / np.linalg.norm(frame[:, 0])
    tilts = np.degrees(np.arcsin(np.clip(np.abs(normal @ vectors), 0, 1)))
    return {
        "major_axis": float(major),
        "middle_axis": float(middle),
        "minor_axis": float(minor),
        "elongation": float(major / middle),
        "flatness": float(middle / minor),
        "major_axis_tilt": float(tilts[2]),
        "minor_axis_tilt": float(tilts[0]),
    }


def box(vertices: _Floats, frame: _Floats, volume: float) -> dict[str, float]:
    """Sides of the box along the axes of the image, ``box_z``, ``box_y``, ``box_x``, and ``box_fill``."""
    steps = np.linalg.norm(frame, axis=0)
    sides = np.ptp(vertices @ np.linalg.inv(frame).T, axis=0) * steps
    fill = volume / (sides.prod() * abs(np.linalg.det(frame)) / steps.prod())
    return {**dict(zip(("box_z", "box_y", "box_x"), map(float, sides), strict=True)), "box_fill": float(fill)}


def thickness(vertices: _Floats, normals: _Floats, inside: _Floats) -> dict[str, float]:
    """Local thickness: for each point inside, the diameter of the largest inscribed ball that contains it.

    Parameters
    ----------
    vertices, normals : (n, 3) arrays
        Of the closed mesh; outward normals.
    inside : (m, 3) array
        Even points inside, about `POINTS`.

    Returns
    -------
    dict
        ``thickness`` (mean over the points), ``thickness_sd``, ``thickness_max``.

    Notes
    -----
    The definition of Hildebrand and Rueegsegger [1]_. The balls touch the surface
    at the place nearest to one of the points and lie inside; they are found by shrinking [2]_. No distances
    between voxels are used, so that the error is well below a voxel.

    References
    ----------
    .. [1] Hildebrand and Rueegsegger (1997). A new method for the model-independent assessment of
       thickness in three-dimensional images. Journal of Microscopy 185(1), 67-75.
    .. [2] Ma, Bae and Choi (2012). 3D medial axis point approximation using nearest neighbors and the
       normal field. The Visual Computer 28, 7-19.
    """
    middle = vertices.mean(axis=0)
    # Vertices are about 0.6 voxel apart: on large meshes fewer of them bound the balls as well.
    step = min(1 + len(vertices) // _VERTICES, 3)
    vertices, normals, points = vertices[::step] - middle, normals[::step], inside - middle
    # A ball's centre is about as far from many vertices: large leaves take half of the time.
    tree = cKDTree(vertices, leafsize=64)
    if not len(points):
        points = vertices.mean(axis=0, keepdims=True)
    own, below = tree.query(points)
    chosen = np.unique(below)
    touched, inwards = vertices[chosen], -normals[chosen]
    radii = np.full(len(touched), np.ptp(vertices, axis=0).max() / 2 + 1e-12)
    active = np.arange(len(touched))
    for _ in range(12):
        centres = touched[active] + inwards[active] * radii[active, None]
        nearest, which = _nearest(vertices, tree, centres)
        too_large = nearest < radii[active] * (1 - 1e-6)
        offsets = vertices[which[too_large]] - touched[active[too_large]]
        active = active[too_large]
        if not len(active):
            break
        # The ball that is tangent at the touched point and goes through the vertex inside the current ball.
        depth = np.einsum("ij,ij->i", offsets, inwards[active])
        smaller = np.einsum("ij,ij->i", offsets, offsets) / np.maximum(2 * depth, 1e-300)
        # A vertex next to the touched point does not define a ball.
        moved = (depth > 1e-6 * np.sqrt(np.einsum("ij,ij->i", offsets, offsets))) & (smaller < radii[active])
        radii[active] = np.where(moved, smaller, nearest[too_large])
        active = active[moved]
    centres = touched + inwards * radii[:, None]
    radii[active] = np.minimum(radii[active], tree.query(centres[active])[0])
    # Sorted by size, so that the first ball that contains a point is the largest one.
    order = np.argsort(-radii)
    centres, radii = centres[order], radii[order]
    squared = (points**2).sum(axis=1)[:, None] + ((centres**2).sum(axis=1) - 2 * points @ centres.T)
    containing = squared <= radii**2 * (1 + 1e-6)
    first = containing.argmax(axis=1)
    largest = np.where(containing[np.arange(len(points)), first], radii[first], 0)
    diameters = 2 * np.maximum(largest, own)
    return {
        "thickness": float(diameters.mean()),
        "thickness_sd": float(diameters.std()),
        "thickness_max": float(2 * max(radii.max(), own.max())),
    }


def _nearest(vertices: _Floats, tree: cKDTree, points: _Floats) -> tuple[_Floats, NDArray[np.int64]]:
    """Distance and number of the vertex nearest to each point.

    Many vertices are about as far from the middle of a shape: for many points a matrix product is then
    faster than the tree.
    """
    if len(points) < _LEAST_POINTS or len(vertices) > _MOST_VERTICES:
        distances, which = tree.query(points)
        return distances, which
    # |v - p|^2 = |p|^2 - 2 (v p - |v|^2 / 2), in blocks that fit the cache.
    halves = np.einsum("ij,ij->i", vertices, vertices) / 2
    extended = np.column_stack([vertices, -halves]).astype(np.float32).T
    homogeneous = np.column_stack([points, np.ones(len(points))]).astype(np.float32)
    which = np.concatenate(
        [(homogeneous[i : i + 32] @ extended).argmax(axis=1) for i in range(0, len(points), 32)]
    )
    offsets = vertices[which] - points
    return np.sqrt(np.einsum("ij,ij->i", offsets, offsets)), which


def harmonics(
    level: NDArray[np.float32], centre: _Floats, reach: float, frame: _Floats, volume: float
) -> dict[str, float]:
    """Shares of a shape in the spherical harmonics of each degree about its centroid.

    Parameters
    ----------
    level : (z, y, x) array
        Signed distance in voxels, positive inside.
    centre : (3,) array
        In voxel-centre coordinates.
    reach : float
        Distance from the centre to the farthest point of the surface, in the unit of the frame.
    frame : (3, 3) array
        From voxels to world.
    volume : float
        Of the shape, in the unit of the frame.

    Returns
    -------
    dict
        ``harmonic_0`` to ``harmonic_8``: each at least 0, their sum at most 1.

    Notes
    -----
    With f = 1 inside and 0 outside, on spheres of radius r about the centroid,
    ``harmonic_l = 1/V * int_0^inf sum_m |<f(r, .), Y_lm>|^2 r^2 dr``. By Parseval's theorem the sum over all
    l is 1. A rotation mixes only harmonics of the same degree, so that the shares do not depend on it [1]_,
    nor on the size or on mirroring.

    References
    ----------
    .. [1] Kazhdan, Funkhouser and Rusinkiewicz (2003). Rotation invariant spherical harmonic
       representation of 3D shape descriptors. Symposium on Geometry Processing, 156-164.
    """
    directions, basis, degrees = _sphere()
    # From the centre to just beyond the farthest point; Gauss-Legendre along the radius.
    nodes, weights = np.polynomial.legendre.leggauss(_SHELLS)
    reach = reach + float(np.cbrt(abs(np.linalg.det(frame))))
    radii, steps = (nodes + 1) / 2 * reach, weights / 2 * reach
    in_voxels = directions @ np.linalg.inv(frame).T
    places = centre + radii[:, None, None] * in_voxels
    distance = ndimage.map_coordinates(
        level, places.reshape(-1, 3).T, order=1, mode="constant", cval=-1.0
    ).reshape(_SHELLS, -1)
    occupied = np.clip(distance + 0.5, 0, 1)
    coefficients = occupied @ basis
    energy = steps * radii**2 @ coefficients**2
    total = float(steps * radii**2 @ (occupied**2 @ _quadrature()))
    shares = np.bincount(degrees, energy) / max(total, 1e-12 * volume)
    return {f"harmonic_{degree}": float(share) for degree, share in enumerate(shares)}


@cache
def _quadrature() -> _Floats:
    """Weights of the directions of `_sphere`; their sum is 4 pi."""
    _, weights = np.polynomial.legendre.leggauss(_POLAR)
    return np.repeat(weights, 2 * _POLAR) * np.pi / _POLAR


@cache
def _sphere() -> tuple[_Floats, _Floats, NDArray[np.int64]]:
    """Directions (n, 3), their real spherical harmonics times quadrature weights (n, k), degrees (k,).

    Gauss-Legendre in the polar angle and even steps around; exact for degrees below 2 `_POLAR`.
    """
    heights, _ = np.polynomial.legendre.leggauss(_POLAR)
    around = (np.arange(2 * _POLAR) + 0.5) * np.pi / _POLAR
    height, angle = (a.ravel() for a in np.meshgrid(heights, around, indexing="ij"))
    radius = np.sqrt(1 - height**2)
    directions = np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    basis = np.concatenate([real_harmonics(degree, np.arccos(height), angle) for degree in range(DEGREES)])
    degrees = np.repeat(np.arange(DEGREES), 2 * np.arange(DEGREES) + 1)
    return directions, basis.T * _quadrature()[:, None], degrees


def real_harmonics(degree: int, polar: _Floats, around: _Floats) -> _Floats:
    """The orthonormal real spherical harmonics of a degree, by order, (2 degree + 1, ...).

    ``polar`` and ``around`` are angles in radian.
    """

    def one(order: int) -> _Floats:
        wave = sph_harm_y(degree, abs(order), polar, around)
        return np.asarray(np.sqrt(2 - (order == 0)) * (wave.imag if order < 0 else wave.real))

    return np.stack([one(order) for order in range(-degree, degree + 1)])
