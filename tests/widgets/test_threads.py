"""Work in threads: answers and results come on the GUI thread, those out of date do not come."""

import gc
import threading
from collections.abc import Generator

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QCoreApplication, QEvent, QObject
from support.windows import let_events_run

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.threads import Cancelled, LatestAnswer, Progress, Step, threads_running

PAUSES = pytest.mark.parametrize("pause", [0, None])


@pytest.fixture
def parent(qapp) -> QObject:
    return QObject()


@PAUSES
def test_work_runs_in_a_thread_and_is_answered_here(qtbot: QtBot, parent: QObject, pause: int | None) -> None:
    answers = []
    latest = LatestAnswer(
        lambda x: (x, threading.current_thread() is threading.main_thread()),
        lambda answer: answers.append((*answer, threading.current_thread() is threading.main_thread())),
        parent,
        pause=pause,
    )
    assert not latest.pending
    latest.ask(3)
    assert latest.pending
    qtbot.waitUntil(lambda: not latest.pending)
    assert answers == [(3, False, True)]


@PAUSES
def test_only_the_last_question_is_answered(qtbot: QtBot, parent: QObject, pause: int | None) -> None:
    answers, done = [], []
    started, go = threading.Event(), threading.Event()

    def work(name: str) -> str:
        if name == "first":
            started.set()
            go.wait()
        done.append(name)
        return name

    latest = LatestAnswer(work, answers.append, parent, pause=pause)
    latest.ask("first")
    qtbot.waitUntil(started.is_set)
    latest.ask("second")
    if pause is None:  # it does not wait for the one before
        qtbot.waitUntil(lambda: answers == ["second"])
    go.set()
    qtbot.waitUntil(lambda: len(done) == 2 and not threads_running())
    let_events_run()
    assert answers == ["second"]
    latest.ask("third")
    latest.forget()
    qtbot.waitUntil(lambda: not threads_running())
    let_events_run()
    assert answers == ["second"] and not latest.pending


def test_many_do_not_wait_for_each_other(qtbot: QtBot, parent: QObject) -> None:
    meeting = threading.Barrier(8)
    answers = []
    for _ in range(8):
        LatestAnswer(meeting.wait, answers.append, parent, pause=None).ask()
    qtbot.waitUntil(lambda: len(answers) == 8)


@PAUSES
def test_bad_input_is_an_answer_and_bugs_are_raised_here(
    qtbot: QtBot, parent: QObject, pause: int | None
) -> None:
    def work(x: object) -> object:
        if isinstance(x, Exception):
            raise x
        return x

    answers = []
    latest = LatestAnswer(work, answers.append, parent, pause=pause)
    latest.ask(InputError("Wrong."))
    qtbot.waitUntil(lambda: len(answers) == 1)
    assert isinstance(answers[0], InputError)
    with qtbot.capture_exceptions() as raised:
        latest.ask(RuntimeError("a bug"))
        qtbot.waitUntil(lambda: not latest.pending)
    assert [str(error[1]) for error in raised] == ["a bug"]
    latest.ask(1)
    qtbot.waitUntil(lambda: not latest.pending)
    assert len(answers) == 2 and answers[1] == 1


def test_nobody_is_left_to_be_answered(qtbot: QtBot) -> None:
    parent, answers, go = QObject(), [], threading.Event()
    LatestAnswer(go.wait, answers.append, parent, pause=None).ask()
    parent.deleteLater()
    let_events_run()
    go.set()
    qtbot.waitUntil(lambda: not threads_running())
    let_events_run()
    assert not answers


# --- the run bar ---------------------------------------------------------------------------------


class Steps:
    """Work of four steps that waits for leave to do each, and keeps what is finished."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.leave = threading.Semaphore(0)
        self.started = threading.Event()
        self.fails = fails

    def run(self) -> Generator[Progress | str, None, int]:
        done = 0
        self.started.set()
        try:
            while done < 4:
                yield Progress(done, 4)
                self.leave.acquire()
                done += 1
                if self.fails and done == 2:
                    raise self.fails
        except Exception:
            yield f"{done} are finished"
            raise
        return done


@pytest.fixture
def bar(qtbot: QtBot) -> RunBar:
    bar = RunBar("Stop")
    qtbot.addWidget(bar)
    bar.show()
    return bar


def test_a_run_shows_its_progress_and_its_result(bar: RunBar, qtbot: QtBot) -> None:
    assert not bar.progress_bar.isVisible() and not bar.cancel_button.isVisible()
    work, results = Steps(), []
    bar.start(work.run(), results.append, first="loading")
    assert bar.running and bar.cancel_button.isVisible() and bar.progress_bar.format() == "loading"
    bar.start(Steps().run(), pytest.fail)  # a second one does not start
    work.leave.release(3)
    qtbot.waitUntil(lambda: (bar.progress_bar.value(), bar.progress_bar.maximum()) == (3, 4))
    work.leave.release()
    qtbot.waitUntil(lambda: not bar.running)
    assert results == [4] and not bar.progress_bar.isVisible()
    assert gc.get_freeze_count() == 0


def test_cancel_ends_within_a_step_and_keeps_what_is_finished(bar: RunBar, qtbot: QtBot) -> None:
    work, events = Steps(), []
    bar.start(work.run(), pytest.fail, on_event=events.append, kept=lambda: f"So {events[-1]}.")
    qtbot.waitUntil(work.started.is_set)
    bar.cancel_button.click()
    work.leave.release(4)
    qtbot.waitUntil(lambda: not bar.running)
    assert len(events) == 1 and bar.status.text() == f"Cancelled. So {events[0]}."


def test_a_job_that_replaces_another_waits_for_its_end(bar: RunBar, qtbot: QtBot) -> None:
    first, last, results = Steps(), Steps(), []
    bar.start(first.run(), pytest.fail)
    bar.restart(Steps().run(), pytest.fail)
    bar.restart(last.run(), results.append)
    assert not last.started.is_set()
    first.leave.release(4)
    qtbot.waitUntil(last.started.is_set)
    last.leave.release(4)
    qtbot.waitUntil(lambda: not bar.running)
    assert results == [4] and not bar.status.text()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("The input is at fault."), "⚠ The input is at fault."),
        (OSError(28, "Full", "a.csv"), "⚠ a.csv: Full. Choose another folder, or free some space there."),
        (RuntimeError("a bug"), "⚠ Stopped by an error: see napari's notifications. 2 are kept."),
    ],
)
def test_what_went_wrong_is_said(bar: RunBar, qtbot: QtBot, error: Exception, text: str) -> None:
    work, events = Steps(error), []
    bar.start(work.run(), pytest.fail, on_event=events.append, kept="2 are kept.")
    work.leave.release(2)
    qtbot.waitUntil(lambda: not bar.running)
    assert bar.status.text() == text and events == ["2 are finished"]


def test_a_function_with_a_callback_runs_too(bar: RunBar, qtbot: QtBot) -> None:
    at, go, results = threading.Event(), threading.Event(), []

    def work(step: Step) -> int:
        step(1, 2)
        at.set()
        go.wait()
        step(2, 2)
        return 7

    go.set()
    bar.start(work, results.append)
    qtbot.waitUntil(lambda: not bar.running)
    assert results == [7]
    go.clear(), at.clear()
    bar.start(work, results.append)
    qtbot.waitUntil(at.is_set)
    bar.cancel()
    go.set()
    qtbot.waitUntil(lambda: not bar.running)
    assert results == [7] and bar.status.text().startswith("Cancelled.")


def test_a_window_that_closes_ends_the_run_and_hears_nothing_more(qtbot: QtBot) -> None:
    ended: list[bool] = []

    def run(work: Steps) -> Generator[Progress | str, None, int]:
        try:
            return (yield from work.run())
        except Cancelled:
            ended.append(True)
            raise

    for close in (RunBar.shut_down, RunBar.deleteLater):
        bar, work = RunBar("Stop"), Steps()
        bar.start(run(work), pytest.fail, on_event=pytest.fail)
        qtbot.waitUntil(work.started.is_set)
        close(bar)
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        work.leave.release(4)
        qtbot.waitUntil(lambda: not threads_running())
        let_events_run()
    assert len(ended) == 2
