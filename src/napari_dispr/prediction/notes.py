"""Notes on a prediction: what a user should know, as values that are put into sentences only to be shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_dispr.cells.novelty import in_words
from napari_dispr.shapes.ensemble import Ensemble

#: Above this number of voxels of a member in one face of the grid, its measures suffer.
LEAST_CUT = 100
#: At most this many cells are listed in a sentence.
_MOST_LISTED = 20

Kind = Literal["general", "left out", "unlike", "cut"]


@dataclass(frozen=True, slots=True)
class Note:
    """What a user should know about a prediction or one of its cells.

    Attributes
    ----------
    kind : {"general", "left out", "unlike", "cut"}
        General: ``text`` is a sentence. Left out: the cell is not in the prediction; ``text`` is the reason.
        Unlike: the cell is unlike the training data; ``text`` says how. Cut: the grid's border cuts a member.
    cell : int or None
        Label of the cell.
    """

    kind: Kind
    cell: int | None = None
    text: str = ""


def is_cut(ensemble: Ensemble) -> bool:
    """Whether the border of the model grid cuts a member."""
    inside = ensemble.members
    faces = (inside.take(end, axis=axis) for axis in (1, 2, 3) for end in (0, -1))
    return any(np.count_nonzero(face, axis=(1, 2)).max() > LEAST_CUT for face in faces)


def sentences(notes: Iterable[Note], names: Mapping[int, str], cells: int) -> list[str]:
    """Notes as sentences; cells that are unlike the training data, or cut, share one sentence.

    Parameters
    ----------
    names : mapping of int to str
        Names of cells that have better ones than their labels.
    cells : int
        Number of cells in the prediction.
    """
    texts: list[str] = []
    unlike: dict[str, str] = {}
    cut: list[str] = []
    for note in notes:
        name = names.get(note.cell, str(note.cell)) if note.cell is not None else ""
        if note.kind == "unlike":
            unlike[name] = note.text
        elif note.kind == "cut":
            cut.append(name)
        else:
            texts.append(f"Left out: {note.text}" if note.kind == "left out" else note.text)
    texts += in_words(unlike, cells)
    if cut:
        listed = ", ".join(cut[:_MOST_LISTED]) + (" and others" if len(cut) > _MOST_LISTED else "")
        texts.append(
            f"The border of the model's grid cuts members of {'cell' if len(cut) == 1 else 'cells'} "
            f"{listed}, so their measures are too small: give a smaller scale."
        )
    return texts
