"""The tables of a batch: a row for each cell of all fields, and one for each field that failed.

They are put together from the tables of the fields, one field after another, so that their size does not
matter.
"""

import csv
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from napari_dispr.cells.fields import Field, numeric
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.prediction.saving import TABLES, columns_file, write_table

#: The folder of the finished fields, a folder each.
FIELDS = "cells"
CELLS_TABLE, PARQUET, FAILED = "cells.csv", "cells.parquet", "failed.csv"
#: Columns of words, and of whole numbers, in the tables of fields; the others are numbers.
_WORDS, _WHOLE = ("field", "kept", "warning"), ("label", "members", "modes")
#: Rows that are written at once.
_ROWS = 20_000


def check_columns(fields: Sequence[Field]) -> None:
    """Raise an `InputError` if a column that a user gave has the name of one of ours."""
    for name in {name for one in fields for name in one.columns}:
        if name in (*_WORDS, *_WHOLE, "ambiguity") or name.endswith(("_mean", "_sd", "_low", "_high")):
            raise InputError(f"The table of fields has a column {name!r}, as the results have: rename it.")


def write_failed(out: Path, failed: Sequence[tuple[Field, str]]) -> None:
    """Write ``failed.csv``; without failed fields there is none."""
    if not failed:
        (out / FAILED).unlink(missing_ok=True)
        return
    rows = [(one.name, one.image or "", one.labels or "", reason) for one, reason in failed]
    with written_aside(out / FAILED) as aside:
        pd.DataFrame(rows, columns=["field", "image", "labels", "reason"]).to_csv(aside, index=False)


def remove_tables(out: Path) -> None:
    """Remove the tables of a batch without finished fields."""
    for path in (out / CELLS_TABLE, columns_file(out / CELLS_TABLE), out / PARQUET):
        path.unlink(missing_ok=True)


def write_tables(out: Path, done: Sequence[tuple[Field, Path]]) -> int:
    """Write ``cells.csv``, its column dictionary and, with pyarrow, ``cells.parquet``; the number of cells.

    Parameters
    ----------
    done : sequence of (Field, Path)
        The finished fields, each with its folder.
    """
    own = list(dict.fromkeys(name for one, _ in done for name in one.columns))
    texts: dict[str, str] = {}
    measured: dict[str, None] = {}
    for _, folder in done:
        with open(folder / TABLES[1], newline="", encoding="utf-8") as file:
            measured |= dict.fromkeys(next(csv.reader(file)))
        if not measured.keys() <= texts.keys():
            columns = pd.read_csv(columns_file(folder / TABLES[1]), keep_default_na=False)
            pairs = zip(columns["unit"], columns["meaning"], strict=True)
            texts = (
                dict(zip(columns["column"], (f"{unit}: {meaning}" for unit, meaning in pairs), strict=True))
                | texts
            )
    names = ["field", *own, *measured]
    texts |= {"field": "no unit: name of the field", **dict.fromkeys(own, "as in the table of fields: ")}
    head = pd.DataFrame(columns=names)
    head.attrs["columns"] = texts
    write_table(out / CELLS_TABLE, head)
    count = 0
    with written_aside(out / CELLS_TABLE) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        for row in _rows(done):
            writer.writerow(row)
            count += 1
    if find_spec("pyarrow"):
        _write_parquet(out, names, _kinds(done, own, names))
    else:
        (out / PARQUET).unlink(missing_ok=True)
    return count


def _rows(done: Sequence[tuple[Field, Path]]) -> Iterator[dict[str, str]]:
    for one, folder in done:
        with open(folder / TABLES[1], newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield {"field": one.name, **one.columns, **row}


def _kinds(done: Sequence[tuple[Field, Path]], own: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Type of each column: string, int64 or float64. Of a user's column all fields decide."""
    kinds = dict.fromkeys(names, "float64")
    kinds |= dict.fromkeys(_WORDS, "string") | dict.fromkeys(_WHOLE, "int64")
    for name in own:
        values = [one.columns.get(name, "") for one, _ in done]
        kinds[name] = "string" if numeric(values) is None or not any(values) else "float64"
    return {name: kinds[name] for name in names}


def _write_parquet(out: Path, names: Sequence[str], kinds: dict[str, str]) -> None:
    """The same table as Parquet."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    types: dict[str, Any] = {name: pa.type_for_alias(kinds[name]) for name in names}
    convert = pyarrow.csv.ConvertOptions(
        column_types=types, strings_can_be_null=False, null_values=["", "nan"]
    )
    reading = pyarrow.csv.open_csv(out / CELLS_TABLE, convert_options=convert)
    with (
        written_aside(out / PARQUET) as aside,
        pyarrow.parquet.ParquetWriter(aside, reading.schema) as writer,
    ):
        for batch in reading:
            writer.write_batch(batch)
