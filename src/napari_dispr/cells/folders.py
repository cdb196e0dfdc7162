"""Dataset folders as DISPR and SHAPR read them: train|test/{obj,image,mask}/NAME.tif, on the model grid.

Knows file names and what the numbers in the files mean, nothing of models.
"""

import csv
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE, Crop
from napari_dispr.errors import InputError
from napari_dispr.files import write_json, written_aside
from napari_dispr.settings import Settings

PARTS = ("train", "test")
#: The file beside the parts that says where the cells are from.
NOTES = "dataset.json"
#: The table beside the parts that says which objects are real and which were predicted, where some were.
CELLS_FILE = "cells.csv"
#: Columns of it, and what the second says of a cell whose object was predicted.
_NAME, _KIND, PREDICTED = "name", "kind", "predicted"
#: Where the part "train" grows, cell by cell, before it is whole.
_GROWING = ".train"


@dataclass(frozen=True, slots=True, eq=False)
class CellFile:
    """One cell of a dataset folder, on the model grid already.

    Attributes
    ----------
    name : str
        File name without its ending.
    mask : (64, 64) float32
        Antialiased segmentation of the imaged plane, 0 to 1.
    image : (64, 64) float32 or None
        Intensities of the imaged plane, 0 to 1.
    obj : (64, 64, 64) uint8 or None
        Antialiased object, axes (z, y, x), inside above 127.5.
    predicted : bool
        Whether the object was predicted, as the table beside the parts says: it is no truth to compare with.
    """

    name: str
    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    obj: NDArray[np.uint8] | None
    predicted: bool = False

    @property
    def fingerprint(self) -> str:
        """Of mask and image: tells whether a model was trained on this cell, whatever its file is called."""
        planes = [plane for plane in (self.mask, self.image) if plane is not None]
        content = b"".join(np.round(plane * 255).astype(np.uint8).tobytes() for plane in planes)
        return sha256(content).hexdigest()[:16]

    @property
    def shape_fingerprint(self) -> str:
        """Of the object: tells the same shape, whatever picture comes with it. Empty without object."""
        if self.obj is None:
            return ""
        return sha256(np.packbits(self.obj > 127).tobytes()).hexdigest()[:16]

    def is_among(self, seen: Set[str]) -> bool:
        """Whether its picture or its object is among fingerprints, such as those of a model's card."""
        return not seen.isdisjoint((self.fingerprint, self.shape_fingerprint or self.fingerprint))

    def crop(self, label: int) -> Crop:
        """This cell as a crop that was not moved: a voxel is a pixel of the 64 x 64 picture."""
        centre = (grid.CENTRE, grid.CENTRE)
        return Crop(label, self.mask, self.image, 1.0, grid.grid_to_pixel(1.0, centre), known_scale=1.0)


class DatasetNotes(Settings):
    """Where the cells of a dataset folder are from, and how large they really are.

    Attributes
    ----------
    voxel_size : float or None
        Side of a voxel of the grid in ``unit``; None where it is not known.
    unit : str
    source : list of str
        Names of what the cells were cut from.
    plane : "middle", int or None
        The slice that became the imaged plane, as it was asked for.
    left_out : dict of str to int
        Why labels did not become cells, and how many.
    """

    # Of a file that a later version wrote, what is known here is read.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    voxel_size: Annotated[float, Field(gt=0)] | None = None
    unit: str = "pixel"
    source: list[str] = Field(default_factory=list)
    plane: Literal["middle"] | int | None = None
    left_out: dict[str, int] = Field(default_factory=dict)


def read_dataset(
    folder: str | PathLike[str], part: str | None = None, need_objects: bool = False
) -> list[CellFile]:
    """All cells of a dataset, in the order of their names, those of ``train`` first.

    Parameters
    ----------
    folder : path
        Holds ``train`` or ``test`` or both, or is one such part: the folders ``mask`` and ``image``,
        and ``obj`` where objects are needed. Where there is no folder ``image``, cells have none.
    part : "train", "test" or None
        The part to read; None reads all there are. A folder that is a part itself is read whatever
        this says.
    need_objects : bool
        Also read the objects; otherwise ``obj`` is not looked at.

    Raises
    ------
    InputError
        If the folder is none, holds no cells, or a file has no partner, cannot be read, or has the
        wrong size or values; the sentence names the file.
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
    return [replace(cell, predicted=cell.name in predicted) for cell in map(_read_cell, cells)]


def write_dataset(folder: str | PathLike[str], cells: Sequence[CellFile], notes: DatasetNotes) -> None:
    """Write cells as the part ``train`` of a dataset folder, and ``dataset.json`` beside it.

    What :func:`read_dataset` reads of it are the same cells, rounded to 8 bit; their fingerprints are equal.
    There is no folder ``image`` where cells have none.

    Parameters
    ----------
    folder : path
        May exist; it becomes a dataset only when all is written.
    cells : sequence of CellFile
        With objects, and either all or none of them with images.
    notes : DatasetNotes

    Raises
    ------
    InputError
        If the folder holds a dataset already, or cells have names that files cannot have, two have
        the same, or some lack what others have.
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
            _write_kinds(folder / CELLS_FILE, cells)
        os.replace(aside, folder / "train")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_cell(folder: str | PathLike[str], cell: CellFile) -> None:
    """Add a cell to a dataset that becomes one by :func:`finish_dataset`, so that a long run can go on.

    Parameters
    ----------
    folder : path
    cell : CellFile
        With an object.

    Raises
    ------
    InputError
        If its name cannot be that of a file.
    """
    check_cell_name(cell.name)
    _write_planes(Path(folder) / _GROWING, cell)


def is_written(folder: str | PathLike[str], name: str) -> bool:
    """Whether a cell of this name was added by :func:`write_cell`, whole."""
    return (Path(folder) / _GROWING / "obj" / f"{name}.tif").is_file()


def finish_dataset(folder: str | PathLike[str], notes: DatasetNotes) -> None:
    """Make a dataset of the cells that were added: its part ``train``, and ``dataset.json`` beside it."""
    write_json(Path(folder) / NOTES, notes.model_dump())
    os.replace(Path(folder) / _GROWING, Path(folder) / "train")


def _write_planes(place: Path, cell: CellFile) -> None:
    """The object last: it says that all is there."""
    for kind in ("image", "mask", "obj"):
        plane = getattr(cell, kind)
        if plane is None:
            continue
        if plane.dtype != np.uint8:
            plane = np.rint(255 * np.clip(plane, 0, 1)).astype(np.uint8)
        with written_aside(place / kind / f"{cell.name}.tif") as aside:
            tifffile.imwrite(aside, plane, compression="zlib")


def check_cell_name(name: str) -> None:
    """Whether a file can have the name of a cell.

    Raises
    ------
    InputError
        If not.
    """
    if Path(name).name != name or name.startswith("."):
        raise InputError(f"The cell {name!r} has a name that files cannot have: rename it.")


def check_no_dataset(folder: str | PathLike[str]) -> None:
    """Whether cells may be written there, before anything slow.

    Raises
    ------
    InputError
        If the folder holds a dataset, or part of one, already.
    """
    for name in (*PARTS, "mask", "image", "obj"):
        if (place := Path(folder) / name).exists():
            raise InputError(f"{place} is there already: give another folder, or remove it first.")


def _check_writable(cells: Sequence[CellFile]) -> None:
    if not cells:
        raise InputError("There are no cells to write: cut some first.")
    # Names that differ in case alone are one file on some systems.
    counts = Counter(cell.name.casefold() for cell in cells)
    for cell in cells:
        if counts[cell.name.casefold()] > 1:
            raise InputError(f"Two cells have the name {cell.name}: give each its own.")
        check_cell_name(cell.name)
        if cell.obj is None:
            raise InputError(f"The cell {cell.name} has no object: a dataset to train on needs all.")
        if (cell.image is None) != (cells[0].image is None):
            without = cell.name if cell.image is None else cells[0].name
            raise InputError(f"The cell {without} has no image, others have: give images of all or of none.")


def read_notes(folder: str | PathLike[str]) -> DatasetNotes:
    """The notes of a dataset folder, or of the one whose part it is; as nothing is known without a file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    for path in _beside(Path(folder), NOTES):
        if path.is_file():
            try:
                return DatasetNotes.model_validate_json(path.read_bytes())
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "its text"
                raise InputError(
                    f"The file {path} cannot be read ({where}): repair it, or remove it."
                ) from None
    return DatasetNotes()


def _beside(folder: Path, name: str) -> list[Path]:
    """Where a file that tells of a dataset can be: in its folder, and beside a part of it."""
    return [folder / name, folder.parent / name] if folder.name in PARTS else [folder / name]


def _predicted(folder: Path) -> set[str]:
    """Names of the cells whose objects were predicted; none without the table of an augmented dataset."""
    path = next((path for path in _beside(folder, CELLS_FILE) if path.is_file()), None)
    if path is None:
        return set()
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return {row.get(_NAME) or "" for row in csv.DictReader(file) if row.get(_KIND) == PREDICTED}
    except (OSError, csv.Error):
        raise InputError(
            f"The file {path} cannot be read, which says of which cells the object was predicted: repair it."
        ) from None


def _write_kinds(path: Path, cells: Sequence[CellFile]) -> None:
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([_NAME, _KIND])
        table.writerows([cell.name, PREDICTED if cell.predicted else "real"] for cell in cells)


def _places(folder: Path, part: str | None) -> list[Path]:
    """The folders that hold ``mask`` and its partners."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: check its path.")
    if (folder / "mask").is_dir() or (folder / "image").is_dir():
        return [folder]
    wanted = PARTS if part is None else (part,)
    places = [folder / name for name in wanted if (folder / name).is_dir()]
    if not places:
        inside = " or ".join(wanted)
        raise InputError(
            f"The folder {folder} is no dataset: put image and mask into it or into its {inside}."
        )
    return places


def _partners(places: dict[str, Path]) -> list[dict[str, Path]]:
    """For each name, in order, its file in each of the folders."""
    files = {kind: _tiffs(place) for kind, place in places.items()}
    names = sorted(set().union(*files.values()))
    if not names:
        raise InputError(f"The folder {places['mask']} holds no TIFF files: put one mask a cell into it.")
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
    """TIFF files by their name without ending; hidden ones are left behind by some systems and skipped."""
    if not place.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.suffix.lower() in (".tif", ".tiff") and not path.name.startswith("."):
            other = found.setdefault(path.stem, path)
            if other != path:
                raise InputError(f"The files {other} and {path.name} are of one cell: remove one of them.")
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
    return CellFile(files["mask"].stem, mask, image, obj)


def _read(path: Path, ndim: int) -> NDArray[np.generic]:
    """A TIFF file on the model grid or its plane, finite and not negative."""
    try:
        array = np.squeeze(tifffile.imread(path))
    except Exception as error:  # a damaged file can fail anywhere in its decoder
        raise InputError(f"The file {path} cannot be read as TIFF: save it anew.") from error
    if array.shape != grid.SHAPE[:ndim]:
        size = " x ".join(["64"] * ndim)
        raise InputError(f"The file {path} has the shape {array.shape}: bring it to {size} voxels.")
    if array.dtype.kind not in "buif" or not np.isfinite(array).all() or array.min() < 0:
        raise InputError(f"The file {path} holds negative or not finite values: save it as 8 bit integers.")
    return array


def _without_label(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A segmentation of two values, 0 and a label, as true and false; others as they are."""
    inside = array == array.max()
    return inside if (inside | (array == 0)).all() and array.max() > 0 else array


def _unit_range(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Values as float32 in [0, 1].

    Full scale is what the values say: 1 (binary), 255 (as DISPR saves), or the largest value where that
    is above (cameras give 12 or 14 of 16 bit).
    """
    values = array.astype(np.float32)
    top = float(values.max())
    full = next((limit for limit in (1.0, 255.0) if top <= limit), top)
    return values / np.float32(full)
