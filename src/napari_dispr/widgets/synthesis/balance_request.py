"""The request of "Balance classes", its problems in words, and its run; no Qt.

True shapes of the cells of a picture are not known: all shapes of the folder are predicted.
"""

import io
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Labels

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop, Scaling, check_fields, crop_cells, usual_scale
from napari_dispr.cells.folders import DatasetNotes, check_no_dataset
from napari_dispr.errors import InputError
from napari_dispr.events import mapped
from napari_dispr.files import A_TABLE, reading, separator_of
from napari_dispr.prediction.notes import Note, left_out_notes, sentences
from napari_dispr.synthesis.balance_plan import Plan, plan
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.widgets.parts.loading import load_torch
from napari_dispr.widgets.parts.threads import Progress

#: Columns of a label layer's table that hold the label of each row.
_LABEL_COLUMNS = ("index", "label")
#: Whole numbers are classes where there are few of them.
_MOST_NUMBERS = 20
_SHAPES = "%v of %m shapes"


@dataclass(frozen=True, slots=True, eq=False)
class BalanceRequest:
    """One press of the button; the planes are not read yet. ``classes`` has the class of each label."""

    image: DisplayedPlane
    labels: DisplayedPlane
    classes: dict[int, str]
    model: str
    quality: str
    at_most: int
    seed: int
    folder: Path


def class_columns(features: pd.DataFrame) -> list[str]:
    """Columns of ``layer.features`` that may hold classes: at least two, and fewer than there are cells."""
    found = []
    cells = features[_labels_of(features) > 0]
    for name in features.columns:
        values = cells[name].dropna()
        values = values[values.astype(str).str.strip() != ""]
        kinds = values.nunique()
        whole = pd.api.types.is_integer_dtype(values) and kinds <= _MOST_NUMBERS
        worded = not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
        if name not in _LABEL_COLUMNS and (whole or worded) and 2 <= kinds < len(values):
            found.append(str(name))
    return found


def classes_of_layer(features: pd.DataFrame, column: str) -> dict[int, str]:
    """The class of each label that has one, from ``layer.features``.

    The column ``index`` or ``label`` holds the label of a row. Without such a column the row number is the
    label (row 0: background), as in napari.
    """
    values = features[column]
    return {
        int(label): str(value).strip()
        for label, value in zip(_labels_of(features), values, strict=True)
        if label > 0 and not pd.isna(value) and str(value).strip()
    }


def _labels_of(features: pd.DataFrame) -> "pd.Series[int]":
    for name in _LABEL_COLUMNS:
        if name in features and pd.api.types.is_integer_dtype(features[name]):
            return features[name]
    return pd.Series(np.arange(len(features)), index=features.index)


def with_table(features: pd.DataFrame, path: Path) -> pd.DataFrame:
    """``layer.features`` with the columns of a CSV file, which has the label of each row in its column
    ``label`` (or ``index``).

    Raises an InputError if the file is no such table.
    """
    with reading(path, *A_TABLE):
        text = path.read_text(encoding="utf-8-sig")
        table = pd.read_csv(io.StringIO(text), sep=separator_of(text)).rename(columns=str.strip)
    named = [name for name in map(str, table) if name.lower() in _LABEL_COLUMNS]
    if not named or not pd.api.types.is_integer_dtype(table[named[0]]) or table[named[0]].duplicated().any():
        raise InputError(
            f"{path.name} has no column label with the number of a cell in each row, and each number once: "
            "add it, and a column with the class of the cell."
        )
    table = table.rename(columns={named[0]: _LABEL_COLUMNS[0]})
    own = features.drop(columns=[name for name in (*table, *_LABEL_COLUMNS) if name in features])
    own[_LABEL_COLUMNS[0]] = _labels_of(features)
    return own.merge(table, how="outer", on=_LABEL_COLUMNS[0])


def planned(classes: Mapping[int, str], at_most: int) -> Plan:
    """Number of shapes of each cell, so that each class gets the size of the largest."""
    names = _names(classes)
    return plan({names[label]: kind for label, kind in classes.items()}, [], None, at_most)


def _names(classes: Mapping[int, str]) -> dict[int, str]:
    """File names of the cells, from which their classes can be read."""
    width = len(str(max(classes, default=0)))
    return {label: f"{_plain(kind)}_{label:0{width}d}" for label, kind in classes.items()}


def _plain(kind: str) -> str:
    """A class as a part of a file name; digits at its end would be read as the number of a cell."""
    text = re.sub(r"[^\w-]+", "_", kind).strip("_-") or "class"
    return f"{text}_" if text[-1].isdigit() else text


def make_request(
    image: DisplayedPlane | None,
    labels: DisplayedPlane | None,
    layer: Labels | None,
    column: str | None,
    **chosen: Any,
) -> BalanceRequest:
    """The request that the inputs make, without reading a pixel.

    Raises an InputError if something is missing or does not fit together.
    """
    if image is None or labels is None or layer is None:
        raise InputError("Choose a picture and its labels.")
    if image.shape != labels.shape:
        raise InputError(
            f'"{labels.name}" has another size than "{image.name}": choose labels made from this picture.'
        )
    if not column:
        raise InputError(
            f'The table of "{layer.name}" has no column of classes: press "From CSV…" and choose a table '
            "with the columns label and class, a row for each cell."
        )
    if chosen["folder"] is None:
        raise InputError("Choose a folder to write to.")
    check_no_dataset(chosen["folder"])
    return BalanceRequest(image, labels, classes_of_layer(layer.features, column), **chosen)


def run(request: BalanceRequest) -> Generator[Progress, None, str]:
    """Predict and write; returns a sentence on what was written.

    A run that ends early leaves its shapes in the folder; the same request continues with them.
    """
    load_torch()
    from napari_dispr.synthesis.balance import Augmented, Source, iter_write_balanced, shape_model_of

    model = shape_model_of(request.model)
    card = model.card
    size = request.image.pixel_size(card.unit)
    scale = usual_scale(size, card.voxel_size)
    sides = grid.pixel_sides(request.image.to_world)
    crops, left_out = _crops(request, Scaling(scale, card.typical_extent, size, card.voxel_size, sides))
    classes = {crop.label: request.classes[crop.label] for crop in crops}
    names = _names(classes)
    sources = [Source(names[crop.label], classes[crop.label], crop, None) for crop in crops]
    chosen = planned(classes, request.at_most)
    notes = DatasetNotes(
        voxel_size=card.voxel_size if scale == "physical" else None,
        unit=card.unit if scale == "physical" else "pixel",
        source=[request.image.name, request.labels.name],
    )
    settings = {"quality": request.quality, "seed": request.seed}
    events = iter_write_balanced(sources, chosen, model, request.folder, notes=notes, settings=settings)
    progress = Progress(0, sum(chosen.members.values()), _SHAPES)

    def shown(event: Any) -> Progress:
        nonlocal progress
        if isinstance(event, Augmented):
            progress = Progress(event.done, event.total, _SHAPES)
        return progress

    written = yield from mapped(events, shown)
    counts = ", ".join(f"{count} {kind}" for kind, count in written["after"].items())
    return " ".join(
        [
            f"Written to {request.folder}: {counts}.",
            *written["warnings"],
            *sentences(left_out, {}, len(crops)),
        ]
    )


def _crops(request: BalanceRequest, scaling: Scaling) -> tuple[list[Crop], list[Note]]:
    """The cells that have a class, on the model grid, and why others were left out."""
    image, labels = check_fields(np.asarray(request.image.array), np.asarray(request.labels.array))
    crops, left_out = crop_cells(image, labels, None, scaling)
    chosen = [crop for crop in crops if crop.label in request.classes]
    if len({request.classes[crop.label] for crop in chosen}) < 2:
        raise InputError("All cells in view have one class: show the picture that the table belongs to.")
    return chosen, left_out_notes({cell: left_out[cell] for cell in left_out if cell in request.classes})
