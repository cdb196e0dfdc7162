"""All windows of the plugin are tabs of one group, one of each kind, and the napari window never grows."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from napari import Viewer
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QTimer
from qtpy.QtWidgets import QApplication, QScrollArea, QTextEdit, QWidget
from support.windows import let_events_run

import napari_dispr
from napari_dispr.training.run import Plan, Run
from napari_dispr.viewer.opening import DISPLAY_NAME, PLUGIN, open_window
from napari_dispr.widgets.morphometry.widget import MorphometryWidget
from napari_dispr.widgets.parts.citation import CITATION, CiteLink
from napari_dispr.widgets.parts.docked import DockedWidget, Message
from napari_dispr.widgets.parts.threads import Job, LatestAnswer, Step, threads_running
from napari_dispr.widgets.predict.widget import PredictWidget
from napari_dispr.widgets.synthesis.balance import BalanceWidget
from napari_dispr.widgets.synthesis.synthesise import SynthesiseWidget
from napari_dispr.widgets.train.widget import TrainWidget

NAMES = {
    PredictWidget: "Predict 3D shapes",
    MorphometryWidget: "Morphometry",
    BalanceWidget: "Balance classes",
}


def test_the_name_is_that_of_the_manifest() -> None:
    manifest = yaml.safe_load((Path(napari_dispr.__file__).parent / "napari.yaml").read_text("utf-8"))
    assert (manifest["name"], manifest["display_name"]) == (PLUGIN, DISPLAY_NAME)


def test_the_citation_is_that_of_its_file(qtbot: QtBot) -> None:
    root = Path(__file__).resolve().parents[2]
    file = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    (paper,) = file["references"]
    names = [f"{one['given-names']} {one['family-names']}" for one in paper["authors"]]
    identifiers = [one["value"] for one in paper["identifiers"]]
    parts = [file["authors"][0]["name"], file["title"], f"Version {file['version']}", *names, paper["title"]]
    for part in (*parts, *identifiers, str(paper["year"]), paper["url"]):
        assert part in CITATION, part
    link = CiteLink()
    qtbot.addWidget(link)
    link.linkActivated.emit("cite")
    assert CITATION in link.box.informativeText()
    link.copy_button.click()
    assert QApplication.clipboard().text() == CITATION


def test_widgets_are_tabs_and_the_menu_raises_them(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1280, 776)
    docks = []
    for kind, name in NAMES.items():  # as napari's menu does it
        docks.append(viewer.window.add_dock_widget(kind(viewer), name=f"{name} ({DISPLAY_NAME})"))
    qtbot.waitUntil(lambda: set(window.tabifiedDockWidgets(docks[0])) == set(docks[1:]))
    qtbot.waitUntil(lambda: docks[-1].widget()._in_front and not docks[0].widget()._in_front)
    assert (window.width(), window.height()) == (1280, 776)
    assert window.minimumSizeHint().height() < 700
    first, *_, last = docks
    assert first.isVisible() and not first.widget()._in_front
    first.setVisible(not first.isVisible())  # as the menu does it
    qtbot.waitUntil(lambda: first.isVisible() and first.widget()._in_front)
    first.setVisible(not first.isVisible())  # in front: the menu hides it
    qtbot.waitUntil(lambda: last.widget()._in_front or docks[1].widget()._in_front)
    assert first.isHidden()
    first.setVisible(not first.isVisible())
    qtbot.waitUntil(lambda: first.isVisible() and first.widget()._in_front)
    before = len(viewer.window.dock_widgets)
    assert open_window(viewer, "Balance classes") is last.widget()
    qtbot.waitUntil(lambda: last.widget()._in_front)
    assert len(viewer.window.dock_widgets) == before


def test_a_message_shrinks_what_can_shrink(make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> None:
    """Without it the window would scroll as soon as some text in it wraps."""
    widget, message, text = DockedWidget(make_napari_viewer()), Message(), QTextEdit()
    widget._lay_out(message, text)
    qtbot.addWidget(widget)
    widget.resize(400, text.sizeHint().height())
    widget.show()
    bar = widget.findChild(QScrollArea).verticalScrollBar()
    before = text.height()
    message.say("3 of 6 rows pass the filter.")
    qtbot.waitUntil(lambda: message.height() > 0 and text.height() != before)
    let_events_run()
    assert text.height() < before
    assert text.height() >= text.minimumSizeHint().height() and bar.maximum() == 0


@pytest.mark.parametrize(
    ("window", "of", "button", "messages"),
    [
        (PredictWidget, "", "predict_button", ("message",)),
        (TrainWidget, "", "train_button", ("message",)),
        (TrainWidget, "view", "delete_button", ("problem", "verdict")),
        (BalanceWidget, "", "balance_button", ("message",)),
        (SynthesiseWidget, "learn", "learn_button", ("summary", "message")),
        (SynthesiseWidget, "learn.view", "delete_button", ("problem",)),
        (SynthesiseWidget, "make", "make_button", ("message",)),
        (SynthesiseWidget, "judge", "judge_button", ("message",)),
    ],
)
def test_messages_do_not_move_buttons(
    make_napari_viewer: Callable[..., Viewer],
    qtbot: QtBot,
    window: type[DockedWidget],
    of: str,
    button: str,
    messages: tuple[str, ...],
) -> None:
    """A click on a button that moves would miss it."""
    widget = window(make_napari_viewer())
    qtbot.addWidget(widget)
    widget.resize(400, 3000)  # else what is above shrinks
    widget.show()
    part = attrgetter(of)(widget) if of else widget
    if isinstance(widget, SynthesiseWidget):
        widget.tabs.setCurrentIndex(("learn", "make", "judge").index(of.partition(".")[0]))
    part.show()
    shown = getattr(part, button)
    shown.show()
    for message in messages:
        getattr(part, message).say("")
    let_events_run()
    before = shown.mapTo(widget, QPoint(0, 0))
    for message in messages:
        getattr(part, message).say("This sentence needs more than one line in a window of this width. " * 3)
    qtbot.waitUntil(lambda: all(getattr(part, message).height() > 30 for message in messages))
    assert shown.isVisible() and shown.mapTo(widget, QPoint(0, 0)) == before


def test_long_names_do_not_make_a_window_wider(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, tmp_path: Path
) -> None:
    widget = TrainWidget(make_napari_viewer())
    qtbot.addWidget(widget)
    name = "my_nuclei_of_the_embryo_at_sixteen_cells_confocal_of_2026_11_30_second_attempt"
    plan = Plan(name=name, dataset="cells", out=str(tmp_path / f"{name}.safetensors"), start=name)
    run = Run.create(tmp_path / "run", plan)
    for step in (0, 10):
        run.write("validation", step=step, share=0, best=True, energy_score=0.3, volume_error=0.2)
    run.write("end", reason="finished", model=plan.out)
    widget.view.follow(run)
    widget.view.show()
    qtbot.waitUntil(lambda: widget.view.state == "finished" and bool(widget.view.scores.text()))
    let_events_run()
    assert widget.view.minimumSizeHint().width() < 400
    assert name in widget.view.scores.toolTip()


def test_the_message_of_a_filter_moves_nothing(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot
) -> None:
    widget = MorphometryWidget(make_napari_viewer())
    qtbot.addWidget(widget)
    widget.resize(500, 700)
    widget.show()
    let_events_run()
    widget.stack.setCurrentIndex(1)  # as with a prediction
    widget.stack.currentWidget().layout().activate()
    before = widget.plots.save_button.mapTo(widget, QPoint(0, 0))
    widget.hint.say("3 of 6 rows pass the filter.")
    widget.stack.currentWidget().layout().activate()
    assert widget.hint.isVisible()
    assert widget.plots.save_button.mapTo(widget, QPoint(0, 0)) == before


def test_a_dock_of_a_script_has_the_name_of_the_menu(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer()
    dock = viewer.window.add_dock_widget(MorphometryWidget(viewer), name=f"Morphometry ({PLUGIN})")
    assert dock.name == f"Morphometry ({DISPLAY_NAME})" and dock.windowTitle() == "Morphometry"
    assert open_window(viewer, "Morphometry") is dock.widget()


def test_a_window_that_closes_ends_the_work_of_its_parts(qtbot: QtBot) -> None:
    def endless(step: Step) -> None:
        while True:
            step(0, 1)

    window = DockedWidget(ViewerModel())
    qtbot.addWidget(window)
    part = QWidget(window)
    heard: list[object] = []
    job, timer = Job(part), QTimer(part, interval=0)
    job.failed.connect(heard.append)
    timer.timeout.connect(lambda: heard.append("timer"))
    latest = LatestAnswer(lambda: "answer", heard.append, part, pause=10)
    job.start(endless)
    latest.ask()
    timer.start()
    window.shut_down()
    qtbot.waitUntil(lambda: threads_running() == 0)
    qtbot.wait(30)  # longer than the answer would have waited
    assert not (job.running or latest.pending or timer.isActive()) and heard == []
