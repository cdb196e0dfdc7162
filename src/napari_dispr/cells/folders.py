"""Dataset folders in the format of DISPR and SHAPR: train|test/{obj,image,mask}/NAME.tif.

A further folder ``stack``, which need not hold all cells, has their pictures at all depths.
"""

import csv
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE, Crop
from napari_dispr.cells.file_pairs import is_zarr
from napari_dispr.errors import InputError
from napari_dispr.files import open_tiff, reading, write_json, write_rows, written_aside
from napari_dispr.settings import Settings, first_fault

PARTS = ("train", "test")
#: The file next to the parts with the source of the cells.
NOTES = "dataset.json"
#: The table next to the parts that marks predicted objects, if there are any.
CELLS_FILE = "cells.csv"
#: Its columns, and the kind of a cell with a predicted object.
_NAME, _KIND, PREDICTED = "name", "kind", "predicted"
#: The folder with the pictures of further planes.
_STACK = "stack"
#: The folder where the part "train" is written, cell by cell, before it is complete.
_GROWING = ".train"


@dataclass(frozen=True, slots=True, eq=False)
class CellFile:
    """A cell of a dataset folder, on the model grid.

    Attributes
    ----------
    mask : (64, 64) float32
        Antialiased segmentation of the imaged plane, 0 to 1.
    image : (64, 64) float32 or None
        Intensities of the imaged plane, 0 to 1.
    obj : (64, 64, 64) uint8 or None
        Antialiased object, axes (z, y, x), inside above 127.5.
    predicted : bool
        Whether the object was predicted and so is no truth.
    stack : (64, 64, 64) uint8 or None
        Intensities at all depths, axes (z, y, x), where there are pictures of further planes; planes
        without picture are 0.
    """

    name: str
    mask: NDArray[np.float32] = field(repr=False)
    image: NDArray[np.float32] | None = field(repr=False)
    obj: NDArray[np.uint8] | None = field(repr=False)
    predicted: bool = False
    stack: NDArray[np.uint8] | None = field(default=None, repr=False)

    @property
    def known_object(self) -> NDArray[np.uint8]:
        """The object of a cell that has one."""
        assert self.obj is not None
        return self.obj

    @property
    def fingerprint(self) -> str:
        """Checksum of mask and image, to find out whether a model was trained on this cell."""
        planes = [plane for plane in (self.mask, self.image) if plane is not None]
        content = b"".join(np.round(plane * 255).astype(np.uint8).tobytes() for plane in planes)
        return sha256(content).hexdigest()[:16]

    @property
    def shape_fingerprint(self) -> str:
        """Checksum of the object, for any image; empty without object."""
        if self.obj is None:
            return ""
        return sha256(np.packbits(self.obj > 127).tobytes()).hexdigest()[:16]

    def is_among(self, seen: Set[str]) -> bool:
        """Whether its image or its object is among fingerprints, such as those of a card."""
        return not seen.isdisjoint((self.fingerprint, self.shape_fingerprint or self.fingerprint))

    def crop(self, label: int) -> Crop:
        """This cell as a crop in which a voxel is a pixel of the 64 x 64 image."""
        centre = (grid.CENTRE, grid.CENTRE)
        return Crop(label, self.mask, self.image, 1.0, grid.grid_to_pixel(1.0, centre), known_scale=1.0)


class DatasetNotes(Settings):
    """The source and the true size of the cells of a dataset folder.

    ``voxel_size`` is the side of a voxel of the grid in ``unit`` (None: not known), ``source`` the names of
    the stacks or images, ``plane`` the slice that became the imaged plane, as requested, and ``left_out``
    the number of labels that did not become cells, by reason.
    """

    # Unknown entries, from a later version, are ignored.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    voxel_size: Annotated[float, Field(gt=0)] | None = None
    unit: str = "pixel"
    source: list[str] = Field(default_factory=list)
    plane: Literal["middle"] | int | None = None
    left_out: dict[str, int] = Field(default_factory=dict)

    @property
    def size_on_card(self) -> dict[str, Any]:
        """``voxel_size`` and ``unit`` as the card of a model states them: pixels are no physical size."""
        if self.voxel_size is None or self.unit == "pixel":
            return {"voxel_size": None, "unit": "micrometer"}
        return {"voxel_size": self.voxel_size, "unit": self.unit}


def read_dataset(
    folder: str | PathLike[str], part: str | None = None, need_objects: bool = False
) -> list[CellFile]:
    """All cells of a dataset in the order of their names, ``train`` first.

    Raises an InputError if the folder is not a dataset or is empty, or a file has no partner, cannot be read,
    or has a wrong size or wrong values; the message names the file.

    Parameters
    ----------
    folder : path
        Contains ``train``, ``test`` or both, or is such a part itself: the folders ``mask``, ``image`` and,
        for objects, ``obj``. The folder ``image`` may be missing.
    part : "train", "test" or None
        The part to read; None: all parts. Ignored if the folder is itself a part.
    need_objects : bool
        Whether to read the objects, too, and the pictures of further planes.
    """
    kinds = ("mask", "image", "obj") if need_objects else ("mask", "image")
    cells = [
        files
        for place in _places(Path(folder), part)
        for files in _partners(
            {kind: place / kind for kind in kinds if kind != "image" or (place / kind).is_dir()}
        )
    ]
    predicted = _predicted(Path(folder))
    if need_objects:
        for files in cells:
            stack = files["mask"].parent.parent / _STACK / files["obj"].name
            if stack.is_file():
                files[_STACK] = stack
    return [replace(cell, predicted=cell.name in predicted) for cell in map(_read_cell, cells)]


def read_training_cells(folder: str | PathLike[str]) -> list[CellFile]:
    """The cells of a dataset that are for training: of its part ``train``, if it has parts."""
    part = "train" if (Path(folder) / "train").is_dir() else None
    return read_dataset(folder, part, need_objects=True)


def write_dataset(folder: str | PathLike[str], cells: Sequence[CellFile], notes: DatasetNotes) -> None:
    """Write cells as the part ``train`` of a dataset folder, and ``dataset.json`` next to it.

    :func:`read_dataset` gives the same cells, rounded to 8 bit, with the same fingerprints.

    Raises an InputError if the folder already contains a dataset, a name is not allowed for a file or is used
    twice, or only some cells have images.

    Parameters
    ----------
    folder : path
        May exist. It becomes a dataset only when everything is written.
    cells : sequence of CellFile
        With objects; all or none of them with images.
    """
    folder = Path(folder)
    check_no_dataset(folder)
    _check_writable(cells)
    aside = folder / f".{secrets.token_hex(4)}.train"
    try:
        for cell in cells:
            _write_planes(aside, cell)
        write_json(folder / NOTES, notes.model_dump())
        if any(cell.predicted for cell in cells):
            kinds = [{_NAME: cell.name, _KIND: PREDICTED if cell.predicted else "real"} for cell in cells]
            write_rows(folder / CELLS_FILE, [_NAME, _KIND], kinds)
        os.replace(aside, folder / "train")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_cell(folder: str | PathLike[str], cell: CellFile) -> None:
    """Add a cell with an object to an unfinished dataset (see `finish_dataset`), so that a run can resume."""
    check_cell_name(cell.name)
    _write_planes(Path(folder) / _GROWING, cell)


def is_written(folder: str | PathLike[str], name: str) -> bool:
    """Whether :func:`write_cell` has added a cell of this name."""
    return (Path(folder) / _GROWING / "obj" / f"{name}.tif").is_file()


def finish_dataset(folder: str | PathLike[str], notes: DatasetNotes) -> None:
    """Make a dataset of the added cells: its part ``train``, and ``dataset.json`` next to it."""
    write_json(Path(folder) / NOTES, notes.model_dump())
    os.replace(Path(folder) / _GROWING, Path(folder) / "train")


def _write_planes(place: Path, cell: CellFile) -> None:
    """Write the files of a cell, the object last, so that it marks a complete cell."""
    for kind in ("image", "mask", _STACK, "obj"):
        plane = getattr(cell, kind)
        if plane is None:
            continue
        if plane.dtype != np.uint8:
            plane = np.rint(255 * np.clip(plane, 0, 1)).astype(np.uint8)
        with written_aside(place / kind / f"{cell.name}.tif") as aside:
            tifffile.imwrite(aside, plane, compression="zlib")


def check_cell_name(name: str) -> None:
    """Raise an InputError if the name is not allowed for a file."""
    if Path(name).name != name or name.startswith("."):
        raise InputError(f"The cell name {name!r} cannot be used for a file: rename the cell.")


def check_no_dataset(folder: str | PathLike[str]) -> None:
    """Raise an InputError if the folder already contains a dataset or a part of one."""
    for name in (*PARTS, "mask", "image", "obj"):
        if (place := Path(folder) / name).exists():
            raise InputError(f"{place} already exists: choose another folder, or remove it first.")


def _check_writable(cells: Sequence[CellFile]) -> None:
    if not cells:
        raise InputError("There are no cells to write: crop some first.")
    # On some systems names that differ only in case are the same file.
    counts = Counter(cell.name.casefold() for cell in cells)
    for cell in cells:
        if counts[cell.name.casefold()] > 1:
            raise InputError(f"Two cells have the name {cell.name}: rename one of them.")
        check_cell_name(cell.name)
        if cell.obj is None:
            raise InputError(f"The cell {cell.name} has no object: add it, or leave out the cell.")
        if (cell.image is None) != (cells[0].image is None):
            without = cell.name if cell.image is None else cells[0].name
            raise InputError(
                f"The cell {without} has no image, but others have one: give images of all cells or of none."
            )


def read_notes(folder: str | PathLike[str]) -> DatasetNotes:
    """The notes of a dataset folder or of its part; empty notes if there is no file."""
    for path in _candidates(Path(folder), NOTES):
        if path.is_file():
            try:
                return DatasetNotes.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise InputError(
                    f"The file {path} cannot be read ({first_fault(error)}): repair it, or remove it."
                ) from None
    return DatasetNotes()


def _candidates(folder: Path, name: str) -> list[Path]:
    """Possible paths of a file of a dataset: in the folder, or next to it if the folder is a part."""
    folder = folder.absolute()  # the current folder, as ".", has no name
    return [folder / name, folder.parent / name] if folder.name in PARTS else [folder / name]


def _predicted(folder: Path) -> set[str]:
    """Names of the cells with predicted objects."""
    path = next((path for path in _candidates(folder, CELLS_FILE) if path.is_file()), None)
    if path is None:
        return set()
    with (
        reading(path, "the list of predicted objects", "repair it"),
        path.open(newline="", encoding="utf-8-sig", errors="replace") as file,
    ):
        return {row.get(_NAME) or "" for row in csv.DictReader(file) if row.get(_KIND) == PREDICTED}


def _places(folder: Path, part: str | None) -> list[Path]:
    """The folders that contain ``mask`` and its partners."""
    if not folder.exists():
        raise InputError(f"There is no folder {folder}: check its path.")
    if not folder.is_dir() or is_zarr(folder):
        raise InputError(
            f"{folder} is an image, not a dataset: cut its cells with napari-dispr dataset IMAGES LABELS "
            "--out DIR, and give that folder."
        )
    images, labels = folder / "image", folder / "labels"
    if labels.is_dir() and images.is_dir() and not (folder / "mask").is_dir():
        raise InputError(
            f"{folder} has images and labels, not yet a dataset: cut the cells with napari-dispr dataset "
            f"{images} {labels} --out DIR, and give that folder."
        )
    if (folder / "mask").is_dir() or images.is_dir():
        return [folder]
    wanted = PARTS if part is None else (part,)
    places = [folder / name for name in wanted if (folder / name).is_dir()]
    if not places:
        inside = " or ".join(wanted)
        raise InputError(
            f"The folder {folder} is not a dataset: put folders image and mask into it or into its {inside}."
        )
    return places


def _partners(places: dict[str, Path]) -> list[dict[str, Path]]:
    """The files of each name in all folders, in the order of names."""
    files = {kind: _tiffs(place) for kind, place in places.items()}
    names = sorted(set().union(*files.values()))
    if not names:
        raise InputError(f"The folder {places['mask']} has no TIFF files: put one mask per cell into it.")
    for name in names:
        have = [kind for kind in files if name in files[kind]]
        for kind, place in places.items():
            if kind not in have:
                other = files[have[0]][name]
                raise InputError(
                    f"The file {place / other.name} is missing: add it, or remove its partner {other}."
                )
    return [{kind: files[kind][name] for kind in files} for name in names]


def _tiffs(place: Path) -> dict[str, Path]:
    """TIFF files by name without ending. Hidden files, which some systems create, are ignored."""
    if not place.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.suffix.lower() in (".tif", ".tiff") and not path.name.startswith("."):
            other = found.setdefault(path.stem, path)
            if other != path:
                raise InputError(
                    f"The files {other} and {path.name} are of the same cell: remove one of them."
                )
    return found


def _read_cell(files: dict[str, Path]) -> CellFile:
    mask = _unit_range(_without_label(_read(files["mask"], 2)))
    if not (mask > INSIDE).any():
        raise InputError(f"The mask {files['mask']} is empty: segment the cell or remove its files.")
    image = obj = None
    if "image" in files:
        values = _read(files["image"], 2)
        if values.min() == values.max():
            raise InputError(f"The image {files['image']} has the same value everywhere: replace it.")
        image = _unit_range(values)
    if "obj" in files:
        obj = np.rint(255 * _unit_range(_without_label(_read(files["obj"], 3)))).astype(np.uint8)
        if not (obj > 127).any():
            raise InputError(f"The object {files['obj']} is empty: segment the cell or remove its files.")
        if (obj > 127).all():
            raise InputError(
                f"The object {files['obj']} fills the grid: segment the cell or remove its files."
            )
    stack = None
    if _STACK in files:
        stack = np.rint(255 * _unit_range(_read(files[_STACK], 3))).astype(np.uint8)
    return CellFile(files["mask"].stem, mask, image, obj, stack=stack)


def _read(path: Path, ndim: int) -> NDArray[np.generic]:
    with reading(path, "TIFF"), open_tiff(path) as tiff:
        array = np.squeeze(tiff.asarray())
    if array.shape != grid.SHAPE[:ndim]:
        size = " x ".join(["64"] * ndim)
        raise InputError(f"The file {path} has the shape {array.shape}: resize it to {size} voxels.")
    if array.dtype.kind not in "buif" or not np.isfinite(array).all() or array.min() < 0:
        raise InputError(
            f"The file {path} has negative or infinite values or NaN: save it as 8 bit integers."
        )
    return array


def _without_label(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A segmentation with the values 0 and one label becomes true and false; others are not changed."""
    inside = array == array.max()
    return inside if (inside | (array == 0)).all() and array.max() > 0 else array


def _unit_range(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Values as float32 in [0, 1].

    The full scale is 1 (binary) or 255 (as DISPR saves), or the largest value if it is above 255 (cameras
    use 12 or 14 of 16 bit).
    """
    values = array.astype(np.float32)
    top = float(values.max())
    full = next((limit for limit in (1.0, 255.0) if top <= limit), top)
    return values / np.float32(full)
