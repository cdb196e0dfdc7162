"""The widget "Synthesise annotated images" in a real napari window: learn, make, browse and judge."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from napari import Viewer
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSlider, QApplication, QScrollArea, QScrollBar
from support.runs import up_to_date
from support.windows import press, turn_wheel

import napari_dispr.prediction.predict  # noqa: F401  # before a thread does: rewriting is not thread-safe
from napari_dispr.errors import InputError
from napari_dispr.events import result_of
from napari_dispr.synthesis.annotated import Annotated, read_annotated, write_image
from napari_dispr.synthesis.fields import make_synthesis
from napari_dispr.synthesis.learned_card import read_card
from napari_dispr.synthesis.phantoms import simulate_field
from napari_dispr.synthesis.populations import iter_make_population
from napari_dispr.synthesis.settings import PopulationSettings
from napari_dispr.synthesis.sources import SAMPLE, cell_source, learned_file
from napari_dispr.widgets.parts.followed import stop_runs
from napari_dispr.widgets.synthesis import learn_run
from napari_dispr.widgets.synthesis.browser import IMAGE_LAYER, LABELS_LAYER, FieldBrowser
from napari_dispr.widgets.synthesis.learn_run import (
    FollowedLearning,
    LearnRun,
    annotated_layers,
    free_name,
    name_problem,
)
from napari_dispr.widgets.synthesis.make_request import MakeRequest, iter_folder, source_of
from napari_dispr.widgets.synthesis.synthesise import SynthesiseWidget

Opened = tuple[Viewer, SynthesiseWidget]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    stop_runs([run for run in learn_run.all_runs() if run.is_running])


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Viewer]) -> Callable[..., Opened]:
    def open_(show: bool = False) -> Opened:
        field = simulate_field(cells=12, shape=(300, 300), seed=2)
        viewer = make_napari_viewer(show=show)
        place = {"scale": (0.1, 0.1), "units": ("micrometer",) * 2}
        viewer.add_image(field.image, name="picture", **place)
        viewer.add_labels(field.labels.astype(np.int64), name="cells", **place)
        widget = SynthesiseWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Synthesise annotated images")
        return viewer, widget

    return open_


def small(widget: SynthesiseWidget) -> None:
    """Ask for small 2D images of simulated nuclei."""
    make = widget.make
    widget.show_page(1)
    make.source.setCurrentIndex(make.source.findData("nuclei"))
    make.dimensions.setCurrentIndex(make.dimensions.findData(2))
    for box in make.size.values():
        box.setValue(96)


# --- make --------------------------------------------------------------------------------------------


def test_preview_then_a_folder_and_its_browser_by_mouse(opened, qtbot: QtBot, tmp_path: Path) -> None:
    viewer, widget = opened(show=True)
    make, out = widget.make, tmp_path / "made"
    small(widget)
    assert "folder" in make.message.text() and not make.make_button.isEnabled()
    assert not make.browser.list.isVisible()
    QApplication.processEvents()
    below = make.into.mapTo(widget, QPoint()).y()
    press(make.preview_button)
    QApplication.processEvents()
    assert make.preview_bar.running
    # The bar takes the place of the button.
    assert make.into.mapTo(widget, QPoint()).y() == pytest.approx(below, abs=3)
    qtbot.waitUntil(lambda: not make.preview_bar.running)
    first = make.picture.image
    assert not first.isNull()
    make.density.setValue(0.3)  # the preview follows the sliders
    qtbot.waitUntil(lambda: make.picture.image != first and not make.preview_bar.running)
    make.folder.folder = out
    make.images.setValue(2)
    press(make.make_button)
    qtbot.waitUntil(lambda: not make.run_bar.running)
    assert "2 images" in make.run_bar.status.text()
    assert make.browser.list.count() == 2
    assert "nuclei" in make.browser.title.text()
    press_item = make.browser.list.visualItemRect(make.browser.list.item(1)).center()
    QTest.mouseClick(make.browser.list.viewport(), Qt.MouseButton.LeftButton, pos=press_item)
    qtbot.waitUntil(lambda: LABELS_LAYER in viewer.layers)
    made = list(read_annotated(out))
    assert np.array_equal(viewer.layers[LABELS_LAYER].data, made[1].labels)
    assert np.array_equal(viewer.layers[IMAGE_LAYER].data, made[1].image)
    assert tuple(viewer.layers[IMAGE_LAYER].scale) == pytest.approx(made[1].spacing)
    assert not viewer.layers["picture"].visible
    assert widget.judge.folders["synthetic"].folder == out
    make.browser.begin(tmp_path / "next")
    assert widget.judge.folders["synthetic"].folder == tmp_path / "next"
    widget.judge.folders["synthetic"].folder = out  # the user's choice stays
    make.browser.begin(tmp_path / "last")
    assert widget.judge.folders["synthetic"].folder == out


def test_a_cancelled_folder_continues(opened, qtbot: QtBot, tmp_path: Path) -> None:
    _, widget = opened()
    make = widget.make
    small(widget)
    make.folder.folder = tmp_path / "made"
    make.images.setValue(500)
    make.make()
    qtbot.waitUntil(lambda: make.browser.list.count() >= 1)
    make.run_bar.cancel()
    qtbot.waitUntil(lambda: not make.run_bar.running)
    assert "Make continues" in make.run_bar.status.text()
    done = make.browser.list.count()
    assert done < 500
    make.images.setValue(done + 1)
    make.make()
    qtbot.waitUntil(lambda: not make.run_bar.running)
    assert make.browser.list.count() == done + 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    make.folder.folder = tmp_path / "other"
    make.make()
    qtbot.waitUntil(lambda: not make.run_bar.running)
    assert "notes.txt" in make.run_bar.status.text()


def test_another_folder_is_shown_in_place_of_the_one_that_is_being_read(qtbot: QtBot, tmp_path: Path) -> None:
    browser = FieldBrowser(ViewerModel())
    qtbot.addWidget(browser)
    for folder, images in (("first", "abc"), ("second", "d")):
        for kind, name in product(("image", "labels"), images):
            pixels = np.eye(24, dtype=np.uint8)
            write_image(tmp_path / folder / kind / f"{name}.tif", pixels, (1.0, 1.0), "micrometer")
    browser.open(tmp_path / "first")
    browser.open(tmp_path / "second")
    qtbot.waitUntil(lambda: "1 image in" in browser.run_bar.status.text())
    assert browser.list.count() == 1 and browser.title.text().startswith("second: 1 image.")


def test_images_become_layers(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    small(widget)
    make = widget.make
    assert make.cells_form.labelForField(make._size_row).text() == "size y, x"
    make.into.setCurrentIndex(make.into.findData("layers"))
    assert make.make_button.isEnabled()
    make.images.setValue(2)
    make.make()
    qtbot.waitUntil(lambda: not make.run_bar.running)
    assert [layer.name for layer in viewer.layers if layer.name.startswith("synthetic")] == [
        IMAGE_LAYER,
        LABELS_LAYER,
        f"{IMAGE_LAYER} [1]",
        f"{LABELS_LAYER} [1]",
    ]
    # They lie in one place: only the last image is visible.
    assert [layer.name for layer in viewer.layers if layer.visible] == [
        f"{IMAGE_LAYER} [1]",
        f"{LABELS_LAYER} [1]",
    ]
    made = list(viewer.layers)
    for _ in range(2):
        make.browser.show_layers(Annotated("", made[-2].data, made[-1].data, (1.0, 1.0), "pixel"))
    assert viewer.layers[: len(made)] == made, "a click in the browser removes what it showed alone"
    assert len(viewer.layers) == len(made) + 2
    make.images.setValue(1000)
    assert "too many layers" in make.message.text() and not make.make_button.isEnabled()


def test_a_stack_is_shown_at_the_slice_with_most_cells(opened) -> None:
    viewer, widget = opened()
    viewer.add_image(np.zeros((30, 8, 8)), scale=(0.5, 0.1, 0.1), translate=(-3, 0, 0))
    labels = np.zeros((9, 8, 8), np.uint8)
    labels[6, 2:6, 2:6] = 1
    widget.make.browser.add_layers(Annotated("", labels, labels, (2.0, 0.1, 0.1), "micrometer"))
    assert viewer.dims.point[0] == pytest.approx(12)


def test_larger_cells_have_more_voxels_of_the_same_size(tmp_path: Path) -> None:
    request = MakeRequest("nuclei", (128, 128), density=0.1, clustering=0.0)
    areas = {}
    for size in (1.0, 1.5):
        source = source_of(replace(request, cell_size=size))
        areas[size] = next(source.draw(np.random.default_rng(0), 6)).mask.sum()
        assert source.spacing == source_of(request).spacing
    assert areas[1.5] / areas[1.0] == pytest.approx(1.5**2, rel=0.15)
    events = iter_folder(request, tmp_path / "cellpose", 1, "cellpose")
    assert [event.name for event in events if hasattr(event, "picture")] == ["synthetic_0001"]
    with pytest.raises(InputError, match="density"):
        _ = MakeRequest("nuclei", (128, 128), density=2.0, clustering=0.0).settings


def test_textures_are_those_of_the_command(opened) -> None:
    """Without common noise of their own: it makes bright spots, or slices that do not agree."""
    _, widget = opened()
    made = source_of(widget.make.request)
    assert made.card == cell_source(SAMPLE, 3).card


# --- learn -------------------------------------------------------------------------------------------


def test_the_sliders_start_at_what_the_model_has_learned(opened) -> None:
    _, widget = opened()
    make = widget.make
    card = read_card(learned_file(SAMPLE))
    assert make.source.currentData() == SAMPLE
    assert make.density.value() == pytest.approx(card.usual_density(3), abs=0.01)
    make.cell_size.setValue(1.4)
    for dimensions in (2, 3):
        make.dimensions.setCurrentIndex(make.dimensions.findData(dimensions))
        make.source.setCurrentIndex(make.source.findData("nuclei"))
        make.density.setValue(0.4)
        make.clustering.setValue(0.9)
        make.source.setCurrentIndex(make.source.findData(SAMPLE))
        assert make.density.value() == pytest.approx(card.usual_density(dimensions), abs=0.01)
        assert make.clustering.value() == pytest.approx(card.clustering, abs=0.01)
    assert make.cell_size.value() == 1


def test_the_wheel_scrolls_and_moves_no_slider(opened) -> None:
    make = opened()[1].make
    before = make.request
    for slider in make.findChildren(QAbstractSlider):
        if not isinstance(slider, QScrollBar):
            turn_wheel(slider)
    assert make.request == before


def test_every_page_fits_a_dock_of_440_pixels(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(show=True)
    window = viewer.window._qt_window
    window.resize(1200, 800)
    dock = widget.parent()
    area = widget.findChild(QScrollArea)
    for page in range(3):
        widget.show_page(page)
        qtbot.waitUntil(lambda: area.widget().minimumSizeHint().width() <= area.viewport().width())
        window.resizeDocks([dock], [440], Qt.Orientation.Horizontal)
        qtbot.waitUntil(lambda: dock.width() <= 440)
        assert area.horizontalScrollBar().maximum() == 0


def test_what_is_missing_is_said(opened, qtbot: QtBot, tmp_path: Path) -> None:
    viewer, widget = opened()
    learn = widget.learn
    assert "2D, pixels of 0.1 x 0.1 µm" in learn.summary.text()
    assert learn.learn_button.isEnabled() and learn.name.text() == "my-cells"
    learn.name.setText("a/b")
    assert "cannot be a model's name" in learn.message.text()
    learn.name.setText("my-cells")
    learn.labels_choice.layer = viewer.add_labels(np.ones((10, 12), np.uint8), name="other")
    assert "shape" in learn.message.text() and not learn.learn_button.isEnabled()
    viewer.layers.clear()
    assert "Choose an image and its labels" in learn.message.text()
    learn.folder.folder = tmp_path
    assert "Looking" in learn.summary.text() and not learn.learn_button.isEnabled()
    qtbot.waitUntil(lambda: bool(learn.message.text()))
    assert (
        "give one with the folders image and labels" in learn.message.text()
        or "no TIFF" in learn.message.text()
    )
    make_synthesis(cell_source("nuclei", 2), tmp_path / "two", 2, PopulationSettings(size=(96, 96), cells=6))
    learn.folder.folder = tmp_path / "two"
    qtbot.waitUntil(learn.learn_button.isEnabled)
    assert learn.summary.text() == "2 images with labels" and not learn.message.text()
    assert not learn.image_choice.isEnabled()


def test_learning_in_a_process_then_making_with_the_model(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    learn = widget.learn
    learn.minutes.setValue(0.1)
    learn.learn()
    qtbot.waitUntil(lambda: learn.run is not None)
    run = learn.run
    assert run is not None and name_problem("my-cells") and free_name() == "my-cells-2"
    qtbot.waitUntil(lambda: learn.view.state in ("finished", "stopped"))
    assert learn.view.state == "finished", learn.view.problem.text()
    assert run.model.is_file() and len(learn.view._followed.losses) > 0
    assert not learn.view.picture.image.isNull()
    (field,) = read_annotated(run.folder)
    assert field.spacing == pytest.approx((0.1, 0.1)) and field.unit == "micrometer"
    assert np.array_equal(field.labels, viewer.layers["cells"].data)
    learn.view.make_button.click()
    assert widget.make.request.source == str(run.model) and not widget.make.isHidden()
    assert widget.judge.folders["real_train"].folder == run.folder
    widget.make.dimensions.setCurrentIndex(widget.make.dimensions.findData(3))
    widget.make.preview()
    qtbot.waitUntil(lambda: not widget.make.preview_bar.running)
    assert "make 2D images" in widget.make.preview_bar.status.text()
    learn.view.confirm = lambda text: True
    learn.view.delete_button.click()
    qtbot.waitUntil(lambda: learn.run is None)
    assert run.model.is_file() and not run.folder.exists() and not run.learning.exists()


def test_a_run_is_followed_by_its_log(tmp_path: Path) -> None:
    run = LearnRun(tmp_path / "cells.run")
    learn_run.write_json(run.folder / "plan.json", {"name": "cells", "minutes": 3})
    assert run.command()[-2:] == ["--minutes", "3"] and run.state == "planned"
    assert run.images == run.folder and str(run.folder) in run.command()
    learn_run.write_json(run.folder / "plan.json", {"name": "cells", "minutes": 3, "images": "mine"})
    assert run.images == Path("mine") and "mine" in run.command()
    run.learning.mkdir()
    assert not FollowedLearning(run).can_finish
    run.checkpoint.touch()
    lines = [
        {"kind": "step", "done": done, "total": 10, "step": done, "mask_loss": 0.5, "texture_loss": None}
        for done in (1, 2, 3, 2)  # continued from step 1
    ]
    warning = "The image of a does not show its cells."
    begin = {"kind": "begin", "step": 0, "cells": 9, "warnings": [warning]}
    run.log.write_text("".join(json.dumps(line) + "\n" for line in (begin, *lines)))
    run.output.write_text("napari-dispr: The labels hold only 2 cells: label at least 5.\n")
    followed = up_to_date(FollowedLearning(run))
    assert [one.share for one in followed.losses] == [0.1, 0.2]
    assert followed.state == "stopped" and "Stopped at 20%" in followed.headline() and followed.can_finish
    assert followed.problem() == "The labels hold only 2 cells: label at least 5."
    for printed, problem in (
        ("napari-dispr: interrupted; finished results are kept.", ""),
        ("step:  45%|####      | 450/1000", "press Continue."),
        ("Killed", 'Its last output: "Killed"'),
        (f"napari-dispr: {warning}", "press Continue."),
    ):
        run.output.write_text(f"{printed}\n")
        assert up_to_date(followed).problem().endswith(problem) and bool(problem) == bool(followed.problem())
    with run.log.open("a") as log:
        log.write(json.dumps({"kind": "end", "model": "cells.safetensors"}) + "\n")
    assert up_to_date(followed).state == "finished" and followed.problem() == warning
    run.delete()
    with pytest.raises(InputError, match="deleted"):
        up_to_date(followed)


def test_layers_that_cannot_be_learned_from(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer()
    labels = viewer.add_labels(np.ones((4, 8, 8), np.uint8))
    image = viewer.add_image(np.zeros((4, 8, 8)), scale=(1.0, 0.3, 0.3), units=("um",) * 3)
    found = annotated_layers(image, labels)
    assert found.spacing == (1.0, 0.3, 0.3) and found.unit == "micrometer"
    bare = viewer.add_image(np.zeros((4, 8, 8)))
    found = annotated_layers(bare, labels, (1.5, 0.2, 0.2))
    assert found.spacing == (1.5, 0.2, 0.2) and found.unit == "micrometer"
    assert annotated_layers(bare, labels, (None, 0.2, 0.2)).unit == "pixel"
    with pytest.raises(InputError, match="colour image"):
        annotated_layers(viewer.add_image(np.zeros((8, 8, 3)), rgb=True), labels)
    with pytest.raises(InputError, match="4 axes"):
        annotated_layers(viewer.add_image(np.zeros((2, 4, 8, 8))), labels)


# --- judge -------------------------------------------------------------------------------------------


def test_judging_gives_the_table(opened, qtbot: QtBot, tmp_path: Path) -> None:
    _, widget = opened()
    judge = widget.judge
    widget.show_page(2)
    assert "real images to train on" in judge.message.text() and not judge.judge_button.isEnabled()
    settings = PopulationSettings(size=(96, 96), cells=4)
    for seed, name in enumerate(("real_train", "real_test", "synthetic")):
        make_synthesis(cell_source("nuclei", 2), tmp_path / name, 2, settings, seed)
        judge.folders[name].folder = tmp_path / name
    judge.folders["out"].folder = tmp_path / "out"
    judge.steps.setValue(2)
    judge.seeds.setValue(1)
    judge.judge()
    judge.folders["out"].folder = tmp_path / "next"
    qtbot.waitUntil(lambda: not judge.run_bar.running)
    assert f"Table and figures are in {tmp_path / 'out'}." in judge.run_bar.status.text()
    kids = [judge.table.item(row, 3).text() for row in range(judge.table.rowCount())]
    assert bool(kids[1]) != ("KID needs 8 real" in judge.run_bar.status.text())
    rows = [judge.table.item(row, 0).text() for row in range(judge.table.rowCount())]
    assert rows == ["real", "synthetic", "real + synthetic"]
    assert not judge.picture.image.isNull() and (tmp_path / "out" / "table.csv").is_file()


def test_a_stack_may_be_lower_than_its_cells() -> None:
    request = MakeRequest(source="nuclei", size=(4, 96, 96), density=0.2, clustering=0.3)
    assert request.settings.cut == "all"
    population = result_of(iter_make_population(source_of(request), request.settings, request.seed, 0))
    assert population.cells, "nuclei are higher than four slices"
