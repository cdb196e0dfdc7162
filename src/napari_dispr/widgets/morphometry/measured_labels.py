"""Measures of a 3D labels layer of the user, to compare with predicted cells. No Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr.errors import InputError
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.viewer.displayed import finest
from napari_dispr.viewer.world import layer_to_world, unit_ratio
from napari_dispr.widgets.morphometry.content import Measured


@dataclass(frozen=True, slots=True, eq=False)
class LabelsSource:
    """A labels layer (z, y, x) to be measured, in its state at the start of the measurement, and not read
    yet.

    ``affine`` is from voxel-centre index to world: all of the layer's transforms, in ``unit``, on which
    ``note`` says something to the user.
    """

    name: str
    array: Any
    affine: NDArray[np.float64]
    unit: str
    note: str = ""


def labels_source(layer: Labels, unit: str | None = None) -> LabelsSource:
    """A layer as a source to measure, if possible in the unit of the prediction that it is compared with.

    Raises an InputError if the layer has other axes than z, y and x, or units along them that cannot be
    converted.
    """
    if layer.ndim != 3:
        raise InputError(f'"{layer.name}" has {layer.ndim} axes: choose labels with z, y and x.')
    own, note = layer.units[-1], ""
    for one in layer.units:
        if unit_ratio(one, own) is None:
            raise InputError(
                f'"{layer.name}" has axes in {one} and {own}: give all axes of the layer the same unit.'
            )
    wanted = str(own) if unit is None else unit
    affine = layer_to_world(layer, wanted)
    if unit_ratio(own, wanted) is None:
        sign = unit_sign(wanted)
        note = (
            f'"{layer.name}" is in {unit_sign(str(own))}, the prediction in {sign}: its scale was read as '
            f"{sign}."
        )
    elif str(own) == "pixel" and np.ptp(layer.scale) == 0:
        note = (
            f'"{layer.name}" does not say how large its voxels are, so they count as cubes: give the layer a '
            "scale and units if they are not."
        )
    return LabelsSource(layer.name, finest(layer), affine, wanted, note)


def measure_source(source: LabelsSource, step: Callable[[int, int], None]) -> Measured:
    """Measure all cells of a labels layer; in a thread, at 0.1 s and more a cell.

    ``step`` is called with the numbers of finished cells and of all; what it raises ends the work. Raises an
    InputError if the layer has no cell.
    """
    from napari_dispr.shapes.label_volumes import measure_labels, without_surface  # slow: in the thread

    try:
        volume = np.array(source.array)  # a copy: the user may paint on
    except MemoryError:
        raise InputError(f'"{source.name}" does not fit into memory: crop it first.') from None
    step(0, 1)
    if not volume.any():
        raise InputError(f'"{source.name}" has no cell: choose a layer with labelled cells.')
    table = measure_labels(volume, source.affine, source.unit, progress=step)
    labels = table["label"].to_numpy()
    middles = np.array(ndimage.center_of_mass(volume > 0, volume, labels))
    world = middles @ source.affine[:3, :3].T + source.affine[:3, 3]
    centres = {int(label): centre for label, centre in zip(labels, world, strict=True)}
    note = " ".join(text for text in (source.note, without_surface(table)) if text)
    return Measured(source.name, table, centres, note)
