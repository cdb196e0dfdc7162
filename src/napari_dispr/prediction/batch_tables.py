"""The tables of a batch: a row for each cell of all fields, and one for each field that failed.

They are put together from the tables of the fields, one field after another, so that their size does not
matter.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import mode
from typing import Any, TextIO

import numpy as np
import pandas as pd

from napari_dispr.cells.fields import Field, numeric
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.prediction.saving import TABLES, columns_file, write_columns

#: What makes a folder a batch, and the folder of the finished fields, a folder each.
BATCH_FILE, FIELDS = "batch.json", "cells"
CELLS_TABLE, PARQUET, FAILED = "cells.csv", "cells.parquet", "failed.csv"
#: Columns of words, and of whole numbers, in the tables of fields; the others are numbers.
_WORDS, _WHOLE = ("field", "kept", "warning"), ("label", "members", "modes")
#: What the column dictionary says, in place of a unit, of columns that a user gave.
_GIVEN = "as in the table of fields"
#: Rows that are read at once.
_ROWS = 10_000


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
    """Write ``cells.csv``, its columns and, with pyarrow, ``cells.parquet``; returns the number of cells."""
    own = list(dict.fromkeys(name for one, _ in done for name in one.columns))
    texts: dict[str, str] = {}
    measured: dict[str, None] = {}
    for _, folder in done:
        with _table_of(folder) as file:
            measured |= dict.fromkeys(next(csv.reader(file)))
            if not measured.keys() <= texts.keys():
                columns = pd.read_csv(columns_file(folder / TABLES[1]), keep_default_na=False)
                pairs = zip(columns["unit"], columns["meaning"], strict=True)
                meanings = (f"{unit}: {meaning}" for unit, meaning in pairs)
                texts = dict(zip(columns["column"], meanings, strict=True)) | texts
            if not measured.keys() <= texts.keys():
                raise ValueError("a column without a meaning")
    names = ["field", *own, *measured]
    texts |= {"field": "no unit: name of the field", **dict.fromkeys(own, f"{_GIVEN}: ")}
    count = 0
    with written_aside(out / CELLS_TABLE) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        for row in _rows(done):
            writer.writerow(row)
            count += 1
        write_columns(out / CELLS_TABLE, {name: texts[name] for name in names})
    if find_spec("pyarrow"):
        _write_parquet(out, names, _kinds(done, own, names))
    else:
        (out / PARQUET).unlink(missing_ok=True)
    return count


def with_other_units(done: Sequence[tuple[Field, Path]]) -> dict[str, str]:
    """Why fields cannot be in one table with most others: their lengths have another unit."""
    units = []
    for _, folder in done:
        with _table_of(folder, columns=True) as file:
            texts = {row["column"]: row["unit"] for row in csv.DictReader(file)}
            units.append(texts["volume_mean"].partition("^")[0])
    usual = mode(units) if units else ""
    return {
        one.name: f"Its measures are in {unit}, those of most fields in {usual}: state the pixel size of all "
        f"fields, or of none, and remove {folder} to predict this field again."
        for (one, folder), unit in zip(done, units, strict=True)
        if unit != usual
    }


@contextmanager
def _table_of(folder: Path, columns: bool = False) -> Iterator[TextIO]:
    """The open table of a field, or its column dictionary; errors of reading it are an `InputError`."""
    path = columns_file(folder / TABLES[1]) if columns else folder / TABLES[1]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            yield file
    except (OSError, ValueError, LookupError, StopIteration, csv.Error):
        raise InputError(
            f"The table in {folder} is damaged: remove this folder, and run the batch again."
        ) from None


def _rows(done: Sequence[tuple[Field, Path]]) -> Iterator[dict[str, str]]:
    for one, folder in done:
        with _table_of(folder) as file:
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


def damaged(out: Path) -> InputError:
    """The error for tables of a batch that cannot be read."""
    return InputError(
        f"The table of the batch {out} is damaged: run the batch again, which writes only its tables."
    )


def read_table(out: Path, step: Callable[[int, int], None] = lambda done, total: None) -> pd.DataFrame:
    """The table of a batch: a row for each cell of all fields.

    ``attrs["columns"]`` holds unit and meaning of each column; ``attrs["given"]`` names those that the user
    gave, such as a condition. ``step`` is called with the numbers of rows that are read and of all rows; what
    it raises ends the reading.

    Raises an InputError if the folder is no batch, has no table yet, or the table is damaged.
    """
    if not (out / BATCH_FILE).is_file():
        raise InputError(f"{out} holds no {BATCH_FILE}: give the folder of a batch.")
    if not (out / CELLS_TABLE).is_file():
        raise InputError(
            f"The batch {out} has no table yet: it is written when the batch ends, or is stopped with Ctrl-C."
        )
    try:
        texts = pd.read_csv(columns_file(out / CELLS_TABLE), keep_default_na=False).set_index("column")
        given = [str(name) for name in texts.index[texts["unit"] == _GIVEN]]
        if (out / PARQUET).is_file() and find_spec("pyarrow"):
            table = _read_parquet(out / PARQUET, step)
        else:
            table = _read_csv(out / CELLS_TABLE, given, step)
        table = table[list(texts.index)]
        _ = table[["field", "label"]]
    except (OSError, ValueError, KeyError) as error:
        raise damaged(out) from error
    words = [str(name) for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.assign(**{name: table[name].astype(object).fillna("") for name in words})
    table.attrs["columns"] = {name: f"{row['unit']}: {row['meaning']}" for name, row in texts.iterrows()}
    table.attrs["given"] = given
    return table


def _read_parquet(path: Path, step: Callable[[int, int], None]) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        total, parts, done = file.metadata.num_rows, [], 0
        for batch in file.iter_batches(_ROWS):
            parts.append(batch)
            done += len(batch)
            step(done, total)
        return pa.Table.from_batches(parts, file.schema_arrow).to_pandas(split_blocks=True)


def _read_csv(path: Path, given: Sequence[str], step: Callable[[int, int], None]) -> pd.DataFrame:
    total, parts = path.stat().st_size, []
    kinds = dict.fromkeys((*_WORDS, *given), str) | dict.fromkeys(_WHOLE, int)
    with open(path, "rb") as file:
        # Only an empty value is none: a group may be named NA.
        reading = pd.read_csv(file, chunksize=_ROWS, keep_default_na=False, na_values=[""], dtype=kinds)
        for part in reading:
            parts.append(part)
            step(min(file.tell(), total), total)
    table = pd.concat(parts, ignore_index=True)
    for name in given:
        codes, values = pd.factorize(table[name].fillna(""))
        if (numbers := numeric(values.tolist())) is not None and not np.isnan(numbers).all():
            table[name] = numbers[codes]
    return table
