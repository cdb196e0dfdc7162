"""The filter line above a table: words and conditions such as ``volume > 80``. No Qt."""

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.errors import InputError, words_of
from napari_dispr.widgets.morphometry.content import TableContent
from napari_dispr.widgets.morphometry.words import Words

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, "!=": operator.ne, "==": operator.eq, "≥": operator.ge,
    "≤": operator.le, "≠": operator.ne, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip
_TOKEN = re.compile(r'"[^"]*"?|' + "|".join(map(re.escape, _OPERATORS)) + r'|[^\s"<>=!≥≤≠]+|\S')
_JOINTS = {"and", "&", "&&"}
_EXAMPLE = "volume > 80"
#: An example, and all that a filter may be.
FILTER_EXAMPLE = "Filter: volume > 80   ambiguity >= .3   7"
ABOUT_FILTER = (
    "<p>Shows only the rows that fit all conditions:</p>"
    "<p><b>volume &gt; 80</b>, <b>surface area &lt;= 120</b>: a column and a number, with &gt; &gt;= &lt; "
    "&lt;= = !=</p><p><b>7</b>: the cell 7</p><p><b>blurred</b>: a word in any column of words</p>"
    "<p><b>volume_sd &gt; 5</b>: <i>_sd</i>, <i>_low</i> and <i>_high</i> of a measure of cells</p>"
)


def matching(text: str, columns: Mapping[str, NDArray[np.float64] | Words], rows: int) -> NDArray[np.bool_]:
    """Which rows pass a filter: those that fit all of its words and conditions.

    Raises an InputError that says what is wrong with the filter, and how to write it.

    Parameters
    ----------
    text : str
        Words that occur in a text column; whole numbers: the cell; conditions ``NAME > NUMBER`` with ``>``,
        ``>=``, ``<``, ``<=``, ``=``, ``!=``; for text columns ``NAME = WORD``. Names may contain blanks.
        Quotes keep several words together.
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
            raise InputError(f'After "{words_of(name)} {sign}" a value is missing: write {_EXAMPLE}.')
        found &= _fits(name, columns[name], sign, _unquoted(tokens[place + 1]))
        place += 2
    for word in words:
        if word.lower() not in _JOINTS:
            found &= _holds(columns, _unquoted(word).lower(), rows)
    return found


def passing(
    text: str, shown: TableContent, other: TableContent
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows of two tables of the same cells pass a filter: of the one on screen, and of the other.

    A filter with columns that only ``other`` has applies to ``other``; its rows pass if their cell passes.
    Real cells pass together with the predicted ones. Raises an InputError if the filter is wrong, as in
    `matching`.
    """
    try:
        rows = _with_real_cells(text, shown)
    except InputError:
        with suppress(InputError):
            found = _with_real_cells(text, other)
            return _same_cells(shown, other, found), found
        raise
    return rows, _same_cells(other, shown, rows)


def _same_cells(content: TableContent, other: TableContent, passing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows whose cell, predicted or real, passes in another table."""
    own, others = (2 * one.cells + one.predicted for one in (content, other))
    return np.isin(own, others[passing])


def _with_real_cells(text: str, content: TableContent) -> NDArray[np.bool_]:
    rows = matching(text, content.filtered_by, len(content))
    if "source" in text:
        return rows
    return rows | (~content.predicted & np.isin(content.cells, content.cells[rows & content.predicted]))


def _name(words: list[str], columns: Mapping[str, Any], sign: str) -> tuple[str, list[str]]:
    """The column named before a sign, of as many words as possible, and the words before it."""
    for first in range(len(words)):
        name = "_".join(_unquoted(word) for word in words[first:]).lower().replace(" ", "_")
        if name in columns:
            return name, words[:first]
    if not words:
        raise InputError(f'Before "{sign}" the name of a column is missing: write {_EXAMPLE}.')
    word = _unquoted(words[-1])
    near = difflib.get_close_matches(word.lower(), columns, 1, 0.5)
    near = near or [name for name in columns if name.startswith(word.lower())][:1]
    hint = f"did you mean {words_of(near[0])}?" if near else f"write {_EXAMPLE}."
    raise InputError(f'There is no column "{word}": {hint}')


def _fits(name: str, values: NDArray[np.float64] | Words, sign: str, word: str) -> NDArray[np.bool_]:
    compare = _OPERATORS[sign]
    if isinstance(values, Words):
        if compare not in (operator.eq, operator.ne):
            raise InputError(f'{words_of(name)} is a text column: write {name} = "{word}".')
        return values.equal(word) if compare is operator.eq else ~values.equal(word)
    try:
        number = float(word)
    except ValueError:
        raise InputError(
            f'"{words_of(name)} {sign}" takes a number, not "{word}": write {_EXAMPLE}.'
        ) from None
    return np.asarray(compare(values, number), dtype=bool) & ~np.isnan(values)


def _holds(columns: Mapping[str, NDArray[np.float64] | Words], word: str, rows: int) -> NDArray[np.bool_]:
    found = np.zeros(rows, dtype=bool)
    for name, values in columns.items():
        if isinstance(values, Words):
            found |= values.holding(word)
        elif name == "label" and word.isdecimal():
            found |= values == float(word)
    return found


def _unquoted(token: str) -> str:
    return token.strip('"')
