"""What predict returns: the ensembles of all chosen cells, as a mapping, as label volumes, as files.

Knows neither torch nor napari.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.errors import InputError
from napari_dispr.prediction.saving import (
    CELLS,
    PREDICTION_FILE,
    columns_file,
    load_measures,
    remove_prediction,
    save_cell,
    save_tables,
    write_table,
)
from napari_dispr.prediction.tables import measure, measure_cells, measure_changed
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.morphometry import summarise
from napari_dispr.shapes.placement import Placement

#: The shape that was kept of a cell: the number of a member, or the consensus.
Kept = int | Literal["consensus"]


@dataclass(frozen=True, eq=False)
class Prediction(Mapping[int, Ensemble]):
    """The ensembles of the chosen cells, by label.

    Attributes
    ----------
    ensembles : mapping of int to Ensemble
    provenance : dict
        Model name and hash, settings, seed and versions; JSON can hold it.
    image_to_world : (3, 3) array
        Affine on (y, x, 1) from the picture's pixel index to world.
    image_shape : (int, int)
    unit : str
        Of the world.
    warnings : list of str
        What the user should know.
    names : dict of int to str
        File names of cells that have better ones than their labels.
    intervals : dict of str to Calibration
        By measure, what its intervals are read from: of the model's card.
    unlike : dict of int to str
        Cells unlike those that the model was trained on, and what is unusual about each.
    kept : mapping of int to int or "consensus"
        Of cells whose shape was chosen: the number of the member, or the consensus.
    rejected : mapping of int to tuple of int
        Numbers of the members of a cell that were taken out by hand.
    """

    ensembles: Mapping[int, Ensemble]
    provenance: dict[str, Any] = field(default_factory=dict)
    image_to_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    image_shape: tuple[int, int] = (grid.SIZE, grid.SIZE)
    unit: str = "pixel"
    warnings: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    intervals: Mapping[str, Calibration] = field(default_factory=dict)
    unlike: dict[int, str] = field(default_factory=dict)
    kept: Mapping[int, "Kept"] = field(default_factory=dict)
    rejected: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __getitem__(self, label: int) -> Ensemble:
        return self.ensembles[label]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ensembles)

    def __len__(self) -> int:
        return len(self.ensembles)

    def with_cell(self, ensemble: Ensemble) -> "Prediction":
        """This prediction and one more cell, or other members of a cell; warnings are shared."""
        return replace(self, ensembles={**self.ensembles, ensemble.label: ensemble})

    @property
    def members(self) -> int:
        """How many members there are of a cell, at most."""
        return max(map(len, self.ensembles.values()), default=0)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the members, of all cells, in rising order."""
        return tuple(sorted({number for one in self.ensembles.values() for number in one.numbers}))

    # --- choosing -----------------------------------------------------------------------------------

    def keep(self, label: int, shape: "Kept | None") -> "Prediction":
        """This prediction with one shape kept as that of a cell.

        Parameters
        ----------
        label : int
        shape : int, "consensus" or None
            Number of a member; the consensus; or None, if no shape is to be kept.

        Raises
        ------
        InputError
            If there is no such cell or member.
        """
        self.check_has(label, shape if isinstance(shape, int) else None)
        kept = {other: one for other, one in self.kept.items() if other != label}
        return replace(self, kept=kept if shape is None else {**kept, label: shape})

    def reject(self, label: int, number: int) -> "Prediction":
        """This prediction without one member of a cell, which is never drawn again.

        Raises
        ------
        InputError
            If there is no such cell or member, or it is the cell's last.
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
        if label not in self.ensembles:
            raise InputError(f"There is no cell {label} in the prediction.")
        if number is not None and number not in self.ensembles[label].numbers:
            known = ", ".join(map(str, self.ensembles[label].numbers))
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
        placement = self._placement
        if member not in self.numbers:
            known = ", ".join(str(number) for number in self.numbers)
            raise InputError(f"There is no member {member}: choose among {known}.")
        shapes = [
            (label, ensemble.signed_distance[ensemble.numbers.index(member)])
            for label, ensemble in self.ensembles.items()
            if member in ensemble.numbers
        ]
        return placement.volume(shapes), placement.affine

    def label_volumes(self) -> list[tuple[NDArray[Any], NDArray[np.float64]]]:
        """:meth:`label_volume` of every member, in the order of `numbers`."""
        placement = self._placement
        return [(self.label_volume(number)[0], placement.affine) for number in self.numbers]

    def kept_volume(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """3D labels of the shapes that were kept, and their affine; as :meth:`label_volume`."""
        shapes = [(label, self.kept_distance(label)) for label in self.kept]
        return self._placement.volume(shapes), self._placement.affine

    @cached_property
    def _placement(self) -> Placement:
        if not self.ensembles:
            raise InputError("The prediction holds no cell: predict at least one.")
        return Placement(self.ensembles, self.image_to_world, len(self.numbers))

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
        return grid.translation((self.depth, 0.0, 0.0)) @ self.ensembles[label].grid_to_world

    def same_frame(self, other: "Prediction") -> bool:
        """Whether the label volumes of another prediction have the same shape and affine."""
        mine, theirs = self._placement, other._placement
        return bool((mine.shape == theirs.shape).all() and (mine.affine == theirs.affine).all())

    # --- files --------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``cells/LABEL.ome.tif`` (members) and ``.npz``, ``consensus/LABEL.ome.tif``,
        ``occupancy/LABEL.ome.tif``, ``morphometry.csv`` (a row a cell and member), ``cells.csv`` (a row a
        cell), beside each of them its column dictionary (`write_table`), and ``prediction.json``.

        Each file is written aside and renamed; the JSON, which makes the folder a prediction, comes
        last. A prediction that lies there already is replaced.
        """
        remove_prediction(folder)
        for label in self.ensembles:
            self.save_cell(folder, label)
        self.save_tables(folder)

    def save_tables(self, folder: str | os.PathLike[str], measures: pd.DataFrame | None = None) -> None:
        """Write the tables and ``prediction.json`` only, to cells that are saved already.

        ``measures`` is the table of `measure`, where it is known.
        """
        save_tables(self, folder, measures)

    def save_cell(self, folder: str | os.PathLike[str], label: int) -> None:
        """Write one cell's files only, so that a long run that is interrupted keeps what is finished."""
        save_cell(self, folder, label)

    def stem(self, label: int) -> str:
        """What the names of a cell's files begin with."""
        return self.names.get(label, str(label))


def load_prediction(folder: str | os.PathLike[str]) -> Prediction:
    """Read what :meth:`Prediction.save` wrote; it gives the same table and the same label volumes.

    Raises
    ------
    InputError
        If the folder is no saved prediction, or is damaged.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / PREDICTION_FILE).read_text(encoding="utf-8"))
        cells = content.pop("cells")
        # Cells go by names, which decide their noise, all or none; one may happen to be the cell's label.
        named = "dataset" in content or any(cell["file"] != label for label, cell in cells.items())
        names = {int(label): cell["file"] for label, cell in cells.items()} if named else {}
        content.pop("columns", None)
        frame = {
            "image_to_world": np.array(content.pop("image_to_world")),
            "image_shape": tuple(content.pop("image_shape")),
            "unit": content.pop("unit"),
            "warnings": content.pop("warnings"),
            # Predictions of older versions have neither.
            "intervals": {
                name: Calibration.model_validate(one) for name, one in content.pop("intervals", {}).items()
            },
            "unlike": {int(label): cell["warning"] for label, cell in cells.items() if cell.get("warning")},
            "kept": {
                int(label): cell["kept"] for label, cell in cells.items() if cell.get("kept") is not None
            },
            "rejected": {
                int(label): tuple(cell["rejected"]) for label, cell in cells.items() if cell.get("rejected")
            },
        }
        files = {int(label): folder / CELLS / f"{cell['file']}.npz" for label, cell in cells.items()}
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no {PREDICTION_FILE}: give the folder of a saved prediction."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise InputError(f"{folder / PREDICTION_FILE} is damaged: predict again.") from error
    ensembles = {label: Ensemble.load_npz(file) for label, file in files.items()}
    return Prediction(ensembles, provenance=content, names=names, **frame)


__all__ = [
    "PREDICTION_FILE",
    "Kept",
    "Prediction",
    "columns_file",
    "load_measures",
    "load_prediction",
    "measure",
    "measure_cells",
    "measure_changed",
    "remove_prediction",
    "summarise",
    "write_table",
]
