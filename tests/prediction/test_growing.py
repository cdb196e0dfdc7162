"""Predictions on disk: many cells in little memory, and runs that are killed and continued."""

import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import tifffile
from support.folders import contents
from support.predictions import ball, discs, prediction_of
from support.windows import PATIENCE

import napari_dispr as nd
from napari_dispr.errors import InputError
from napari_dispr.events import result_of
from napari_dispr.prediction import growing, saving, store
from napari_dispr.prediction.growing import iter_saved
from napari_dispr.prediction.members import CellDone
from napari_dispr.prediction.saving import earlier_prediction, load_measures, load_prediction
from napari_dispr.prediction.tables import measure, measure_cells

RADII = {label: [8 + label, 9 + label] for label in range(1, 7)}


def test_cells_above_the_limit_of_memory_are_kept_in_files(monkeypatch):
    cells = {label: ball(label, (40, 60 * label), radii) for label, radii in RADII.items()}
    size = cells[1].signed_distance.nbytes
    whole = prediction_of(*cells.values())
    monkeypatch.setattr(store, "MOST_HELD", 2 * size)
    monkeypatch.setattr(store, "MOST_RECENT", size)
    small = prediction_of()
    for ensemble in cells.values():
        small = small.with_cell(ensemble)
    assert [small[label] is cells[label] for label in cells] == [False] * 4 + [True] * 2
    pd.testing.assert_frame_equal(measure_cells(small, measure(small)), measure_cells(whole, measure(whole)))
    for (one, _), (other, _) in zip(small.label_volumes(), whole.label_volumes(), strict=True):
        np.testing.assert_array_equal(one, other)
    other = small.keep(1, 0).reject(2, 1)
    assert other[2].numbers == (0,) and small[2].numbers == (0, 1)
    assert other.store.same_cell(small.store, 1) and not other.store.same_cell(small.store, 2)


def test_a_saved_prediction_reads_a_cell_when_it_is_asked_for(tmp_path):
    saved = prediction_of(*(ball(label, (40, 60 * label), radii) for label, radii in RADII.items()))
    saved.save(tmp_path)
    loaded = load_prediction(tmp_path)
    (tmp_path / "cells" / "3.npz").unlink()
    # What is known without the shapes.
    assert loaded.numbers == (0, 1) and loaded.members == 2 and loaded.step == saved.step
    np.testing.assert_array_equal(loaded.frame, saved.frame)
    cells = measure_cells(loaded, load_measures(tmp_path, loaded))
    pd.testing.assert_frame_equal(cells, measure_cells(saved, measure(saved)))
    np.testing.assert_array_equal(loaded[4].signed_distance, saved[4].signed_distance)
    with pytest.raises(InputError, match=r"3\.npz is missing"):
        loaded[3]
    saved.reject(5, 0)[5].save_npz(tmp_path / "cells" / "5.npz")
    with pytest.raises(InputError, match=r"5\.npz was replaced"):
        loaded[5]
    with pytest.raises(InputError, match=r"3\.npz is missing"):
        load_prediction(tmp_path)


def test_a_cell_is_two_files_that_other_programs_read(tmp_path):
    ensemble = ball(4, (50, 60), [20, 18, 12])
    prediction_of(ensemble).save(tmp_path)
    path = tmp_path / "cells" / "4.ome.tif"
    assert tifffile.imread(path, squeeze=False)[:, :, 0, ..., 0].shape == (3, 64, 64, 64)
    with tifffile.TiffFile(path) as tiff:
        members, occupancy, consensus = (one.asarray() for one in tiff.series)
    np.testing.assert_array_equal(members, ensemble.members)
    np.testing.assert_array_equal(occupancy, ensemble.occupancy)
    np.testing.assert_array_equal(consensus, ensemble.consensus)
    with np.load(tmp_path / "cells" / "4.npz") as file:
        np.testing.assert_array_equal(file["signed_distance"], ensemble.signed_distance)


def events(cells=None, **more):
    return nd.iter_predict(None, discs(), model="ellipsoid", cells=cells, **more)


def run(folder, **more):
    return result_of(iter_saved(events(**more), folder, added_to=more.get("earlier")))


def test_measures_that_a_table_lacks_are_measured(tmp_path):
    """As in folders of versions with fewer measures, or whose table was edited."""
    saved = prediction_of(ball(1, (40, 60), [9, 10]))
    saved.save(tmp_path)
    whole = load_measures(tmp_path, saved)
    table = pd.read_csv(tmp_path / "morphometry.csv")
    mixed = table.set_axis(table.columns[::-1], axis=1)  # the labels are no whole numbers
    for changed in (table.drop(columns="volume"), mixed, table.assign(label="9" * 30)):
        changed.to_csv(tmp_path / "morphometry.csv", index=False)
        pd.testing.assert_frame_equal(load_measures(tmp_path, saved), whole)


@pytest.mark.parametrize("torn", ["", '{"label": 5, "cel'])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch, torn):
    monkeypatch.setattr(growing, "_AHEAD", 0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for event in iter_saved(events(), whole):
        if isinstance(event, CellDone) and event.label == 2:
            shutil.copytree(whole, killed)  # as a process leaves it that is killed here
    with open(killed / "cells.jsonl", "a") as file:
        file.write(torn)
    (killed / "cells" / ".0123abcd.5.npz").touch()
    assert not (killed / "cells.csv").exists()
    earlier = earlier_prediction(killed)
    assert list(earlier) == [2]
    pd.testing.assert_frame_equal(load_measures(killed, earlier), measure(earlier))

    def read(self):
        raise AssertionError("the shapes of finished cells are not read")

    monkeypatch.setattr(store.CellFile, "ensemble", read)
    seen = [
        event.label
        for event in iter_saved(events(earlier=earlier), killed, added_to=earlier)
        if isinstance(event, CellDone)
    ]
    assert seen == [5], "finished cells are not drawn again"
    assert contents(killed) == contents(whole)


def test_a_choice_in_a_killed_run_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_AHEAD", 0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for event in iter_saved(events(), whole):
        if isinstance(event, CellDone) and event.label == 2:
            shutil.copytree(whole, killed)  # as a process leaves it that is killed here
    load_prediction(killed).keep(2, "consensus").save(killed)
    assert load_prediction(killed).kept == {2: "consensus"}


def test_two_runs_do_not_mix_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_AHEAD", 0)
    result_of(iter_saved(events(), tmp_path / "alone"))
    folder = tmp_path / "shared"
    for event in iter_saved(events(), folder):
        if isinstance(event, CellDone) and event.label == 2:
            (folder / "cells" / ".0123abcd.5.npz").touch()  # a file that is being written
            for earlier in (None, earlier_prediction(folder)):
                with pytest.raises(InputError, match="Another process is writing"):
                    result_of(iter_saved(events(seed=1, earlier=earlier), folder, added_to=earlier))
            assert (folder / "cells" / ".0123abcd.5.npz").exists()
    (folder / "cells" / ".0123abcd.5.npz").unlink()
    assert contents(folder) == contents(tmp_path / "alone")


def test_a_cancelled_run_has_tables_of_the_finished_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_AHEAD", 0)
    going = iter_saved(events(), tmp_path)
    for event in going:
        if isinstance(event, CellDone):
            break
    going.close()
    assert pd.read_csv(tmp_path / "cells.csv")["label"].tolist() == [2]
    assert not (tmp_path / "cells.jsonl").exists() and list(load_prediction(tmp_path)) == [2]


def test_cells_are_drawn_while_others_are_saved(tmp_path, monkeypatch):
    drawn, order = threading.Event(), []
    save = growing.save_cell

    def save_cell(prediction, folder, label):
        assert label == 5 or drawn.wait(PATIENCE / 1000), (
            "the next cell is not drawn before this one is saved"
        )
        order.append(label)
        save(prediction, folder, label)

    def watched():
        for event in events():
            yield event
            if isinstance(event, CellDone) and event.label == 5:
                drawn.set()
        return event.prediction

    monkeypatch.setattr(growing, "save_cell", save_cell)
    assert list(result_of(iter_saved(watched(), tmp_path))) == order == [2, 5]
    assert list(load_prediction(tmp_path)) == [2, 5]


def test_after_a_cell_that_cannot_be_saved_no_other_is(tmp_path, monkeypatch):
    def save_cell(prediction, folder, label):
        if label == 3:
            raise OSError(28, "No space left on device")
        saving.save_cell(prediction, folder, label)

    monkeypatch.setattr(growing, "save_cell", save_cell)
    labels = np.zeros((60, 150), int)
    labels[10:30, 10:30], labels[10:30, 50:70], labels[10:30, 90:110] = 1, 3, 4
    with pytest.raises(OSError, match="No space"):
        result_of(iter_saved(nd.iter_predict(None, labels, model="ellipsoid"), tmp_path))
    assert list(load_prediction(tmp_path)) == [1] == pd.read_csv(tmp_path / "cells.csv")["label"].tolist()


def test_a_new_run_replaces_the_prediction_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_AHEAD", 0)
    prediction_of(*(ball(label, (40, 60 * label), radii) for label, radii in RADII.items())).save(tmp_path)
    for event in iter_saved(events(), tmp_path):
        if isinstance(event, CellDone) and event.label == 2:
            assert list(load_prediction(tmp_path)) == [2]
    assert {path.name.split(".")[0] for path in (tmp_path / "cells").iterdir()} == {"2", "5"}
