"""The filter line above a table: words and conditions such as ``volume > 80``. No Qt."""

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.errors import InputError
from napari_dispr.widgets.morphometry.content import TableContent
from napari_dispr.widgets.parts.wording import spoken

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, "!=": operator.ne, "==": operator.eq, "≥": operator.ge,
    "≤": operator.le, "≠": operator.ne, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip
_TOKEN = re.compile(r'"[^"]*"?|' + "|".join(map(re.escape, _OPERATORS)) + r'|[^\s"<>=!≥≤≠]+|\S')
_JOINTS = {"and", "&", "&&"}
_EXAMPLE = "volume > 80"


def matching(text: str, columns: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.bool_]:
    """Which rows a filter lets through: those that fit all of its words and conditions.

    Parameters
    ----------
    text : str
        Words, each of which must stand in a column of words, or, if it is a whole number, be the cell;
        conditions ``NAME > NUMBER`` with ``>``, ``>=``, ``<``, ``<=``, ``=``, ``!=``; of columns of words
        ``NAME = WORD``. Names may be written with blanks. Quotes keep several words together.
    columns : mapping of str to (row,) array
        Floating numbers, or text.
    rows : int

    Raises
    ------
    InputError
        Says what is wrong with the filter, and how it is written.
    """
    found = np.ones(rows, dtype=bool)
    tokens = [token.rstrip(",") or token for token in _TOKEN.findall(text)]
    words: list[str] = []
    place = 0
    while place < len(tokens):
        sign = tokens[place]
        if sign not in _OPERATORS:
            words.append(sign)
            place += 1
            continue
        name, words = _name(words, columns, sign)
        if place + 1 >= len(tokens) or tokens[place + 1] in _OPERATORS:
            raise InputError(f'After "{spoken(name)} {sign}" something is missing: write {_EXAMPLE}.')
        found &= _fits(name, columns[name], sign, _unquoted(tokens[place + 1]))
        place += 2
    for word in words:
        if word.lower() not in _JOINTS:
            found &= _holds(columns, _unquoted(word).lower(), rows)
    return found


def passing(
    text: str, shown: TableContent, other: TableContent
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows of two tables of the same cells a filter lets through.

    Parameters
    ----------
    text : str
    shown : TableContent
        What the filter is meant for; of a column that only ``other`` has, it is that.
    other : TableContent
        Its rows are shown of the cells that pass.

    Returns
    -------
    (row,) bool arrays
        Of ``shown`` and of ``other``. Real cells stand beside the predicted ones that pass.

    Raises
    ------
    InputError
    """
    try:
        rows = _beside(text, shown)
    except InputError:
        try:
            found = _beside(text, other)
        except InputError:
            found = None
        if found is None:
            raise
        return np.isin(shown.cells, other.cells[found]), found
    return rows, np.isin(other.cells, shown.cells[rows])


def _beside(text: str, content: TableContent) -> NDArray[np.bool_]:
    rows = matching(text, content.filtered_by, len(content))
    if "source" in text:
        return rows
    return rows | (~content.predicted & np.isin(content.cells, content.cells[rows & content.predicted]))


def _name(words: list[str], columns: Mapping[str, NDArray[Any]], sign: str) -> tuple[str, list[str]]:
    """The column that stands before a sign, of as many words as possible, and the words before it."""
    for first in range(len(words)):
        name = "_".join(_unquoted(word) for word in words[first:]).lower().replace(" ", "_")
        if name in columns:
            return name, words[:first]
    if not words:
        raise InputError(f'Before "{sign}" the name of a column is missing: write {_EXAMPLE}.')
    asked = _unquoted(words[-1])
    near = difflib.get_close_matches(asked.lower(), columns, 1, 0.5)
    near = near or [name for name in columns if name.startswith(asked.lower())][:1]
    hint = f"did you mean {spoken(near[0])}?" if near else f"write {_EXAMPLE}."
    raise InputError(f'There is no column "{asked}": {hint}')


def _fits(name: str, values: NDArray[Any], sign: str, asked: str) -> NDArray[np.bool_]:
    compare = _OPERATORS[sign]
    if values.dtype.kind == "f":
        try:
            number = float(asked)
        except ValueError:
            raise InputError(
                f'"{spoken(name)} {sign}" takes a number, not "{asked}": write {_EXAMPLE}.'
            ) from None
        fits = np.asarray(compare(values, number), dtype=bool)
        return fits & ~np.isnan(values)
    if compare not in (operator.eq, operator.ne):
        raise InputError(f'{spoken(name)} holds words: write {name} = "{asked}".')
    return np.asarray(compare(np.char.lower(values), asked.lower()), dtype=bool)


def _holds(columns: Mapping[str, NDArray[Any]], word: str, rows: int) -> NDArray[np.bool_]:
    found = np.zeros(rows, dtype=bool)
    for name, values in columns.items():
        if values.dtype.kind == "U":
            found |= np.char.find(np.char.lower(values), word) >= 0
        elif name == "label" and word.isdecimal():
            found |= values == float(word)
    return found


def _unquoted(token: str) -> str:
    return token.strip('"')
