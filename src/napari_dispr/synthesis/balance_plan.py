"""How many shapes are predicted of which cells, so that classes come to one size, and what they are called.

Plain counting: knows neither models nor pictures.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_dispr.cells.folders import check_cell_name
from napari_dispr.errors import InputError

#: A cell lends its picture to so many predicted shapes, at most, unless another number is asked for.
AT_MOST = 20
#: Digits after those of a real cell's name, which make names of predicted ones that no real cell can have.
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How many shapes are to be predicted of each cell.

    Attributes
    ----------
    members : dict of name to int
    before, after : dict of class to int
        Cells of each class that have a true shape, and cells in the folder.
    short : dict of class to int
        Classes that stay below the number that was asked for, and by how many.
    """

    members: dict[str, int]
    before: dict[str, int]
    after: dict[str, int]
    short: dict[str, int]


def plan(
    classes: Mapping[str, str],
    real: Sequence[str],
    per_class: int | None = None,
    at_most: int = AT_MOST,
) -> Plan:
    """Share out predicted shapes so that each class comes to the same number of cells.

    Parameters
    ----------
    classes : mapping of name to class
        Of all cells that have a picture.
    real : sequence of str
        Names of those that have a true shape, too.
    per_class : int, optional
        Cells a class is to have; by default as many as the largest class. A class that has more keeps them.
    at_most : int
        Shapes predicted of one cell.

    Raises
    ------
    InputError
        If there is no cell, or a number is below 1.
    """
    if not classes:
        raise InputError("No cell has a class: give cells with classes.")
    if at_most < 1 or (per_class is not None and per_class < 1):
        raise InputError("Each class needs at least one cell, and one shape a cell: give numbers above 0.")
    known = set(real)
    before = dict.fromkeys(sorted(set(classes.values())), 0)
    for name in real:
        before[classes[name]] += 1
    pictured = Counter(classes.values())
    target = per_class if per_class is not None else max(pictured.values())
    members: dict[str, int] = {}
    after, short = {}, {}
    for kind, count in before.items():
        # Cells that have no true shape at all come first: each of them is one cell more.
        names = sorted((n for n in classes if classes[n] == kind), key=lambda name: (name in known, name))
        wanted = max(target - count, 0)
        given = min(wanted, at_most * len(names))
        for place, name in enumerate(names):
            if number := given // len(names) + (place < given % len(names)):
                members[name] = number
        after[kind] = count + given
        if given < wanted:
            short[kind] = wanted - given
    return Plan(members, before, after, short)


def predicted_names(cells: Sequence[str], members: Mapping[str, int]) -> dict[str, list[str]]:
    """Names of the predicted cells, by the real one's: its class can be read from them, and none clashes.

    The name without its digits is kept, so that it tells the class as before; after them come the real
    cell's digits, filled up to the longest of these, and three more: longer than those of any real cell.

    Parameters
    ----------
    cells : sequence of str
        Names of the real cells.
    members : mapping of name to int
        Shapes that are predicted of them.

    Raises
    ------
    InputError
        If two names would be the same, or no file can have one.
    """
    stems = {name: name.rstrip("0123456789") for name in cells}
    widths: dict[str, int] = {}
    for name, stem in stems.items():
        widths[stem] = max(widths.get(stem, 0), len(name) - len(stem))
    taken = {name.casefold() for name in cells}
    found: dict[str, list[str]] = {}
    for name, count in members.items():
        stem = stems[name]
        digits = name[len(stem) :].zfill(widths[stem])
        found[name] = [f"{stem}{digits}{member:0{_DIGITS}d}" for member in range(1, count + 1)]
        for new in found[name]:
            check_cell_name(new)
            if new.casefold() in taken:
                raise InputError(f"Two cells would have the name {new}: rename {name}.")
            taken.add(new.casefold())
    return found
