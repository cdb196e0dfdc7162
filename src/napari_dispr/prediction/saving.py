"""A prediction as a folder of files: what is written where, tables and their column dictionaries.

Knows a prediction by what it has, not its class: `results` makes one of a folder.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from napari_dispr.files import write_json, written_aside
from napari_dispr.prediction.tables import measure, measure_cells

if TYPE_CHECKING:
    from napari_dispr.prediction.result import Prediction

#: What makes a folder a saved prediction.
PREDICTION_FILE = "prediction.json"
CELLS = "cells"
TABLES = ("morphometry.csv", "cells.csv")
#: Volumes of a cell that lie in folders of their own.
_VOLUMES: tuple[Literal["consensus", "occupancy"], ...] = ("consensus", "occupancy")


def save_cell(prediction: "Prediction", folder: str | os.PathLike[str], label: int) -> None:
    """Write one cell's files only; see `Prediction.save`."""
    folder, stem, ensemble = Path(folder), prediction.stem(label), prediction[label]
    made, depth = prediction.provenance, prediction.depth
    ensemble.save_npz(folder / CELLS / f"{stem}.npz")
    ensemble.save_tiff(folder / CELLS / f"{stem}.ome.tif", made, depth=depth)
    for what in _VOLUMES:
        ensemble.save_tiff(folder / what / f"{stem}.ome.tif", made, what, depth=depth)


def save_tables(
    prediction: "Prediction", folder: str | os.PathLike[str], measures: pd.DataFrame | None = None
) -> None:
    """Write the tables and ``prediction.json`` only; see `Prediction.save_tables`."""
    folder = Path(folder)
    table = measure(prediction) if measures is None else measures
    tables = dict(zip(TABLES, (table, measure_cells(prediction, table)), strict=True))
    for name, content in tables.items():
        write_table(folder / name, content)
    write_json(
        folder / PREDICTION_FILE,
        {
            **prediction.provenance,
            "warnings": prediction.warnings,
            "unit": prediction.unit,
            "image_to_world": prediction.image_to_world,
            "image_shape": prediction.image_shape,
            # Apart: "curvature_sd" is over the surface in one and over the members in the other.
            "columns": {name: content.attrs["columns"] for name, content in tables.items()},
            "intervals": {name: one.model_dump() for name, one in prediction.intervals.items()},
            "cells": {
                str(label): {
                    "file": prediction.stem(label),
                    "grid_to_world": prediction.grid_to_world(label),
                    "unit": ensemble.unit,
                    "zoom": ensemble.zoom,
                    "members": len(ensemble),
                    "numbers": ensemble.numbers,
                    "kept": prediction.kept.get(label),
                    "rejected": prediction.rejected.get(label, ()),
                    "warning": prediction.unlike.get(label, ""),
                }
                for label, ensemble in prediction.items()
            },
        },
    )


def remove_prediction(folder: str | os.PathLike[str]) -> None:
    """Remove a saved prediction, so that a new one in its place does not mix with it.

    Only what its ``prediction.json`` lists is removed; without that file nothing is.
    """
    folder = Path(folder)
    try:
        cells = json.loads((folder / PREDICTION_FILE).read_text(encoding="utf-8"))["cells"].values()
        stems = [str(cell["file"]) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    # The JSON goes first: without it the rest is no prediction.
    (folder / PREDICTION_FILE).unlink()
    for name in TABLES:
        (folder / name).unlink(missing_ok=True)
        columns_file(folder / name).unlink(missing_ok=True)
    for stem in stems:
        for place, suffix in ((CELLS, ".npz"), *((place, ".ome.tif") for place in (CELLS, *_VOLUMES))):
            (folder / place / f"{Path(stem).name}{suffix}").unlink(missing_ok=True)


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> list[Path]:
    """Write a table as CSV, and beside it its column dictionary: ``NAME.columns.csv``.

    Parameters
    ----------
    path : path
        Ends in ``.csv``.
    table : DataFrame
        ``attrs["columns"]`` says of each column "unit: what it is", as in what `measure` gives.

    Returns
    -------
    list of Path
        The two files. The dictionary has the columns ``column``, ``unit`` ("no unit" for plain numbers and
        words) and ``meaning``.
    """
    path = Path(path)
    texts = {name: table.attrs.get("columns", {}).get(name, "") for name in table.columns}
    rows = [(name, *text.partition(": ")[::2]) for name, text in texts.items()]
    columns = pd.DataFrame(rows, columns=["column", "unit", "meaning"])
    for name, content in ((columns_file(path), columns), (path, table)):
        with written_aside(name) as aside:
            content.to_csv(aside, index=False)
    return [path, columns_file(path)]


def columns_file(path: str | os.PathLike[str]) -> Path:
    """Where the column dictionary of a table lies."""
    return Path(path).with_suffix(".columns.csv")


def load_measures(folder: str | os.PathLike[str], prediction: "Prediction") -> pd.DataFrame:
    """The table that :func:`measure` would give of a saved prediction, without measuring again.

    Parameters
    ----------
    folder : path
    prediction : Prediction
        Of this folder.

    Returns
    -------
    DataFrame
        As it was written, to the last bit; measured anew where the file is missing or is of other members.
    """
    try:
        # As text first: Python's own numbers are exact, those of the reader in some versions of pandas not.
        text = pd.read_csv(Path(folder) / TABLES[0], dtype=str)
        table = text.apply(_numbers)
        content = json.loads((Path(folder) / PREDICTION_FILE).read_text(encoding="utf-8"))
        columns = content["columns"][TABLES[0]]
        table.attrs["columns"] = {name: columns[name] for name in table.columns}
        rows = list(zip(table["label"], table["member"], strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return measure(prediction)
    expected = [(label, member) for label, ensemble in prediction.items() for member in ensemble.numbers]
    return table if rows == expected else measure(prediction)


def _numbers(text: pd.Series) -> pd.Series:
    """Whole numbers where all are written as such, else floating ones."""
    whole = text.str.fullmatch(r"-?\d+").eq(True).all()
    return text.astype(int if whole else float)
