"""Evaluate a method with several known planes of each cell, cut from the true object."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_dispr import grid
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError, counted
from napari_dispr.models.method import Method, MethodEvent, Task
from napari_dispr.planes import KnownPlane

#: Distance between up to three planes, and between more, in voxels.
FEW_APART, MORE_APART = 8, 6
#: So many planes fit the model grid.
MOST_PLANES = 9


def depths_of(count: int) -> tuple[int, ...]:
    """Depths of all planes but the imaged one, in voxels from it: alternately above and below it.

    2: 8; 3: 8, -8; 5: 6, -6, 12, -12; ... Raises an InputError if the number of planes is not from 1 to
    `MOST_PLANES`.
    """
    if not 1 <= count <= MOST_PLANES:
        raise InputError(f"The number of planes is {count}: give numbers from 1 to {MOST_PLANES}.")
    step = FEW_APART if count <= 3 else MORE_APART
    return tuple(step * (i // 2 + 1) * (-1) ** i for i in range(count - 1))


@dataclass(frozen=True)
class InPlanes:
    """A method that gets so many planes of each cell."""

    method: Method
    planes: int

    @property
    def name(self) -> str:
        """The method's name, with the number of planes."""
        return f"{self.method.name}, {counted(self.planes, 'plane')}"

    @property
    def card(self) -> Card:
        return self.method.card

    @property
    def hash(self) -> str:
        """The method's hash, and the number of planes."""
        return f"{self.method.hash} {self.planes}"

    @property
    def members(self) -> int | None:
        return self.method.members

    @property
    def uses_planes(self) -> bool:
        return self.method.uses_planes

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The method's provenance, and the depths of the planes in voxels."""
        return {**self.method.provenance, "planes": self.planes, "plane_depths": [0, *depths_of(self.planes)]}

    def draw(self, tasks: Sequence[Task], /) -> Generator[MethodEvent, None, None]:
        return self.method.draw(tasks)


def in_planes(methods: Mapping[str, Method], counts: Sequence[int]) -> dict[str, Method]:
    """Each method with each number of planes, by name, if the number changes its shapes.

    Methods of one shape that use no further planes get one plane; interpolation needs two.
    """
    found: dict[str, Method] = {}
    for method in methods.values():
        for count in sorted(set(counts)):
            one = InPlanes(method, count)
            depths_of(count)  # checks it
            fixed = method.members == 1
            if not fixed or method.uses_planes == (count > 1):
                found[one.name] = one
    return found


def crop_of(cell: CellFile, method: Method) -> Crop:
    """The crop that a method gets of a cell: an `InPlanes` gets sections of the object, without image."""
    crop = cell.crop(1)
    if not isinstance(method, InPlanes):
        return crop
    sections = (
        KnownPlane(depth, (grid.section(cell.known_object, depth) / np.float32(255)).astype(np.float32))
        for depth in depths_of(method.planes)
    )
    return replace(crop, planes=tuple(sections))
