"""What ``prediction.json`` holds: names, types and bounds, checked before anything uses them."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from napari_dispr import grid
from napari_dispr.card import Calibration, PlaneIntervals
from napari_dispr.prediction.notes import Note
from napari_dispr.shapes.facts import Agreement

_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Label = Annotated[int, Field(ge=1, lt=2**64)]
_Unit = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f]+$")]
#: Within these limits, computations with values from a file are possible; no picture is as large.
_LARGEST_PICTURE = 1_000_000


def _affine(rows: list[list[float]]) -> list[list[float]]:
    grid.check_affine(rows)
    return rows


def _stem(name: str) -> str:
    if name in (".", "..") or any(letter in "/\\:" or ord(letter) < 32 for letter in name):
        raise ValueError("a file name must stay in the folder")
    return name


_Index = Annotated[int, Field(ge=0, lt=grid.SIZE)]
_Voxel = tuple[_Index, _Index, _Index]
_Affine = Annotated[list[list[float]], AfterValidator(_affine)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class SavedCell(_Part):
    """A cell: the start of its file names, and its position. Other keys are only for human readers."""

    file: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_stem)]
    grid_to_world: _Affine
    unit: _Unit
    zoom: Annotated[float, Field(gt=0)]
    kept: _Number | Literal["consensus"] | None
    rejected: tuple[_Number, ...]
    ambiguity: float | None
    modes: tuple[tuple[_Number, ...], ...]
    box: tuple[_Voxel, _Voxel] | None

    @property
    def agreement(self) -> Agreement:
        """How much the members agree."""
        return Agreement(np.nan if self.ambiguity is None else self.ambiguity, self.modes, self.box)


class FinishedCell(BaseModel):
    """A line of the index of an unfinished prediction: a cell, its notes and its measures, a row a member."""

    label: _Label
    cell: SavedCell
    notes: list[Note]
    measures: list[dict[str, int | float]]


class SavedPrediction(_Part):
    """The whole file. Keys that are not listed are provenance."""

    model_config = ConfigDict(extra="allow")

    warnings: list[str]
    notes: list[Note]
    unit: _Unit
    image_to_world: _Affine
    image_shape: tuple[
        Annotated[int, Field(ge=1, le=_LARGEST_PICTURE)], Annotated[int, Field(ge=1, le=_LARGEST_PICTURE)]
    ]
    columns: dict[str, dict[str, str]] = {}
    intervals: dict[str, Calibration]
    plane_intervals: tuple[PlaneIntervals, ...] = ()
    cells: dict[_Label, SavedCell]
    # Provenance that is used, not only shown.
    settings: dict[str, Any] | None = None
    depth: Annotated[float, Field(ge=-grid.LARGEST, le=grid.LARGEST)] = 0.0
    model: str | None = None
    model_hash: str | None = None
    image_file: str | None = None
    labels_file: str | None = None
    channel: _Number | None = None
    place: dict[str, _Number] | None = None
    depths: list[float] | None = None
    planes: list[_Number] | None = None
    spacing: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _belong_together(self) -> "SavedPrediction":
        if len({cell.file for cell in self.cells.values()}) < len(self.cells):
            raise ValueError("two cells have the same file")
        if len(self.image_to_world) != 3:
            raise ValueError("image_to_world is not 3 x 3")
        to_pixel = np.linalg.inv(grid.pixel_to_world(np.array(self.image_to_world)))
        for label, cell in self.cells.items():
            if len(cell.grid_to_world) != 4:
                raise ValueError(f"grid_to_world of cell {label} is not 4 x 4")
            if cell.unit != self.unit:
                raise ValueError(f"cell {label} has the unit {cell.unit!r}, the picture {self.unit!r}")
            placed = to_pixel @ np.array(cell.grid_to_world)
            size = grid.spacing(placed)
            most = grid.GRID_TO_PIXEL
            if (
                np.abs(placed[1:, 3]).max() > 2 * _LARGEST_PICTURE
                or size.min() < 1 / most
                or size.max() > most
            ):
                raise ValueError(f"cell {label} does not lie in the picture")
        return self

    @property
    def provenance(self) -> dict[str, Any]:
        """How the prediction was made."""
        own = {"warnings", "notes", "unit", "image_to_world", "image_shape", "columns", "cells"}
        own |= {"intervals", "plane_intervals"}
        given = self.model_fields_set | (self.model_extra or {}).keys()
        return {
            name: getattr(self, name)
            for name in self.__dict__ | (self.model_extra or {})
            if name in given and name not in own
        }
