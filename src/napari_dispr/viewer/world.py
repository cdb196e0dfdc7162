"""Where layers lie, in one unit: two layers, and the viewer itself, may have different units. No Qt."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pint
from napari.components import Dims
from numpy.typing import NDArray

Floats = Sequence[float] | NDArray[np.float64]


def unit_ratio(unit: pint.Unit | str, other: pint.Unit | str) -> float | None:
    """How long a unit is in another: 1000 for micrometer and nanometer; None for micrometer and pixel."""
    one = pint.Unit(unit)
    return float((1 * one).to(other).magnitude) if one.is_compatible_with(other) else None


def in_one_unit(
    affine: NDArray[np.float64], units: Sequence[pint.Unit | str], unit: pint.Unit | str | None = None
) -> NDArray[np.float64]:
    """An affine (n + 1, n + 1) to axes with ``units``, as one to axes in ``unit``.

    If that is None or of another kind, ``unit`` is that of the last axis. Axes that cannot be converted, such
    as time, keep their own unit.
    """
    last = units[-1]
    unit = last if unit is None or unit_ratio(last, unit) is None else unit
    return np.array([*(unit_ratio(own, unit) or 1.0 for own in units), 1.0])[:, None] * affine


def layer_to_world(layer: Any, unit: pint.Unit | str | None = None) -> NDArray[np.float64]:
    """All of a layer's transforms as one affine from data to world, (ndim + 1, ndim + 1).

    ``unit`` is that of the world; see `in_one_unit`.
    """
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=np.float64)
    affine = np.eye(layer.ndim + 1)
    affine[:-1, -1] = origin
    for axis, unit_vector in enumerate(np.eye(layer.ndim)):
        affine[:-1, axis] = np.asarray(layer.data_to_world(unit_vector)) - origin
    return in_one_unit(affine, layer.units, unit)


def in_viewer(unit: pint.Unit | str, dims: Dims) -> float:
    """How long a unit is on the viewer's last axis, by which its camera and its sliders count.

    napari takes the smallest unit of all layers; if some are in pixels, it counts all units as equal.
    """
    units = getattr(dims, "units", None)  # None also before napari 0.8
    return 1.0 if not units else unit_ratio(unit, units[-1]) or 1.0


def in_units_of(layer: Any, vector: Floats, dims: Dims) -> NDArray[np.float64]:
    """A position or a direction in the viewer's world, on the axes of a layer and in its units.

    napari's own ``layer.get_value(..., world=True)`` and ``layer.world_to_data`` take such positions.
    """
    world = np.zeros(max(len(vector), layer.ndim))
    world[len(world) - len(vector) :] = vector
    units = getattr(dims, "units", None)
    if not units:
        return world[-layer.ndim :]
    pairs = zip(units[-layer.ndim :], layer.units, strict=True)
    return np.array([unit_ratio(theirs, own) or 1.0 for theirs, own in pairs]) * world[-layer.ndim :]


def position_in_layer(layer: Any, position: Floats, dims: Dims) -> NDArray[np.float64]:
    """A position in the viewer's world as data coordinates of ``layer``."""
    return np.asarray(layer.world_to_data(in_units_of(layer, position, dims)))
