"""What predict returns: the ensembles of the chosen cells as a mapping and as label volumes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from operator import index
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.card import Calibration, PlaneIntervals
from napari_dispr.errors import InputError, counted
from napari_dispr.prediction.notes import Note, cut_notes, sentences
from napari_dispr.prediction.store import EnsembleStore
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.facts import Agreement, CellFacts
from napari_dispr.shapes.placement import Placement

if TYPE_CHECKING:
    import pandas as pd

#: The shape that was kept of a cell: the number of a member, or the consensus.
Kept = int | Literal["consensus"]


@dataclass(frozen=True, eq=False)
class Prediction(Mapping[int, Ensemble]):
    """The ensembles of the chosen cells, by label. A prediction does not change: methods return another.

    Attributes
    ----------
    ensembles : mapping of int to Ensemble
        An `EnsembleStore`, or a mapping that becomes one. Of many cells most are in files, and are read when
        they are asked for.
    provenance : dict
        Model name and hash, settings, seed and versions; JSON can hold it.
    image_to_world : (3, 3) array
        Affine on (y, x, 1) from the picture's pixel index to world.
    unit : str
        Of the world.
    notes : tuple of Note
        What the user should know; `warnings` has it in sentences.
    names : mapping of int to str
        Names of cells, for their files; other cells are named by their labels.
    intervals : mapping of str to Calibration
        The model's calibration of the intervals of each measure, for cells of which one plane is known.
    plane_intervals : tuple of PlaneIntervals
        The same for cells of which several planes are known; see `intervals_of`.
    kept : mapping of int to int or "consensus"
        Of cells whose shape was chosen: the number of the member, or the consensus.
    rejected : mapping of int to tuple of int
        Numbers of the members of a cell that were taken out by hand.
    """

    ensembles: Mapping[int, Ensemble]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    image_to_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    image_shape: tuple[int, int] = (grid.SIZE, grid.SIZE)
    unit: str = "pixel"
    notes: tuple[Note, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    intervals: Mapping[str, Calibration] = field(default_factory=dict)
    plane_intervals: tuple[PlaneIntervals, ...] = ()
    kept: Mapping[int, "Kept"] = field(default_factory=dict)
    rejected: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.ensembles, EnsembleStore):
            object.__setattr__(self, "ensembles", EnsembleStore(self.ensembles))

    def __getitem__(self, label: int) -> Ensemble:
        return self.ensembles[label]

    def __contains__(self, label: object) -> bool:
        return label in self.ensembles

    def __iter__(self) -> Iterator[int]:
        return iter(self.ensembles)

    def __len__(self) -> int:
        return len(self.ensembles)

    def __repr__(self) -> str:
        labels = [*map(str, islice(self, 5)), *["..."] * (len(self) > 5)]
        cells = f"{counted(len(self), 'cell')} ({', '.join(labels)})" if labels else "no cells"
        return f"<Prediction of {cells}, model {self.provenance.get('model', 'unknown')}, unit {self.unit}>"

    def with_cell(self, ensemble: Ensemble, *notes: Note) -> "Prediction":
        """This prediction with one more cell, or with other members of a cell, and with further notes."""
        known = self.notes
        if ensemble.label in self:
            known = tuple(note for note in known if (note.kind, note.cell) != ("cut", ensemble.label))
        notes += tuple(cut_notes(ensemble))
        return replace(self, ensembles=self.store.with_cell(ensemble), notes=known + notes)

    def with_provenance(self, **more: Any) -> "Prediction":
        """This prediction with further provenance."""
        return replace(self, provenance={**self.provenance, **more})

    def intervals_of(self, label: int) -> Mapping[str, Calibration]:
        """The calibration of the intervals of each measure of a cell; empty if none holds for it."""
        gap = self.facts(label).gap
        if gap is None:
            return self.intervals
        return next((one.measures for one in self.plane_intervals if gap <= one.gap), {})

    @property
    def has_intervals(self) -> bool:
        return any(self.intervals_of(label) for label in self)

    @property
    def store(self) -> EnsembleStore:
        """Where the ensembles are."""
        assert isinstance(self.ensembles, EnsembleStore)
        return self.ensembles

    def facts(self, label: int) -> CellFacts:
        """What is known of a cell without reading its shapes."""
        return self.store.cell(label).facts

    @property
    def agreements(self) -> dict[int, Agreement]:
        """How much the members of each cell agree."""
        return {label: self.store.cell(label).agreement for label in self}

    def noted(self, *notes: Note) -> "Prediction":
        """This prediction with further notes."""
        return replace(self, notes=self.notes + notes)

    @property
    def warnings(self) -> list[str]:
        return sentences(self.notes, self.names, len(self))

    @property
    def unlike(self) -> dict[int, str]:
        """How cells are unlike those that the model was trained on, by label."""
        return {
            note.cell: note.text for note in self.notes if note.kind == "unlike" and note.cell is not None
        }

    @property
    def members(self) -> int:
        """Largest number of members of a cell."""
        return max((len(self.facts(label).numbers) for label in self), default=0)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the members, of all cells, in rising order."""
        return tuple(sorted({number for label in self for number in self.facts(label).numbers}))

    # --- choosing -----------------------------------------------------------------------------------

    def keep(self, label: int, shape: "Kept | None") -> "Prediction":
        """This prediction with one shape kept as that of a cell.

        Parameters
        ----------
        shape : int, "consensus" or None
            Number of a member; the consensus; or None, if no shape is to be kept.

        Raises
        ------
        InputError
            If there is no such cell, member or shape.
        """
        if shape is not None and shape != "consensus":
            try:
                shape = index(shape)  # also of NumPy
            except TypeError:
                raise InputError(
                    f"The shape to keep is {shape!r}: give the number of a member, or consensus."
                ) from None
        self.check_has(label, shape if isinstance(shape, int) else None)
        kept = {other: one for other, one in self.kept.items() if other != label}
        return replace(self, kept=kept if shape is None else {**kept, label: shape})

    def reject(self, label: int, number: int) -> "Prediction":
        """This prediction without one member of a cell, whose number is never used again.

        Raises an InputError if there is no such cell or member, or it is the cell's last.
        """
        self.check_has(label, number)
        ensemble = self.ensembles[label]
        if len(ensemble) == 1:
            raise InputError(f"Member {number} is the last of cell {label}: draw more before you reject it.")
        rejected = {**self.rejected, label: tuple(sorted({*self.rejected.get(label, ()), number}))}
        left = self if self.kept.get(label) != number else self.keep(label, None)
        return replace(left.with_cell(ensemble.without(number)), rejected=rejected)

    def kept_distance(self, label: int) -> NDArray[np.float32]:
        """Signed distance (64, 64, 64) of the shape that was kept of a cell."""
        ensemble, shape = self.ensembles[label], self.kept[label]
        if shape == "consensus":
            return ensemble.consensus_distance
        return ensemble.signed_distance[ensemble.numbers.index(shape)]

    def check_has(self, label: int, number: int | None = None) -> None:
        """Raise an `InputError` if there is no such cell, or no such member of it."""
        if label not in self:
            raise InputError(f"There is no cell {label} in the prediction: choose one that it holds.")
        if number is not None and number not in self.facts(label).numbers:
            known = ", ".join(map(str, self.facts(label).numbers))
            raise InputError(f"Cell {label} has no member {number}: choose among {known}.")

    # --- in the image's frame -----------------------------------------------------------------------

    def label_volume(self, member: int = 0) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """3D labels of one member, and their affine.

        Parameters
        ----------
        member : int
            Its number; cells that have no such member are left out.

        Returns
        -------
        volume : (z, y, x) unsigned integers
            Label values as in the 2D labels, over the bounding box of the chosen cells, one voxel a
            pixel (or 2, 4, ... pixels, where all members would exceed 256 MiB). Where cells overlap the
            larger signed distance wins.
        affine : (4, 4) array
            From voxel-centre index to world; the imaged plane is a plane of voxel centres.
        """
        if member not in self.numbers and self.ensembles:
            known = ", ".join(str(number) for number in self.numbers)
            raise InputError(f"There is no member {member}: choose among {known}.")
        return self.label_volumes([member])[0]

    def label_volumes(
        self, members: Sequence[int] | None = None
    ) -> list[tuple[NDArray[Any], NDArray[np.float64]]]:
        """:meth:`label_volume` of several members, by default of all `numbers`; each cell is read once."""
        placement, wanted = self._placement, self.numbers if members is None else members
        cells = ((label, self._shapes(label, wanted)) for label in self)
        return [(volume, placement.affine) for volume in placement.volumes(cells, len(wanted))]

    def _shapes(self, label: int, members: Sequence[int]) -> list[NDArray[np.float32] | None]:
        """Signed distance of these members of a cell; None if the cell has no such member."""
        if not set(members) & set(self.facts(label).numbers):
            return [None] * len(members)
        ensemble = self.ensembles[label]
        by_number = dict(zip(ensemble.numbers, ensemble.signed_distance, strict=True))
        return [by_number.get(number) for number in members]

    def kept_volume(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """3D labels of the shapes that were kept, and their affine; as :meth:`label_volume`."""
        shapes = ((label, [self.kept_distance(label)]) for label in self.kept)
        return self._placement.volumes(shapes, 1)[0], self._placement.affine

    def check_has_cells(self) -> None:
        """Raise an `InputError` if the prediction holds no cell."""
        if not self:
            raise InputError("The prediction holds no cell: predict at least one.")

    def check_measures(self, table: "pd.DataFrame", *needed: str) -> None:
        """Raise an `InputError` if a table is not of the members of this prediction, or lacks a measure."""
        if missing := [name for name in ("label", "member", *needed) if name not in table]:
            raise InputError(
                f"The table of measures has no column {missing[0]!r}: give that of measure(prediction)."
            )
        members = {(label, number) for label in self for number in self.facts(label).numbers}
        if members != set(zip(table["label"], table["member"], strict=True)) or len(table) != len(members):
            raise InputError(
                "The table of measures is of other cells or members: give that of measure(prediction)."
            )

    def placement(self, volumes: int) -> Placement:
        """The frame of so many volumes with all cells; raises an `InputError` if there is none."""
        self.check_has_cells()
        frames = {label: self.facts(label).grid_to_world for label in self}
        boxes = {label: one.box for label, one in self.agreements.items()}
        return Placement(frames, boxes, self.image_to_world, volumes)

    @cached_property
    def _placement(self) -> Placement:
        return self.placement(len(self.numbers))

    @property
    def step(self) -> int:
        """Pixels along a voxel of the label volumes."""
        return self._placement.step

    @property
    def frame(self) -> NDArray[np.float64]:
        """The (4, 4) affine of the label volumes, from voxel-centre index to world."""
        return self._placement.affine

    @property
    def depth(self) -> float:
        """World z of the picture's plane: 0 unless it was one of a stack."""
        return float(self.provenance.get("depth", 0.0))

    def grid_to_world(self, label: int) -> NDArray[np.float64]:
        """The (4, 4) affine of a cell's grid, from voxel-centre index to world, the picture's depth in it."""
        return grid.translation((self.depth, 0.0, 0.0)) @ self.facts(label).grid_to_world

    def imaged_depth(self, label: int) -> float:
        """World z of a cell's imaged plane."""
        return float((self.grid_to_world(label) @ [*grid.MIDDLE, 1])[0])

    def same_frame(self, other: "Prediction") -> bool:
        """Whether the label volumes of another prediction have the same shape and affine."""
        mine, theirs = self._placement, other._placement
        return bool((mine.shape == theirs.shape).all() and (mine.affine == theirs.affine).all())

    # --- files --------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``cells/LABEL.npz`` and ``cells/LABEL.ome.tif`` (members, occupancy and consensus),
        ``morphometry.csv`` (a row for each cell and member), ``cells.csv`` (a row for each cell), the column
        dictionary of each table (`saving.write_table`), and ``prediction.json``.

        Each file gets its name when it is complete; the JSON, which makes the folder a prediction, comes
        last. A prediction that is in the folder is replaced. Raises an InputError if other files would be.
        """
        from napari_dispr.prediction.saving import save_prediction

        save_prediction(self, folder)

    def stem(self, label: int) -> str:
        """Start of the names of a cell's files."""
        return self.names.get(label, str(label))
