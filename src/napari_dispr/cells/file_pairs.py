"""Which label file belongs to which image file, by their names. Reads no file."""

import unicodedata
from os import PathLike
from pathlib import Path

from napari_dispr.errors import InputError
from napari_dispr.files import TIFF

#: Endings that a label file may have after the name of its image.
_LABEL_ENDINGS = tuple(
    mark + word for word in ("cp_masks", "masks", "mask", "labels", "label", "seg") for mark in "_-"
)
_ENDINGS = (".ome.tiff", ".ome.tif", *TIFF, ".ome.zarr", ".zarr", ".npy")
#: Cellpose writes a file with this ending for each image on which it is trained.
_FLOWS = "_flows"
#: Formats of one plane; among other files, one without a partner is a preview, and is left out.
_FLAT = (".png", ".jpg", ".jpeg", ".bmp")


def pair_files(
    images: str | PathLike[str] | None, labels: str | PathLike[str], *, flat: bool = False
) -> list[tuple[Path | None, Path]]:
    """Pair an image and a label file, or all files of two folders, in the order of names; without images only
    labels.

    Partners have the same name without ending (.tif, .ome.tif, .zarr, .npy). Names of labels may end in
    _cp_masks, _masks, _labels, _seg and similar; in one folder with images and labels, they must. If
    ``flat``, PNG, JPEG and BMP files of a folder count, too.

    Raises an InputError if one is a file and the other a folder, a folder has no such files, or a file has no
    partner.
    """
    labels = Path(labels)
    sources = [labels] if images is None else [Path(images), labels]
    for path in sources:
        if not path.exists():
            raise InputError(f"There is no file or folder {path}: check its path.")
    folders = [_is_folder(path) for path in sources]
    if images is not None and folders[0] != folders[1]:
        raise InputError(f"One of {sources[0]} and {labels} is a folder: give two files or two folders.")
    if not folders[0]:
        check_no_image(labels)
        if images is not None and labels.resolve() == Path(images).resolve():
            raise InputError(f"{images} is given as the image and as its labels: give two files.")
        return [(None if images is None else Path(images), labels)]
    if images is None:
        return [(None, path) for path in _files(labels, flat).values()]
    pairs, alone = partners(Path(images), labels, flat=flat)
    if alone:
        raise InputError(alone[0][1])
    return list(pairs)


def partners(
    images: Path, labels: Path, *, flat: bool = False
) -> tuple[list[tuple[Path, Path]], list[tuple[Path, str]]]:
    """Pair the files of two folders, or of one, as `pair_files`; and those without a partner, each with a
    sentence that says so.

    Raises an InputError if a folder has no such files, or two with the same name.
    """
    of_labels = _files(labels, flat)
    together = labels.resolve() == images.resolve()
    of_images = _files(images, flat)
    named: dict[tuple[str, str], Path] = {}
    for stem, path in of_labels.items():
        for ending in ("", *_LABEL_ENDINGS):
            if stem.lower().endswith(ending):
                named.setdefault((_composed(stem[: len(stem) - len(ending)]), ending), path)
    found = {
        stem: [named[_composed(stem), e] for e in ("", *_LABEL_ENDINGS) if (_composed(stem), e) in named]
        for stem in of_images
    }
    if together:  # an image is not its own partner, and labels are no images
        found = {stem: [path for path in paths if path != of_images[stem]] for stem, paths in found.items()}
        of_both = {path for paths in found.values() for path in paths}
        of_images = {stem: path for stem, path in of_images.items() if path not in of_both}
        of_labels = {stem: path for stem, path in of_labels.items() if path in of_both}
    # Of two segmentations the first, such as _cp_masks.
    pairs = [(image, found[stem][0]) for stem, image in of_images.items() if found[stem]]
    alone = [
        (
            image,
            f"{image} has no labels in {labels}: add them under the name {stem}{'_masks' * together}, or "
            "remove the image.",
        )
        for stem, image in of_images.items()
        if not found[stem]
    ]
    used = {path for stem in of_images for path in found[stem]}
    alone += [
        (path, f"{path} has no image with this name in {images}: add it, or remove the labels.")
        for path in of_labels.values()
        if path not in used
    ]
    paired = {path.suffix.lower() for pair in pairs for path in pair}
    previews = {suffix for suffix in _FLAT if suffix not in paired} if pairs else set()
    return pairs, [(path, fault) for path, fault in alone if path.suffix.lower() not in previews]


def _composed(name: str) -> str:
    """A name with one character for each letter: macOS writes an umlaut as two, other systems as one."""
    return unicodedata.normalize("NFC", name)


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder of files, not an OME-Zarr."""
    return path.is_dir() and not is_zarr(path)


def check_no_image(path: Path) -> None:
    """Raise an InputError if an OME-Zarr that is given as labels is an image with labels in it."""
    if (
        path.is_dir()
        and is_zarr(path)
        and (inner := sorted(one for one in path.glob("labels/*") if one.is_dir()))
    ):
        raise InputError(f"{path} is an image: its labels are in it. Give {inner[0]} as the labels.")


def is_zarr(path: Path) -> bool:
    """Whether a folder is an OME-Zarr."""
    inside = any((path / name).exists() for name in (".zgroup", ".zattrs", ".zarray", "zarr.json"))
    return inside or path.suffix.lower() == ".zarr"


def _files(folder: Path, flat: bool) -> dict[str, Path]:
    """The files of a folder, by name without ending; of files with one name, those of one plane come last."""
    found: dict[str, Path] = {}
    for endings in (_ENDINGS, _FLAT) if flat else (_ENDINGS,):
        before = set(found)
        for path in sorted(folder.iterdir()):
            stem = stem_of(path)
            if path.name.startswith(".") or not path.name.lower().endswith(endings) or stem in before:
                continue
            other = found.setdefault(stem, path)
            if other != path:
                raise InputError(
                    f"The files {other} and {path.name} have the same name: rename or remove one."
                )
    own = {stem + _FLOWS for stem in found}
    found = {stem: path for stem, path in found.items() if stem not in own}
    if not found:
        known = "TIFF, OME-Zarr, NPY or PNG" if flat else "TIFF, OME-Zarr or NPY"
        raise InputError(f"The folder {folder} has no {known} files: choose another.")
    return found


def stem_of(path: Path) -> str:
    """The name of a file without its ending."""
    ending = next((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)]
