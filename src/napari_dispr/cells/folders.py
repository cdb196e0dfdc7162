"""Dataset folders as DISPR and SHAPR read them: train|test/{obj,image,mask}/NAME.tif, on the model grid.

Knows file names and what the numbers in the files mean, nothing of models.
"""

from dataclasses import dataclass
from hashlib import sha256
from os import PathLike
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE, Crop
from napari_dispr.errors import InputError

PARTS = ("train", "test")


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
    """

    name: str
    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    obj: NDArray[np.uint8] | None

    @property
    def fingerprint(self) -> str:
        """Of mask and image: tells whether a model was trained on this cell, whatever its file is called."""
        planes = [plane for plane in (self.mask, self.image) if plane is not None]
        content = b"".join(np.round(plane * 255).astype(np.uint8).tobytes() for plane in planes)
        return sha256(content).hexdigest()[:16]

    def crop(self, label: int) -> Crop:
        """This cell as a crop that was not moved: a voxel is a pixel of the 64 x 64 picture."""
        centre = (grid.CENTRE, grid.CENTRE)
        return Crop(label, self.mask, self.image, 1.0, grid.grid_to_pixel(1.0, centre), known_scale=1.0)


def read_dataset(
    folder: str | PathLike[str], part: str | None = None, need_objects: bool = False
) -> list[CellFile]:
    """All cells of a dataset, in the order of their names, those of ``train`` first.

    Parameters
    ----------
    folder : path
        Holds ``train`` or ``test`` or both, or is one such part: the folders ``image`` and ``mask``,
        and ``obj`` where objects are needed.
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
    return [
        _read_cell(files)
        for place in _places(Path(folder), part)
        for files in _partners({kind: place / kind for kind in kinds})
    ]


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
    return {
        path.stem: path
        for path in sorted(place.iterdir())
        if path.suffix.lower() in (".tif", ".tiff") and not path.name.startswith(".")
    }


def _read_cell(files: dict[str, Path]) -> CellFile:
    mask = _unit_range(_read(files["mask"], 2))
    if not (mask > INSIDE).any():
        raise InputError(f"The mask {files['mask']} is empty: segment the cell or remove its files.")
    image = _read(files["image"], 2)
    if image.min() == image.max():
        raise InputError(f"The image {files['image']} has the same value everywhere: replace it.")
    obj = None
    if "obj" in files:
        obj = np.rint(255 * _unit_range(_read(files["obj"], 3))).astype(np.uint8)
        if not (obj > 127).any():
            raise InputError(f"The object {files['obj']} is empty: segment the cell or remove its files.")
    return CellFile(files["mask"].stem, mask, _unit_range(image), obj)


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


def _unit_range(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Values as float32 in [0, 1].

    Full scale is what the values say: 1 (binary), 255 (as DISPR saves), else the 16 bit range or, above
    that, the largest value.
    """
    values = array.astype(np.float32)
    top = float(values.max())
    full = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    return values / np.float32(full)
