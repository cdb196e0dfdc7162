"""Numbers and tables in Markdown, as results are told."""

import math
from collections.abc import Iterable, Sequence
from typing import Any


def number(value: Any, digits: int = 3, sign: bool = False) -> str:
    """For a table; a dash where there is none."""
    if value is None or not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as text, too; numbers stand to the right."""
    body = [list(row) for row in rows]
    widths = [max(3, *(len(row[i]) for row in [head, *body])) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *map(line, body)])
