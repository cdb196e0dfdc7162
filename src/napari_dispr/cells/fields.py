"""Which fields a batch has: pairs of image and labels in a folder, rows of a CSV, or an OME-Zarr plate."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.cells.file_pairs import partners, stem_of
from napari_dispr.cells.pictures import SERIES, axes_of, read_plane
from napari_dispr.cells.stack_files import stated_pixel_size
from napari_dispr.cells.stated_sizes import UNIT, micrometers
from napari_dispr.errors import InputError
from napari_dispr.files import A_TABLE, as_file_name, in_natural_order, reading, separator_of
from napari_dispr.grid import LARGEST, SMALLEST

#: Names of folders with the images and with the labels of a batch.
_FOLDERS = (("images", "image"), ("labels", "label", "masks", "mask"))
#: How the name of a table ends.
_TABLES = (".csv", ".tsv", ".txt")
#: Columns of a CSV that say what to read; others are carried into the tables.
_COLUMNS = ("name", "image", "labels", "pixel_size")
#: Columns of the tables for the place in a series.
_AXIS = {"T": "time_point", "Z": "slice"}


@dataclass(frozen=True, slots=True)
class Field:
    """One picture with its labels, not read yet. Without an image only the segmentation is used.

    Attributes
    ----------
    name : str
        Differs between the fields of a batch; the name of the field's folder.
    place : mapping of axis to int
        Which time point (T) and slice (Z) of the files.
    pixel_size : float or None
        In micrometer; None: as the files say.
    columns : mapping of str to str
        What else is known of the field, for the tables: its condition, its well.
    fault : str
        Why it cannot be read; empty if nothing is known to be wrong.
    """

    name: str
    image: Path | None
    labels: Path | None
    place: Mapping[str, int] = field(default_factory=dict)
    pixel_size: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


def list_fields(source: str | PathLike[str]) -> list[Field]:
    """The fields of a batch, in the order of their names, or of the rows of the table.

    Raises an InputError if there is no such file or folder, or it has no fields.

    Parameters
    ----------
    source : path
        One of

        - a folder with image/label pairs (`file_pairs.partners`), or with the folders ``images`` and
          ``labels`` (or ``masks``);
        - a CSV with the columns ``image``, ``labels`` and perhaps ``name``, ``pixel_size`` and others; paths
          in it are relative to its folder;
        - an OME-Zarr plate whose images have labels.

    Returns
    -------
    list of Field
        One for each time point and slice of a series. A file without a partner is a field with a ``fault``.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"There is no file or folder {source}: check its path.")
    if source.suffix.lower() in _TABLES and not source.is_dir():
        found = _of_table(source)
    elif _attributes(source).get("plate"):
        found = _of_plate(source)
    elif not source.is_dir() or "multiscales" in _attributes(source):
        raise InputError(
            f"{source} is one image, no table or plate: give the folder with all images and labels, "
            f"a table ({', '.join(_TABLES)}), or use napari-dispr predict for one picture."
        )
    else:
        found = _of_folder(source)
    fields = [plane for one in found for plane in _planes(one)]
    if not fields:
        raise InputError(f"{source} holds no fields: give pairs of an image and its labels.")
    check_names(fields, str(source), " in a column name" if source.is_file() else "")
    return fields


def check_names(fields: Iterable[Field], batch: str = "The batch", where: str = "") -> None:
    """Raise an InputError if a field cannot give its name to a folder, or two have the same name."""
    seen: set[str] = set()
    for one in fields:
        if not one.name or as_file_name(one.name) != one.name:
            raise InputError(f"The field name {one.name!r} cannot be that of a folder: rename the field.")
        if one.name.lower() in seen:  # some file systems do not tell upper case from lower case
            raise InputError(
                f"{batch} has two fields with the name {one.name}: give them different names{where}."
            )
        seen.add(one.name.lower())


def read_field(
    one: Field, channel: int | None = None
) -> tuple[NDArray[Any] | None, NDArray[Any], tuple[float, float] | None]:
    """Image, labels and the sides (y, x) of a pixel in micrometer, None if they are not known.

    Raises an InputError if a file is missing or damaged, or the two do not belong together.
    """
    if one.fault:
        raise InputError(one.fault)
    assert one.labels is not None
    labels = read_plane(one.labels, one.place, labels=True)
    image = None if one.image is None else read_plane(one.image, one.place, channel)
    if one.pixel_size is not None:
        return image, labels, (one.pixel_size, one.pixel_size)
    return image, labels, (one.image and stated_pixel_size(one.image)) or stated_pixel_size(one.labels)


def _planes(one: Field) -> Iterator[Field]:
    """The field itself, or one for each time point and slice of its labels."""
    one = replace(one, name=as_file_name(one.name) or "_")
    axes = {} if one.fault or one.labels is None else axes_of(one.labels)
    series = {letter: axes[letter] for letter in SERIES if letter in axes}
    if not series:
        yield one
        return
    for index in product(*(range(length) for length in series.values())):
        place = dict(zip(series, index, strict=True))
        ends = "".join(
            f"_{letter.lower()}{at:0{len(str(series[letter] - 1))}}" for letter, at in place.items()
        )
        columns = {**one.columns, **{_AXIS[letter]: str(at) for letter, at in place.items()}}
        yield replace(one, name=one.name + ends, place=place, columns=columns)


def _of_folder(folder: Path) -> Iterator[Field]:
    images, labels = (
        next((folder / name for name in names if (folder / name).is_dir()), folder) for names in _FOLDERS
    )
    if (images == folder) != (labels == folder):
        images = labels = folder
    pairs, alone = partners(images, labels, flat=True)
    found = [Field(stem_of(image), image, path) for image, path in pairs]
    found += [Field(stem_of(path), None, None, fault=fault) for path, fault in alone]
    yield from sorted(found, key=lambda one: in_natural_order(one.name))


def _of_table(path: Path) -> Iterator[Field]:
    with reading(path, *A_TABLE):
        text = path.read_text(encoding="utf-8-sig")
        table = csv.DictReader(io.StringIO(text), delimiter=separator_of(text))
        names = [" ".join(name.split()) for name in table.fieldnames or ()]
        table.fieldnames = names = [name.lower() if name.lower() in _COLUMNS else name for name in names]
        rows = [(table.line_num, row) for row in table]
    if not {"image", "labels"} <= set(names):
        raise InputError(
            f"{path} has {'the columns ' + ', '.join(names) if names else 'no columns'}: a table of fields "
            "needs image and labels."
        )
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{path} has two columns {twice[0]!r}: rename one of them.")
    for number, row in rows:
        if None in row or None in row.values():
            raise InputError(f"Line {number} of {path} has not as many values as the first line: correct it.")
        image, labels = ((row[what] or "").strip() for what in ("image", "labels"))
        name = (row.get("name") or stem_of(Path(image or labels))).strip()
        fault = "" if labels else f"Line {number} of {path} names no labels: give a segmentation."
        size = None
        if stated := row.get("pixel_size"):
            found, unit = numeric([stated.replace(",", ".")]), row.get("unit") or UNIT
            if found is not None and SMALLEST <= found[0] <= LARGEST and micrometers(unit) == 1:
                size = float(found[0])
            else:
                fault = (
                    f"Line {number} of {path} has the pixel size {f'{stated} {unit}'!r}: give it in "
                    "micrometer, such as 0.1."
                )
        yield Field(
            name,
            path.parent / image if image else None,
            path.parent / labels if labels else None,
            pixel_size=size,
            # Spreadsheets write columns without a name where a line ends in separators.
            columns={key: value for key, value in row.items() if key and key not in _COLUMNS},
            fault=fault,
        )


def _of_plate(folder: Path) -> Iterator[Field]:
    try:
        for well in _attributes(folder)["plate"]["wells"]:
            place, (row, _, column) = folder / well["path"], well["path"].partition("/")
            for image in _attributes(place).get("well", {}).get("images", []):
                path = place / image["path"]
                names = _attributes(path / "labels").get("labels") or []
                fault = (
                    "" if names else f"{path} has no labels: segment it, and save them in {path / 'labels'}."
                )
                columns = {"well": f"{row}{column}", "row": row, "column": column, "site": str(image["path"])}
                labels = path / "labels" / names[0] if names else None
                yield Field(f"{row}{column}_{image['path']}", path, labels, columns=columns, fault=fault)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{folder} is a damaged OME-Zarr plate: write it again.") from None


def _attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a Zarr group, of either version; empty if there are none."""
    for name in ("zarr.json", ".zattrs"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            attributes = content.get("attributes", {}) if name == "zarr.json" else content
            return dict(attributes.get("ome", attributes))
        except (OSError, ValueError, AttributeError, TypeError):
            continue
    return {}


def numeric(values: list[str]) -> NDArray[np.float64] | None:
    """Text as numbers, empty as NaN; None if some are no numbers."""
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None
