"""The index of a prediction that is not complete: a line of JSON for each finished cell.

A line is appended when the files of its cell are complete. It holds what ``prediction.json`` says of the
cell, the notes on it, and its measures.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_dispr.files import plain
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.schema import FinishedCell

INDEX_FILE = "cells.jsonl"


def cell_entry(prediction: Prediction, label: int, warning: str) -> dict[str, Any]:
    """What ``prediction.json`` says of a cell."""
    facts, agreement = prediction.facts(label), prediction.store.cell(label).agreement
    return {
        "file": prediction.stem(label),
        "grid_to_world": prediction.grid_to_world(label),
        "unit": facts.unit,
        "zoom": facts.zoom,
        "members": len(facts.numbers),
        "numbers": facts.numbers,
        "ambiguity": agreement.ambiguity,
        "modes": agreement.modes,
        "box": agreement.box,
        "kept": prediction.kept.get(label),
        "rejected": prediction.rejected.get(label, ()),
        "warning": warning,
    }


def add_to_index(
    prediction: Prediction, folder: Path, label: int, notes: Sequence[Note], measures: list[dict[str, Any]]
) -> None:
    """List a saved cell in the index of an unfinished prediction."""
    warning = next((note.text for note in notes if note.kind == "unlike"), "")
    line = {
        "label": label,
        "cell": plain(cell_entry(prediction, label, warning)),
        "notes": [asdict(note) for note in notes],
        "measures": measures,
    }
    with open(folder / INDEX_FILE, "ab") as file:
        file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def read_index(folder: Path) -> Iterator[FinishedCell]:
    """The cells that the index of an unfinished prediction lists; of a cell's entries the last counts.

    They are read one after another, since measures take much memory. A line that a killed process did not
    complete is left out.
    """
    if not (folder / INDEX_FILE).exists():
        return
    with open(folder / INDEX_FILE, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield FinishedCell.model_validate(json.loads(line))


def remove_torn_line(folder: Path) -> None:
    """Remove a last line that a killed process did not complete."""
    index = folder / INDEX_FILE
    if index.exists():
        with open(index, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
