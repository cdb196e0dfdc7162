"""The plane of a layer that the viewer shows, or its stack, and their place in the world. No Qt."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pint
from napari.components import Dims
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.viewer.world import layer_to_world, position_in_layer, unit_ratio


def finest(layer: Image | Labels) -> Any:
    """The array of a layer at full resolution, not read yet: it may be lazy."""
    return layer.data[0] if layer.multiscale else layer.data


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedPlane:
    """The plane of an image or label layer that the viewer shows.

    Attributes
    ----------
    array : (y, x) array-like
        Not read yet: may be lazy. The finest level of a multiscale layer.
    to_world : (3, 3) float64
        Affine on (y, x, 1) from pixel centre to world, in ``unit``.
    depth : float
        World coordinate of the plane on the axis before y: 0 for a 2D layer.
    index : tuple of int
        Position of the plane on the layer's leading axes (time, channel, z).
    """

    name: str
    array: Any
    to_world: NDArray[np.float64]
    depth: float
    unit: pint.Unit
    index: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and x."""
        return (int(self.array.shape[0]), int(self.array.shape[1]))

    def pixel_size(self, unit: str) -> float | None:
        """Side of a pixel in ``unit``; None if the layer's unit cannot be converted ("pixel")."""
        ratio = unit_ratio(self.unit, unit)
        return None if ratio is None else grid.in_plane_scale(self.to_world) * ratio


def displayed_plane(layer: Image | Labels, dims: Dims, unit: pint.Unit | None = None) -> DisplayedPlane:
    """The plane of ``layer`` at the viewer's current position, without reading it.

    The last two axes of a layer are y and x; the viewer's sliders give the position on the other axes, in the
    3D view too. The world has the ``unit`` of another layer; that of the layer's x axis if it is None or of
    another kind.

    Raises an InputError if the layer is RGB, has fewer than two axes, is turned out of its own plane, has
    units along y and x that cannot be converted, or the viewer shows other axes or a position outside the
    layer.
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
    if unit_ratio(*layer.units[-2:]) is None:
        raise InputError(
            f'"{layer.name}" has y in {layer.units[-2]} and x in {layer.units[-1]}: give both axes the same '
            "unit."
        )
    own, affine = layer.units[-1], layer_to_world(layer, unit)
    if layer.ndim > 2 and not _turned_in_plane_only(affine):
        raise InputError(f'"{layer.name}" is turned out of its plane: remove the rotation about y or x.')
    array = finest(layer)
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
        unit=own if unit is None or unit_ratio(own, unit) is None else unit,
        index=index,
    )


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedStack:
    """All planes along z of an image or label layer, where the viewer is on the other axes; not read yet.

    ``depths`` are the world z of each plane, in the unit of y and x. They are not ``spaced`` if planes are as
    far apart as pixels, without a unit: that is napari's default and says nothing.
    """

    name: str
    array: Any
    depths: NDArray[np.float64]
    spaced: bool


def displayed_stack(layer: Image | Labels, dims: Dims, unit: pint.Unit | None = None) -> DisplayedStack:
    """The planes of ``layer`` along the axis before y and x, without reading them; see `displayed_plane`.

    Raises an InputError if the layer has no such axis, or `displayed_plane` finds no plane.
    """
    plane = displayed_plane(layer, dims, unit)
    if not plane.index:
        raise InputError(f'"{layer.name}" has one plane only: choose a stack (z, y, x).')
    affine, across = layer_to_world(layer, plane.unit), layer.units[-3]
    step = float(affine[-4, -4])
    array = finest(layer)
    start = affine @ [*plane.index[:-1], 0, 0, 0, 1]
    default = str(across) == "pixel" and np.isclose(abs(step), grid.in_plane_scale(plane.to_world))
    stack = array[plane.index[:-1]] if len(plane.index) > 1 else array
    return DisplayedStack(
        name=layer.name,
        array=stack,
        depths=start[-4] + step * np.arange(stack.shape[0]),
        spaced=across.is_compatible_with(plane.unit) and not default,
    )


def _turned_in_plane_only(affine: NDArray[np.float64]) -> bool:
    linear = affine[:-1, :-1]
    across = np.concatenate([linear[:-2, -2:].ravel(), linear[-2:, :-2].ravel()])
    return bool(np.abs(across).max() <= 1e-6 * np.abs(linear).max())


def _leading_index(layer: Any, dims: Dims, shape: tuple[int, ...]) -> tuple[int, ...]:
    leading = layer.ndim - 2
    position = position_in_layer(layer, dims.point, dims)[:leading]
    index = tuple(int(np.floor(coordinate + 0.5)) for coordinate in position)
    if any(i < 0 or i >= length for i, length in zip(index, shape, strict=False)):
        raise InputError(f'"{layer.name}" has no plane at the position of the sliders: move them.')
    return index
