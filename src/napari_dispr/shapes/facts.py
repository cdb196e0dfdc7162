"""What is known of a cell without its shapes: small values that are kept when the shapes lie in a file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.planes import mean_gap
from napari_dispr.shapes.ensemble import Ensemble, arrays_of, mean_apart, modes_of, pairwise_iou
from napari_dispr.shapes.section import Section

#: First and last voxel (z, y, x) of the model grid that any member holds.
GridBox = tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How much the members of a cell agree, and where they lie; ``box`` is None if all are empty."""

    ambiguity: float
    modes: tuple[tuple[int, ...], ...]
    box: GridBox | None

    @classmethod
    def of(cls, ensemble: Ensemble) -> Self:
        """Compute it from the shapes."""
        members = ensemble.members
        alike, box = pairwise_iou(members), grid.box_of(np.asarray(members.any(axis=0)))
        ends = None
        if box is not None:
            z, y, x = box
            ends = (z.start, y.start, x.start), (z.stop - 1, y.stop - 1, x.stop - 1)
        return cls(mean_apart(alike), tuple(modes_of(alike)), ends)


@dataclass(frozen=True, slots=True, eq=False)
class CellFacts:
    """What is known of a cell without its shapes; names as in `Ensemble`.

    ``agreement`` is None if it was not computed when the cell was saved. ``gap`` is the `planes.mean_gap` of
    a cell of which several planes are known, else None.
    """

    label: int
    numbers: tuple[int, ...]
    grid_to_world: NDArray[np.float64] = field(repr=False)
    unit: str
    zoom: float
    agreement: Agreement | None = None
    gap: float | None = None

    @classmethod
    def of(cls, ensemble: Ensemble) -> Self:
        """All facts of an ensemble."""
        e = ensemble
        return cls(e.label, e.numbers, e.grid_to_world, e.unit, e.zoom, Agreement.of(e), _gap(e.section))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the facts, without the shapes, from a file of `Ensemble.save_npz`; see `arrays_of`."""
        with arrays_of(path) as arrays:
            affine = grid.check_affine(arrays["grid_to_world"])
            if "signed_distance" not in arrays or affine.shape != (4, 4):
                raise ValueError("no ensemble")
            return cls(
                # Plain values: NumPy makes real numbers of complex ones.
                int(arrays["label"].item()),
                tuple(int(number) for number in arrays["numbers"].tolist()),
                affine,
                str(arrays["unit"]),
                float(arrays["zoom"].item()),
                gap=_gap(Section.of_arrays(arrays)) if "plane_depths" in arrays else None,
            )


def _gap(section: Section | None) -> float | None:
    return mean_gap(section.mask, section.planes) if section is not None and section.planes else None
