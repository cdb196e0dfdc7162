"""The content of the table of a batch, a row for each cell of all fields. No Qt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.errors import words_of
from napari_dispr.prediction.batch_tables import FIELDS, read_table
from napari_dispr.widgets.morphometry.columns import (
    NO_MEMBER,
    Column,
    agreement_columns,
    cell_column,
    estimate_column,
    measures_of,
    notes,
    numbers_column,
    words_column,
)
from napari_dispr.widgets.morphometry.content import TableContent
from napari_dispr.widgets.parts.threads import Step

_ABOUT_FIELD = "The picture: click a row to open it, with the shapes of its cells"
_ABOUT_GIVEN = "A column of the table of fields"


@dataclass(frozen=True, eq=False)
class BatchContent(TableContent):
    """The table of a batch. In ``cells`` each row has a number of its own: a label occurs in many fields."""

    folder: Path = Path()

    @classmethod
    def read(cls, folder: Path, step: Step) -> "BatchContent":
        """Read the table of a batch; call it in a thread.

        Raises an InputError if the folder has no such table.
        """
        table = read_table(folder, step)
        texts, given = table.attrs["columns"], table.attrs["given"]
        table.attrs = {}  # pandas copies them at every step
        columns = {"field": _given_column(table, "field", _ABOUT_FIELD)}
        columns |= {name: _given_column(table, name, _ABOUT_GIVEN) for name in given}
        columns["cell"] = cell_column(table)
        for name in measures_of(table, "_mean"):
            columns[name] = estimate_column(table, name, texts[f"{name}_mean"])
        columns |= agreement_columns(table)
        table.attrs["columns"] = texts
        count = len(table)
        content = cls(
            columns,
            table,
            table,
            np.arange(count),
            np.full(count, NO_MEMBER),
            np.ones(count, dtype=bool),
            notes(table),
            (*given, "field"),
            folder.absolute(),
        )
        _ = content.filtered_by  # found here, not when the user waits for a filter
        return content

    @property
    def fields(self) -> NDArray[Any]:
        """The name of the field of each row."""
        return np.asarray(self.frame["field"], dtype=object)

    @property
    def labels(self) -> NDArray[Any]:
        """The label of the cell of each row, in its field."""
        return self.arrays["label"]

    def name_of(self, cell: int) -> str:
        return f"{self.fields[cell]}, cell {self.labels[cell]:.0f}"

    def folder_of(self, row: int) -> Path:
        """The saved prediction of the field of a row."""
        return self.folder / FIELDS / str(self.fields[row])

    def rows_in(self, folder: Path, cell: int | None) -> NDArray[np.intp]:
        """The row of a cell of the saved prediction in a folder; none if it is not of this batch."""
        if cell is None or folder.parent != self.folder / FIELDS:
            return np.zeros(0, dtype=np.intp)
        return np.flatnonzero((self.labels == cell) & (self.fields == folder.name))


def _given_column(table: pd.DataFrame, name: str, about: str) -> Column:
    values = table[name].to_numpy()
    made = numbers_column if values.dtype.kind == "f" else words_column
    return made(name, words_of(name), about, values)
