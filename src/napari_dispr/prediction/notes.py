"""Notes on a prediction for the user: values that become sentences only when they are shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr.cells.novelty import in_words
from napari_dispr.errors import CellError
from napari_dispr.labels import Box, cell_boxes
from napari_dispr.shapes.ensemble import Ensemble

#: Above this number of voxels of a member in one face of the grid, its measures suffer.
LEAST_CUT = 100
#: A cell that the border cuts is tried at this share of its scale.
_SMALLER = 0.75
#: At most this many cells are listed in a sentence.
_MOST_LISTED = 20

#: Masks of fewer pixels, or up to this number of pixels wide, show too little of a shape.
_FEWEST_PIXELS, _THIN = 8, 3

Kind = Literal["general", "left out", "unlike", "cut", "mask"]


@dataclass(frozen=True, slots=True)
class Note:
    """What a user should know about a prediction or one of its cells.

    Attributes
    ----------
    kind : {"general", "left out", "unlike", "cut", "mask"}
        General: ``text`` is a sentence. Left out: the cell is not in the prediction; ``text`` is the reason.
        Unlike: the cell is unlike the training data; ``text`` says how. Cut: the grid's border cuts a member.
        Mask: the cell's mask is doubtful; ``text`` says why and what to do.
    scale : float or None
        Voxels per pixel at which a cell that is cut should fit.
    why : str
        Of a cell that is left out: the same words for all cells with this reason.
    """

    kind: Kind
    cell: int | None = None
    text: str = ""
    scale: float | None = None
    why: str = ""


def left_out_notes(left_out: Mapping[int, CellError]) -> list[Note]:
    """A note for each cell that could not be cropped."""
    return [Note("left out", cell, str(error), why=error.why) for cell, error in left_out.items()]


def cut_notes(ensemble: Ensemble) -> list[Note]:
    """A note if the border of the model grid cuts a member, with a scale at which it should fit."""
    inside = ensemble.members
    faces = (inside.take(end, axis=axis) for axis in (1, 2, 3) for end in (0, -1))
    if any(np.count_nonzero(face, axis=(1, 2)).max() > LEAST_CUT for face in faces):
        return [Note("cut", ensemble.label, scale=_SMALLER * ensemble.zoom)]
    return []


def mask_notes(
    labels: NDArray[Any], cells: Iterable[int], boxes: Mapping[int, Box] | None = None
) -> list[Note]:
    """Notes on cells with doubtful masks: tiny, thin, or in separate pieces far apart."""
    boxes = cell_boxes(labels) if boxes is None else boxes
    found = ((label, _problem(labels[boxes[label]] == label)) for label in cells)
    return [Note("mask", label, text) for label, text in found if text]


def _problem(mask: NDArray[np.bool_]) -> str:
    """What is doubtful about a mask and what to do; empty if nothing is."""
    if np.count_nonzero(mask) < _FEWEST_PIXELS:
        return (
            f"the mask has fewer than {_FEWEST_PIXELS} pixels, so the shape is only a guess. Use a picture "
            "with more pixels per cell, or leave the cell out"
        )
    if not ndimage.binary_erosion(mask, np.ones((_THIN + 1, _THIN + 1))).any():
        return (
            f"the mask is at most {_THIN} pixels wide, so the shape is only a guess. Check the segmentation"
        )
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        to_largest = ndimage.distance_transform_edt(parts != 1 + sizes.argmax())
        gaps = ndimage.minimum(to_largest, parts, np.arange(1, count + 1))
        if max(gaps) > np.sqrt(sizes.max()) / 2:
            return (
                "the mask has separate pieces far apart, which are predicted as one large cell. Give each "
                "piece a label of its own, or erase the wrong one"
            )
    return ""


def sentences(notes: Iterable[Note], names: Mapping[int, str], cells: int) -> list[str]:
    """Notes as sentences; cells with the same note share one sentence. ``names`` are those of cells that have
    one.

    A cell with a doubtful mask is not said to be unlike the training data, too.
    """
    texts: list[str] = []
    unlike: dict[str, str] = {}
    cut: dict[str, float | None] = {}
    masks: dict[str, list[str]] = {}
    left_out: dict[str, list[Note]] = {}
    for note in notes:
        name = names.get(note.cell, str(note.cell)) if note.cell is not None else ""
        if note.kind == "unlike":
            unlike[name] = note.text
        elif note.kind == "cut":
            cut[name] = note.scale
        elif note.kind == "mask":
            masks.setdefault(note.text, []).append(name)
        elif note.kind == "left out":
            left_out.setdefault(note.why or note.text, []).append(note)
        else:
            texts.append(note.text)
    doubtful = {name for alike in masks.values() for name in alike}
    texts += in_words({name: why for name, why in unlike.items() if name not in doubtful}, cells)
    for first, *others in left_out.values():
        more = f" For the same reason: {_listed([str(note.cell) for note in others])}." if others else ""
        texts.append(f"Left out: {first.text}{more}")
    if cut:
        scales = [scale for scale in cut.values() if scale is not None]
        texts.append(
            f"The border of the model's grid cuts members of {_listed([*cut])}, so their measures are too "
            f"small: predict {'it' if len(cut) == 1 else 'them'} again with a smaller scale"
            + (f", such as {min(scales):.3g} voxels per pixel." if scales else ".")
        )
    for text, alike in masks.items():
        listed = _listed(alike)
        texts.append(f"{listed[0].upper()}{listed[1:]}: {text}.")
    return texts


def _listed(names: Sequence[str]) -> str:
    """``cell 3``, or ``cells 3, 5``; at most `_MOST_LISTED` names."""
    more = " and others" if len(names) > _MOST_LISTED else ""
    return f"{'cell' if len(names) == 1 else 'cells'} {', '.join(names[:_MOST_LISTED])}{more}"
