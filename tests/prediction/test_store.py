"""Predictions do not change: cells are shared between those that follow, and branches do not meet."""

import numpy as np
import pytest

from napari_dispr.errors import InputError
from napari_dispr.export.meshes import export_meshes
from napari_dispr.prediction.notes import Note, sentences
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure_cells
from tests.support.predictions import ball

CELLS = {label: ball(label, (40, 40), [radius]) for label, radius in ((1, 10), (2, 12), (3, 14))}


def test_each_prediction_keeps_its_own_cells():
    empty = Prediction({})
    one = empty.with_cell(CELLS[1])
    two, three = one.with_cell(CELLS[2]), one.with_cell(CELLS[3])  # branches
    both = two.with_cell(CELLS[3])
    assert [list(p) for p in (empty, one, two, three, both)] == [[], [1], [1, 2], [1, 3], [1, 2, 3]]
    assert 2 not in one and 2 not in three and both[1] is CELLS[1]
    with pytest.raises(KeyError):
        one[2]
    other = ball(1, (40, 40), [20])
    changed = both.with_cell(other)
    assert changed[1] is other and both[1] is CELLS[1] and list(changed) == [1, 2, 3]


def test_labels_from_an_array_find_their_cells():
    prediction, label = Prediction(CELLS), np.array([2])[0]
    assert label in prediction and prediction.keep(label, 0).kept == {2: 0}
    with pytest.raises(InputError, match="no cell 9"):
        prediction.check_has(np.uint16(9))


def test_the_kept_shape_is_a_number_or_the_consensus(tmp_path):
    prediction, number = Prediction(CELLS), np.array([0])[0]
    assert measure_cells(prediction.keep(2, number))["kept"].tolist() == ["", "member 0", ""]
    assert [path.name for path in export_meshes(prediction.keep(2, number), tmp_path, kept=True)] == [
        "2_member-0.stl"
    ]
    for wrong in ("consensu", 0.0, [0]):
        with pytest.raises(InputError, match="give the number of a member, or consensus"):
            prediction.keep(2, wrong)


def test_adding_a_cell_copies_no_other(monkeypatch):
    prediction = Prediction({})
    for ensemble in CELLS.values():
        prediction = prediction.with_cell(ensemble)
    seen, store = [], type(prediction.ensembles)
    original = store.__getitem__
    monkeypatch.setattr(store, "__getitem__", lambda self, label: seen.append(label) or original(self, label))
    prediction.with_cell(ball(4, (40, 40), [9]))
    assert set(seen) <= {4}


def test_notes_are_sentences_only_when_shown():
    before = Prediction(CELLS, notes=(Note("general", None, "Something."),), names={2: "two"})
    after = before.noted(Note("unlike", 2, "it is odd"), Note("cut", 1), Note("cut", 3))
    assert before.warnings == ["Something."] and before.unlike == {} and after.unlike == {2: "it is odd"}
    assert after.warnings[:2] == ["Something.", "Cell two is unlike the training data: it is odd."]
    assert "members of cells 1, 3, so" in after.warnings[2] and len(after.warnings) == 3
    # A cell that is drawn again and not cut any more is not named any more.
    assert "members of cell 3, so" in after.with_cell(CELLS[1]).warnings[2]
    many = sentences([Note("cut", label) for label in range(30)], {}, 30)
    assert len(many) == 1 and "19 and others" in many[0]


def test_provenance_is_not_changed_in_place():
    prediction = Prediction(CELLS, provenance={"model": "m"})
    assert prediction.with_provenance(folder="here").provenance == {"model": "m", "folder": "here"}
    assert prediction.provenance == {"model": "m"}
