"""Notes on doubtful masks, before and after predicting, in the table and in sentences."""

import numpy as np
import pytest

from napari_dispr.prediction.notes import Note, mask_notes, sentences
from napari_dispr.prediction.predict import predict
from napari_dispr.prediction.saving import load_prediction, save_prediction
from napari_dispr.prediction.tables import measure_cells

MASKS = {
    "one pixel": (np.ones((1, 1)), "fewer than 8 pixels"),
    "seven pixels": (np.ones((7, 1)), "fewer than 8 pixels"),
    "three wide": (np.ones((20, 3)), "at most 3 pixels wide"),
    "far apart": (np.pad(np.ones((8, 8)), ((0, 30), (0, 0))) + np.pad(np.ones((8, 8)), ((30, 0), (0, 0))),
                  "separate pieces far apart"),
    "a pixel far away": (np.pad(np.ones((12, 12)), (0, 20)) + np.pad(np.ones((1, 1)), (31, 0)),
                         "separate pieces far apart"),
    "near pieces": (np.pad(np.ones((10, 22)), 1) * (abs(np.arange(24) - 11.5) > 1), ""),
    "a ring": (np.pad(np.zeros((9, 9)), 5, constant_values=1), ""),
    "a square": (np.ones((12, 12)), ""),
}  # fmt: skip


@pytest.mark.parametrize(("mask", "words"), MASKS.values(), ids=MASKS)
def test_doubtful_masks_have_a_note(mask, words):
    labels = np.pad(mask > 0, 5) * 4
    (text,) = sentences(mask_notes(labels, [4]), {}, 1) or [""]
    assert words in text and bool(text) == bool(words) and text.startswith("Cell 4: " if words else "")


def test_a_prediction_has_the_notes_of_its_cells_in_one_sentence_and_in_the_table():
    labels = np.zeros((40, 60), int)
    labels[10:12, 10:13], labels[20:22, 40:43], labels[25:37, 10:22] = 1, 2, 3
    found = predict(None, labels, model="cylinder")
    assert sum("fewer than 8 pixels" in text for text in found.warnings) == 1
    assert any(text.startswith("Cells 1, 2: the mask has fewer than 8") for text in found.warnings)
    warnings = measure_cells(found).set_index("label")["warning"]
    assert "8 pixels" in warnings[1] and "8 pixels" in warnings[2] and warnings[3] == ""


def test_each_cell_is_named_once():
    notes = [
        Note("mask", 1, "the mask is tiny"),
        *(Note("unlike", cell, "it looks blurred") for cell in (1, 2)),
    ]
    assert sentences(notes, {}, 3) == [
        "Cell 2 is unlike the training data: it looks blurred.",
        "Cell 1: the mask is tiny.",
    ]
    notes = [Note("left out", n, f"Cell {n} is cut by the border.", why="cut") for n in (3, 4, 5)]
    assert sentences(notes, {}, 3) == [
        "Left out: Cell 3 is cut by the border. For the same reason: cells 4, 5."
    ]
    assert sentences(notes[1:2], {}, 3) == ["Left out: Cell 4 is cut by the border."]


def test_a_cell_that_the_border_cuts_fits_at_the_scale_that_the_note_names(tmp_path):
    labels = np.zeros((60, 60), int)
    labels[20:40, 20:40] = 1
    cut = predict(None, labels, model="cylinder", scale=3.0)  # taller than the grid
    *general, text = cut.warnings
    assert text.endswith("predict it again with a smaller scale, such as 2.25 voxels per pixel.")
    save_prediction(cut, tmp_path / "cut")
    assert load_prediction(tmp_path / "cut").warnings == [*general, text]
    assert predict(None, labels, model="cylinder", scale=2.25).warnings == general
