"""Plan how many shapes to predict of each cell, so that all classes get the same size, and name them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_dispr.cells.folders import check_cell_name
from napari_dispr.errors import InputError

#: Default for the most shapes predicted of one cell.
AT_MOST = 20
#: Digits that follow the name of the real cell in that of a predicted one; real cells have fewer.
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """Number of shapes to predict of each cell (``members``), by its name; the other numbers are by class.

    ``before`` and ``after`` are the numbers of cells with a true shape, and of cells in the folder; ``short``
    is the number of missing cells of classes that cannot be filled up.
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
    """Distribute predicted shapes over cells so that each class gets the same number of cells.

    ``classes`` has all cells that have a picture, ``real`` those that also have a true shape. The number is
    ``per_class``, or that of the largest class; larger classes keep their cells. Of one cell ``at_most`` so
    many shapes are predicted. Raises an InputError if there is no cell, or a number is below 1.
    """
    if not classes:
        raise InputError("No cell has a class: give cells with classes.")
    if at_most < 1 or (per_class is not None and per_class < 1):
        raise InputError("The numbers of cells and of shapes must be at least 1: give numbers above 0.")
    known = set(real)
    before = dict.fromkeys(sorted(set(classes.values())), 0)
    for name in real:
        before[classes[name]] += 1
    pictured = Counter(classes.values())
    target = per_class if per_class is not None else max(pictured.values())
    members: dict[str, int] = {}
    after, short = {}, {}
    for kind, count in before.items():
        # Cells without a true shape come first, so that each of them gets a shape.
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
    """Names of the predicted cells, by the name of the real cell; they are unique and keep the class.

    A name is that of the real cell, with its last digits filled up with zeros to the longest number among the
    real cells, and three more digits. So the name without digits still gives the class. Raises an InputError
    if two names are the same, or cannot be the name of a file.
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
