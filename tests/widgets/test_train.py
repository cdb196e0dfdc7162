"""The training widget in a real napari window, by mouse; the first tests train for real, a few steps."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import napari_builtins
import numpy as np
import pytest
import tifffile
from napari import Viewer
from npe2 import PluginManifest, _pytest_plugin
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QPushButton, QWidget
from support.runs import WAITING
from support.windows import PATIENCE, drop_on, press, turn_wheel

import napari_dispr
import napari_dispr.prediction.predict  # before a thread does: rewriting of modules is not thread-safe
from napari_dispr.cells.folders import DatasetNotes, read_dataset, write_dataset
from napari_dispr.cells.stacks import cut_stacks
from napari_dispr.errors import InputError, problem_of
from napari_dispr.models.library import available_models, read_card, user_folder
from napari_dispr.settings import PRESETS, TrainSettings
from napari_dispr.synthesis.stacks import simulate_stack
from napari_dispr.training.run import Plan, Run, all_runs, runs_folder
from napari_dispr.widgets.parts import run_follower, stated_size
from napari_dispr.widgets.parts.followed import stop_runs
from napari_dispr.widgets.parts.picture import PictureWindow
from napari_dispr.widgets.parts.threads import threads_running
from napari_dispr.widgets.train.request import DataRequest, gather
from napari_dispr.widgets.train.widget import TrainWidget

STACK = simulate_stack(cells=8, shape=(40, 130, 130), seed=3)
FRAME = {"scale": STACK.spacing, "units": ("um",) * 3}
FEW_STEPS = TrainSettings(steps=4, batch=2, validations=1, validation_cells=1, processes=1)


@pytest.fixture(autouse=True)
def cheap_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of some seconds."""
    monkeypatch.setitem(PRESETS, "standard", FEW_STEPS)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_runs([run for run in all_runs() if run.is_running])


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Viewer]) -> Callable[..., tuple[Viewer, TrainWidget]]:
    """Opens a window with the widget in its dock, and a stack."""

    def open_(stack: bool = True, show: bool = False) -> tuple[Viewer, TrainWidget]:
        viewer = make_napari_viewer(show=show)
        viewer.window._qt_window.resize(1400, 950)
        if stack:
            viewer.add_image(STACK.image, name="nuclei", **FRAME)
            viewer.add_labels(STACK.labels.copy(), name="segmentation", **FRAME)
        return viewer, dock(viewer)

    return open_


def dock(viewer: Viewer) -> TrainWidget:
    widget = TrainWidget(viewer)
    widget.ask_on_close = lambda runs: "go on"
    widget.view.confirm = lambda text: True
    viewer.window.add_dock_widget(widget, name="Train a shape model")
    return widget


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of runs begin and then only wait to be stopped."""
    monkeypatch.setattr(Run, "command", lambda run, finish=False: WAITING.command_of(run))


def cells_read(qtbot: QtBot, widget: TrainWidget) -> None:
    qtbot.waitUntil(lambda: not widget.data.pending)


def begin(qtbot: QtBot, widget: TrainWidget) -> Run:
    """Press Train as soon as the cells have been read."""
    qtbot.waitUntil(widget.train_button.isEnabled)
    press(widget.train_button)
    qtbot.waitUntil(lambda: widget.view.run is not None)
    return widget.view.run


def in_state(qtbot: QtBot, widget: TrainWidget, state: str) -> None:
    qtbot.waitUntil(lambda: widget.view.state == state)


def planned(name: str = "nuclei") -> Run:
    return Run.create(runs_folder() / name, Plan(name=name, dataset="d", out="o", start="generic"))


def dataset(folder: Path) -> Path:
    write_dataset(folder, cut_stacks([STACK]).cells, DatasetNotes(voxel_size=0.2, unit="micrometer"))
    return folder


# --- trained for real ----------------------------------------------------------------------------


@pytest.fixture
def with_plugin(npe2pm: _pytest_plugin.TestPluginManager) -> Iterator[None]:
    own = PluginManifest.from_file(Path(napari_dispr.__file__).parent / "napari.yaml")
    builtins = PluginManifest.from_file(Path(napari_builtins.__file__).parent / "builtins.yaml")
    with npe2pm.tmp_plugin(manifest=own), npe2pm.tmp_plugin(manifest=builtins):
        yield


def test_calibrate_instead_of_train(with_plugin, opened, qtbot: QtBot, monkeypatch) -> None:
    viewer, widget = opened(show=True)
    viewer.window._qt_window.resize(1000, 500)
    cells_read(qtbot, widget)
    widget.form.preset.setCurrentText("calibrate only")
    assert widget.train_button.text() == "Calibrate" and not widget.form.minutes.isVisible()
    widget.form.start.model = None
    assert "Choose the model to calibrate" in widget.message.text() and not widget.train_button.isEnabled()
    widget.form.start.model = "generic"
    widget.form.name.setText("my-tall")
    press(widget.train_button)
    assert widget.run_bar.running and not widget.train_button.isEnabled()
    press(widget.run_bar.cancel_button)
    qtbot.waitUntil(lambda: not widget.run_bar.running)
    assert "No model was written" in widget.run_bar.status.text()
    assert "my-tall" not in available_models()
    press(widget.train_button)
    qtbot.waitUntil(lambda: not widget.run_bar.running)
    assert "now available in Predict" in widget.run_bar.status.text()
    assert "calibrated with 7 known cells" in read_card("my-tall").description
    button = widget.use_button
    qtbot.waitUntil(lambda: button.visibleRegion().boundingRect() == button.rect())  # scrolled into view
    press(button)
    qtbot.waitUntil(lambda: len(viewer.window.dock_widgets) == 2)


def test_from_layers_to_a_model_in_predict(with_plugin, opened, qtbot: QtBot) -> None:
    viewer, widget = opened(show=True)
    assert widget.data.message.text() == "Reading the cells…"
    assert not widget.train_button.isEnabled()
    cells_read(qtbot, widget)
    assert widget.data.message.text().startswith(f"{len(widget.data.data.cells)} cells to train on")
    assert "cut by the border" in widget.data.message.text()
    assert "only 7 cells" in widget.data.warnings.text()
    assert widget.data.picture.isVisible()
    press(widget.data.preview_button)
    qtbot.waitUntil(lambda: any(isinstance(w, PictureWindow) for w in QApplication.topLevelWidgets()))
    next(w for w in QApplication.topLevelWidgets() if isinstance(w, PictureWindow)).close()
    widget.form.name.setText("my-nuclei")
    widget.form.licence.setCurrentText("CC-BY-4.0")
    widget.form.data_note.setText("simulated, not published")
    press(widget.form.more._toggle_btn)
    widget.form.seed.setValue(7)
    run = begin(qtbot, widget)
    assert not widget.page_new.isVisible() and widget.view.stop_button.isVisible()
    assert run.plan.start == "generic" and run.plan.settings == FEW_STEPS.model_copy(update={"seed": 7})
    assert len(read_dataset(run.plan.dataset)) == len(widget.data.data.cells)
    in_state(qtbot, widget, "finished")
    assert widget.view.headline.text() == 'Finished: "my-nuclei" is now available in Predict.'
    assert "generic (start)" in widget.view.scores.text()
    assert not widget.view.picture.image.isNull() and widget.view.picture.isVisible()
    assert widget.view.curves.isVisible()
    losses = [widget.view.curves.flow.getData()[0], widget.view.curves.scored.getData()[0]]
    assert sum(0 if x is None else len(x) for x in losses) >= 1
    assert len(widget.view.curves.energy.getData()[0]) >= 2
    assert not widget.view.stop_button.isVisible() and not widget.view.problem.isVisible()
    assert available_models()["my-nuclei"] == user_folder() / "my-nuclei.safetensors"
    card = read_card("my-nuclei")
    assert card.licence == "CC-BY-4.0" and "simulated, not published" in card.attribution
    assert card.unit == "micrometer" and card.voxel_size == widget.data.data.notes.voxel_size
    press(widget.view.use_button)
    qtbot.waitUntil(lambda: "Predict 3D shapes (napari DISPR)" in viewer.window.dock_widgets)
    predict = viewer.window.dock_widgets["Predict 3D shapes (napari DISPR)"]
    assert predict.form.model_choice.model == "my-nuclei"
    widget.follow(str(run.folder))  # from the list, as after a restart
    in_state(qtbot, widget, "finished")
    assert run.last("scoring")["of"] > 0, "the scoring of the finished model was logged"
    press(widget.view.further_button)
    cells_read(qtbot, widget)
    request = widget.form.request()
    assert (request.start, widget.data.folder.folder) == ("my-nuclei", Path(run.plan.dataset))
    assert request.name != "my-nuclei" and widget.page_new.isVisible()


def test_killed_continued_stopped_and_saved_as_a_model(
    opened, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "standard", FEW_STEPS.model_copy(update={"steps": 3000}))
    _viewer, widget = opened(show=True)
    run = begin(qtbot, widget)
    qtbot.waitUntil(lambda: widget.view.numbers.text().startswith("step "))
    os.kill(run._owner().pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    in_state(qtbot, widget, "stopped")
    assert "ended unexpectedly" in widget.view.problem.text()
    assert "press Continue" in widget.view.problem.text()
    qtbot.waitUntil(lambda: widget.runs.currentText() == "my-cells: stopped")

    press(widget.view.continue_button)
    in_state(qtbot, widget, "running")
    assert not widget.view.problem.isVisible()
    qtbot.waitUntil(lambda: widget.view.numbers.text().startswith("step "))
    press(widget.view.stop_button)
    assert widget.view.headline.text() == "Stopping…"
    in_state(qtbot, widget, "stopped")
    assert not run.is_running and not widget.view.problem.isVisible()
    assert widget.view.headline.text().startswith("Stopped at ")

    press(widget.view.finish_button)
    in_state(qtbot, widget, "running")
    assert widget.view.headline.text().startswith("Saving the best weights")
    in_state(qtbot, widget, "finished")
    assert "my-cells" in available_models()


# --- what is chosen ------------------------------------------------------------------------------


def test_with_nothing_open_the_next_step_is_said(opened) -> None:
    _viewer, widget = opened(stack=False)
    assert widget.data.message.text().startswith("Open a 3D label layer")
    assert not widget.train_button.isEnabled()
    press(widget.data.folder_button)
    assert widget.data.message.text().startswith("Choose a dataset folder")


def test_the_cells_wait_for_the_size_that_their_file_states(
    make_napari_viewer, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, read = threading.Event(), stated_size.stated_spacing
    monkeypatch.setattr(stated_size, "stated_spacing", lambda path: slow.wait(PATIENCE / 1000) and read(path))
    stated = {"metadata": {"axes": "ZYX", "spacing": 0.3, "unit": "um"}, "resolution": (5, 5)}
    tifffile.imwrite(tmp_path / "nuclei.tif", STACK.image.astype(np.float32), imagej=True, **stated)
    viewer = make_napari_viewer()
    data = dock(viewer).data
    viewer.open(tmp_path / "nuclei.tif", plugin="napari")
    viewer.add_labels(STACK.labels.copy(), name="segmentation")
    qtbot.waitUntil(lambda: data.message.text() == "Reading the cells…")
    assert data.pending and not data._check.pending
    slow.set()
    qtbot.waitUntil(lambda: data.data is not None)
    assert data.request().stack.spacing == pytest.approx((0.3, 0.2, 0.2))


def test_only_stacks_are_offered(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    viewer.add_image(np.zeros((9, 9)), name="flat")
    viewer.add_labels(np.zeros((2, 3, 9, 9), int), name="film")
    assert [layer.name for layer in widget.data.image_choice.offered] == ["nuclei"]
    assert [layer.name for layer in widget.data.labels_choice.offered] == ["segmentation"]
    widget.data.image_choice.layer = None
    cells_read(qtbot, widget)
    assert all(cell.image is None for cell in widget.data.data.cells)
    viewer.add_image(np.zeros_like(STACK.image), name="other")
    assert widget.data.image_choice.layer is None, "the choice is the user's"


def test_voxel_size_is_the_layers_until_the_user_says_otherwise(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    spacing = widget.data.spacing
    assert (spacing.spacing.sides, spacing.spacing.unit) == (STACK.spacing, "micrometer")
    cells_read(qtbot, widget)
    before = widget.data.data.notes.voxel_size
    spacing.lengths["z"].setValue(2.0)
    cells_read(qtbot, widget)
    assert spacing.spacing.sides == (2.0, *STACK.spacing[1:])
    assert widget.data.data.notes.voxel_size > before, "cells are twice as high"
    viewer.layers["segmentation"].scale = (1.5, 0.3, 0.3)
    qtbot.waitUntil(lambda: spacing.spacing.sides == (1.5, 0.3, 0.3))


def test_layers_without_a_scale_are_doubted(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(stack=False)
    viewer.add_labels(STACK.labels, name="segmentation")
    cells_read(qtbot, widget)
    assert "no voxel size" in widget.data.warnings.text()


def test_the_displayed_slice_is_taken(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    viewer.dims.set_point(0, 17)
    press(widget.data.plane.take_button)
    assert widget.data.plane.plane == 17
    cells_read(qtbot, widget)
    with pytest.raises(InputError) as few:  # a slice of this stack cuts some cells only
        gather(DataRequest(STACK, plane=17))
    assert widget.data.message.text() == f"⚠ {few.value}"
    widget.data.plane.plane = "middle"
    cells_read(qtbot, widget)
    assert widget.data.data.notes.plane == "middle"


def test_painting_is_seen(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    cells_read(qtbot, widget)
    before = len(widget.data.data.cells)
    whole = int(widget.data.data.cells[0].name.rpartition("-")[2])
    labels = viewer.layers["segmentation"]
    labels.data_setitem(np.nonzero(labels.data == whole), 0)
    qtbot.waitUntil(lambda: widget.data.data is None)
    cells_read(qtbot, widget)
    assert len(widget.data.data.cells) == before - 1
    labels.data = STACK.labels
    qtbot.waitUntil(lambda: widget.data.data is not None and len(widget.data.data.cells) == before)


def test_labels_that_do_not_fit_the_picture(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    viewer.add_labels(STACK.labels[:-1], name="shorter")
    widget.data.labels_choice.layer = viewer.layers["shorter"]
    assert "choose labels made from this picture" in widget.data.message.text()
    assert not widget.train_button.isEnabled()


def test_a_folder_is_dropped(opened, qtbot: QtBot, tmp_path: Path) -> None:
    _viewer, widget = opened(stack=False)
    folder = dataset(tmp_path / "cells")
    drop_on(widget.data, folder)
    assert widget.data.folder_button.isChecked() and widget.data.folder.folder == folder
    widget.data.folder.folder = None
    drop_on(widget.data.folder, folder)  # on the line itself, as in other windows
    assert widget.data.folder.folder == folder
    cells_read(qtbot, widget)
    assert widget.data.data.folder == folder
    assert widget.data.data.notes.voxel_size == 0.2
    qtbot.waitUntil(widget.train_button.isEnabled)
    (folder / "train" / "obj" / f"{widget.data.data.cells[0].name}.tif").unlink()
    widget.data.folder.folder = folder / "train"
    cells_read(qtbot, widget)
    assert "is missing" in widget.data.message.text() and widget.data.message.text().startswith("⚠")
    assert not widget.data.preview_button.isVisible() and not widget.train_button.isEnabled()


def test_wrong_names_are_said_at_once(opened, qtbot: QtBot) -> None:
    planned("nuclei")
    _viewer, widget = opened(show=True)
    qtbot.waitUntil(widget.train_button.isEnabled)
    wrong = {
        "": "Give the model a name",
        "Generic": "There is a model",
        "a/b": "cannot be a model's name",
        "nuclei": "There is a training run",
    }
    for name, words in wrong.items():
        widget.form.name.setText(name)
        assert words in widget.message.text() and widget.message.isVisible()
        assert not widget.train_button.isEnabled()
        widget.form.name.setText("nuclei-2")
        assert widget.train_button.isEnabled() and not widget.message.isVisible()


def test_a_name_that_is_free_is_offered(opened) -> None:
    planned("my-cells")
    _viewer, widget = opened(stack=False)
    assert widget.form.name.text() == "my-cells-2"


def test_presets_fill_the_form(opened) -> None:
    _viewer, widget = opened(stack=False)
    form = widget.form
    form.preset.setCurrentIndex(form.preset.findData("quick"))
    assert form.minutes.isEnabled() and form.request().settings == PRESETS["quick"]
    form.minutes.setValue(2.5)
    assert form.request().settings.minutes == 2.5
    form.by_steps.setChecked(True)
    form.steps.setValue(70)
    form.batch.setValue(7)
    assert "even batch" in problem_of(form.request)
    form.preset.setCurrentIndex(form.preset.findData("dispr"))
    assert form.request().settings == PRESETS["dispr"] and form.request().start is None
    assert not form.start.isEnabled()


def test_devices_are_offered(opened, qtbot: QtBot) -> None:
    _viewer, widget = opened(stack=False)
    qtbot.waitUntil(lambda: widget.form.device.itemText(0).startswith("auto: "))
    assert widget.form.device.findData("cpu") > 0
    assert widget.form.request().settings.device == "auto"


def test_the_wheel_scrolls_and_changes_nothing(opened) -> None:
    _viewer, widget = opened(stack=False)
    for control in (widget.form.preset, widget.form.minutes, widget.data.spacing.lengths["z"]):
        before = widget.form.request().settings, widget.data.spacing.spacing
        turn_wheel(control)
        assert (widget.form.request().settings, widget.data.spacing.spacing) == before


def test_every_control_says_what_it_is_for(opened) -> None:
    from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLineEdit

    _viewer, widget = opened(stack=False)
    for kind in (QPushButton, QComboBox, QAbstractSpinBox):
        for control in widget.findChildren(kind):
            assert control.toolTip() or control.parent().toolTip(), control
    for line in widget.findChildren(QLineEdit):
        assert line.toolTip() or line.parent().toolTip(), line


# --- runs that were there before -----------------------------------------------------------------


def test_a_run_that_goes_on_is_followed_again(waiting, opened, qtbot: QtBot) -> None:
    run = planned()
    run.start()
    viewer, widget = opened(stack=False)
    qtbot.waitUntil(lambda: widget.view.run is not None and widget.view.state == "running")
    viewer.window.remove_dock_widget(widget)
    assert run.is_running, "closing the widget alone leaves it"
    again = dock(viewer)
    qtbot.waitUntil(lambda: again.view.state == "running")
    assert again.runs.currentText() == "nuclei: running"
    press(again.view.stop_button)
    in_state(qtbot, again, "stopped")


def test_another_run_at_the_same_time_has_a_warning(waiting, opened, qtbot: QtBot) -> None:
    run = planned()
    run.start()
    _viewer, widget = opened()
    qtbot.waitUntil(lambda: widget.view.state == "running")
    assert widget.data.data is None, "nobody wants to know now"
    choose(widget, None)
    assert widget.view.run is None and run.is_running
    cells_read(qtbot, widget)
    assert "take longer" in widget.message.text()
    assert widget.train_button.isEnabled()


def test_runs_stand_in_the_list(opened, qtbot: QtBot) -> None:
    planned("first")
    stopped = planned("second")
    stopped.write("begin", step=0)
    stopped.write("problem", text="The disk is full: free 500 MB first.")
    _viewer, widget = opened(stack=False, show=True)
    qtbot.waitUntil(lambda: widget.runs.count() == 3)
    texts = [widget.runs.itemText(i) for i in range(3)]
    assert texts[0] == "New model…" and set(texts[1:]) == {"first: planned", "second: stopped"}
    choose(widget, stopped)
    in_state(qtbot, widget, "stopped")
    assert widget.view.problem.text() == "⚠ The disk is full: free 500 MB first."
    assert widget.view.continue_button.isVisible() and not widget.view.finish_button.isVisible()
    press(widget.view.delete_button)
    qtbot.waitUntil(lambda: widget.view.run is None)
    assert not stopped.folder.exists() and widget.page_new.isVisible()
    qtbot.waitUntil(lambda: widget.runs.count() == 2)


def choose(widget: TrainWidget, run: Run | None) -> None:
    index = 0 if run is None else widget.runs.findData(str(run.folder))
    widget.runs.setCurrentIndex(index)
    widget.runs.activated.emit(index)


def test_deleting_opens_a_question(opened, qtbot: QtBot) -> None:
    run = planned()
    _viewer, widget = opened(stack=False)
    questions = []
    widget.view.confirm = lambda text: questions.append(text) or False
    widget.follow(str(run.folder))
    in_state(qtbot, widget, "planned")
    press(widget.view.delete_button)
    assert len(questions) == 1 and "nuclei" in questions[0]
    qtbot.waitUntil(lambda: not threads_running())
    assert run.folder.exists()


def test_what_one_run_waits_for_is_not_shown_for_another(
    waiting, opened, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    monkeypatch.setattr(run_follower, "stop_runs", lambda runs, grace: done.wait(20))
    monkeypatch.setattr(Run, "delete", lambda run: done.wait(20))
    runs = [planned("first"), planned("second"), planned("third")]
    for run in runs[:2]:
        run.start()
    _viewer, widget = opened(stack=False)
    widget.follow(str(runs[0].folder))
    in_state(qtbot, widget, "running")
    press(widget.view.stop_button)
    assert widget.view.headline.text() == "Stopping…"
    widget.follow(str(runs[1].folder))
    in_state(qtbot, widget, "running")
    assert widget.view.headline.text() != "Stopping…" and widget.view.stop_button.isEnabled()
    widget.follow(str(runs[2].folder))
    in_state(qtbot, widget, "planned")
    press(widget.view.delete_button)
    widget.follow(str(runs[1].folder))
    done.set()
    qtbot.waitUntil(lambda: not (widget.view._delete.pending or widget.view._stop.pending))
    assert widget.view.run.folder == runs[1].folder


def test_a_run_removed_by_others_is_let_go(opened, qtbot: QtBot) -> None:
    run = planned()
    _viewer, widget = opened(stack=False)
    widget.follow(str(run.folder))
    in_state(qtbot, widget, "planned")
    (run.folder / "plan.json").unlink()
    run.folder.rmdir()
    qtbot.waitUntil(lambda: widget.view.run is None)


# --- closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["go on", "cancel", "stop"])
def test_closing_the_window_asks(with_plugin, waiting, make_napari_viewer, qtbot: QtBot, answer: str) -> None:
    run = planned()
    run.start()
    viewer = make_napari_viewer(show=True)
    # As from the menu: what napari gives to plugins has public attributes only.
    _, widget = viewer.window.add_plugin_dock_widget("napari-dispr", "Train a shape model")
    qtbot.waitUntil(lambda: widget.view.state == "running")
    qtbot.waitUntil(lambda: widget.view._followed.log.begin is not None)
    questions = []
    widget.ask_on_close = lambda runs: questions.append([run.plan.name for run in runs]) or answer
    window = kept(viewer)
    window.close()
    assert questions == [["nuclei"]]
    if answer == "cancel":
        assert window.isVisible() and run.is_running
        widget.ask_on_close = lambda runs: "go on"
    elif answer == "go on":
        assert not window.isVisible() and run.is_running
    else:
        qtbot.waitUntil(lambda: not window.isVisible())
        assert not run.is_running
        assert run.state == "stopped"


def test_without_a_run_that_goes_on_closing_does_not_ask(opened, qtbot: QtBot) -> None:
    run = planned()
    viewer, widget = opened(stack=False, show=True)
    widget.follow(str(run.folder))
    widget.ask_on_close = pytest.fail
    window = kept(viewer)
    window.close()
    assert not window.isVisible()


def kept(viewer: Viewer) -> QWidget:
    """The window of a viewer, which the fixture wants to close once more."""
    window = viewer.window._qt_window
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    return window
