"""The plane of a layer that the viewer shows, or its stack, and their place in the world. No Qt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError

if TYPE_CHECKING:
    import pint
    from napari.components import Dims
    from napari.layers import Image, Labels


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedPlane:
    """The plane of an image or label layer that the viewer shows.

    Attributes
    ----------
    name : str
        The layer's name, for messages.
    array : (y, x) array-like
        Not read yet: may be lazy. The finest level of a multiscale layer.
    to_world : (3, 3) float64
        Affine on (y, x, 1) from pixel centre to world.
    depth : float
        World coordinate of the plane on the axis before y: 0 for a 2D layer.
    unit : pint.Unit
        Unit of the world's y and x axes.
    index : tuple of int
        Position of the plane on the layer's leading axes (time, channel, z).
    """

    name: str
    array: Any
    to_world: NDArray[np.float64]
    depth: float
    unit: "pint.Unit"
    index: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and x."""
        return (int(self.array.shape[0]), int(self.array.shape[1]))

    def pixel_size(self, unit: str) -> float | None:
        """Side of a pixel in ``unit``; None if the layer's unit cannot be converted ("pixel")."""
        if not self.unit.is_compatible_with(unit):
            return None
        return float((grid.in_plane_scale(self.to_world) * self.unit).to(unit).magnitude)


def displayed_plane(layer: "Image | Labels", dims: "Dims") -> DisplayedPlane:
    """The plane of ``layer`` at the viewer's current position, without reading it.

    The last two axes of a layer are y and x; the viewer's sliders give the position on the other axes,
    in the 3D view too.

    Raises
    ------
    InputError
        If the layer is RGB, has fewer than two axes, is turned out of its own plane, has different
        units along y and x, or the viewer shows other axes or a position outside the layer.
    """
    if getattr(layer, "rgb", False):
        raise InputError(
            f'"{layer.name}" is an RGB picture: convert it to one channel (right-click the layer, Split RGB).'
        )
    if layer.ndim < 2:
        raise InputError(f'"{layer.name}" has one axis only: choose a 2D picture.')
    if dims.ndisplay == 2 and tuple(dims.order[-2:]) != (dims.ndim - 2, dims.ndim - 1):
        raise InputError(
            "The viewer shows other axes than y and x: restore them with the buttons below the layer list."
        )
    affine = layer_to_world(layer)
    if layer.ndim > 2 and not _turned_in_plane_only(affine):
        raise InputError(f'"{layer.name}" is turned out of its plane: remove the rotation about y or x.')
    units = layer.units[-2:]
    if units[0] != units[1]:
        raise InputError(
            f'"{layer.name}" has y in {units[0]} and x in {units[1]}: give both axes the same unit.'
        )
    array = layer.data[0] if layer.multiscale else layer.data
    index = _leading_index(layer, dims, array.shape)
    plane_start = affine @ [*index, 0, 0, 1]
    in_plane = np.eye(3)
    in_plane[:2, :2] = affine[-3:-1, -3:-1]
    in_plane[:2, 2] = plane_start[-3:-1]
    return DisplayedPlane(
        name=layer.name,
        array=array[index] if index else array,
        to_world=in_plane,
        depth=float(plane_start[-4]) if layer.ndim > 2 else 0.0,
        unit=units[0],
        index=index,
    )


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedStack:
    """All planes along z of an image or label layer, where the viewer is on the other axes.

    Attributes
    ----------
    name : str
        The layer's name, for messages.
    array : (plane, y, x) array-like
        Not read yet: may be lazy. The finest level of a multiscale layer.
    depths : (plane,) float64
        World z of each plane, in the unit of y and x.
    spaced : bool
        Whether the layer says how far its planes are apart. Planes that are as far apart as pixels, without
        a unit, are napari's default and say nothing.
    """

    name: str
    array: Any
    depths: NDArray[np.float64]
    spaced: bool


def displayed_stack(layer: "Image | Labels", dims: "Dims") -> DisplayedStack:
    """The planes of ``layer`` along the axis before y and x, without reading them.

    Raises
    ------
    InputError
        If the layer has no such axis, or `displayed_plane` finds no plane.
    """
    plane = displayed_plane(layer, dims)
    if not plane.index:
        raise InputError(f'"{layer.name}" has one plane only: choose a stack (z, y, x).')
    affine, across = layer_to_world(layer), layer.units[-3]
    known = across.is_compatible_with(plane.unit)
    ratio = float((1 * across).to(plane.unit).magnitude) if known else 1.0
    step = float(affine[-4, -4])
    array = layer.data[0] if layer.multiscale else layer.data
    start = affine @ [*plane.index[:-1], 0, 0, 0, 1]
    default = str(across) == "pixel" and np.isclose(abs(step), grid.in_plane_scale(plane.to_world))
    stack = array[plane.index[:-1]] if len(plane.index) > 1 else array
    return DisplayedStack(
        name=layer.name,
        array=stack,
        depths=ratio * (start[-4] + step * np.arange(stack.shape[0])),
        spaced=known and not default,
    )


def layer_to_world(layer: Any) -> NDArray[np.float64]:
    """All of a layer's transforms as one affine from data to world, (ndim + 1, ndim + 1)."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=np.float64)
    affine = np.eye(layer.ndim + 1)
    affine[:-1, -1] = origin
    for axis, unit_vector in enumerate(np.eye(layer.ndim)):
        affine[:-1, axis] = np.asarray(layer.data_to_world(unit_vector)) - origin
    return affine


def position_in_layer(layer: Any, position: Sequence[float], dims: "Dims") -> NDArray[np.float64]:
    """A position in the viewer's world as data coordinates of ``layer``.

    The viewer may have other units than the layer (if another layer is in nanometers), and more axes.
    """
    world = np.zeros(max(len(position), layer.ndim))
    world[len(world) - len(position) :] = position
    return np.asarray(layer.world_to_data(world[-layer.ndim :] * _unit_ratio(layer, dims)))


def _unit_ratio(layer: Any, dims: "Dims") -> NDArray[np.float64]:
    """The layer's unit in units of the viewer's axes, for each axis of the layer."""
    world_units = getattr(dims, "units", None)
    if world_units is None:
        return np.ones(layer.ndim)
    world_units = world_units[-layer.ndim :]
    return np.array([float((1 * w).to(u).magnitude) for w, u in zip(world_units, layer.units, strict=True)])


def _turned_in_plane_only(affine: NDArray[np.float64]) -> bool:
    linear = affine[:-1, :-1]
    across = np.concatenate([linear[:-2, -2:].ravel(), linear[-2:, :-2].ravel()])
    return bool(np.abs(across).max() <= 1e-6 * np.abs(linear).max())


def _leading_index(layer: Any, dims: "Dims", shape: tuple[int, ...]) -> tuple[int, ...]:
    leading = layer.ndim - 2
    position = position_in_layer(layer, dims.point, dims)[:leading]
    index = tuple(int(np.floor(coordinate + 0.5)) for coordinate in position)
    if any(i < 0 or i >= length for i, length in zip(index, shape, strict=False)):
        raise InputError(f'"{layer.name}" has no plane at the position of the sliders: move them.')
    return index
