"""Short work in threads of its own: answers come on the GUI thread, those out of date do not come."""

import threading
import time

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QObject

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.background import NewestAnswer
from napari_dispr.widgets.parts.own_thread import OwnThread


@pytest.fixture
def parent(qapp) -> QObject:
    return QObject()


def test_work_is_done_aside_and_answered_here(qtbot: QtBot, parent: QObject) -> None:
    answers = []
    asked = OwnThread(
        lambda x: (x, threading.current_thread() is threading.main_thread()),
        lambda answer: answers.append((*answer, threading.current_thread() is threading.main_thread())),
        parent,
    )
    assert not asked.pending
    asked.ask(3)
    assert asked.pending
    qtbot.waitUntil(lambda: not asked.pending)
    assert answers == [(3, False, True)]


def test_only_the_newest_answer_is_wanted(qtbot: QtBot, parent: QObject) -> None:
    answers, done = [], []

    def work(seconds: float) -> float:
        time.sleep(seconds)
        done.append(seconds)
        return seconds

    asked = OwnThread(work, answers.append, parent)
    asked.ask(0.3)
    asked.ask(0.05)  # does not wait for the one before
    qtbot.waitUntil(lambda: len(done) == 2)
    assert done == [0.05, 0.3]
    qtbot.wait(50)
    assert answers == [0.05]
    asked.ask(0.01)
    asked.forget()
    qtbot.waitUntil(lambda: len(done) == 3)
    qtbot.wait(50)
    assert answers == [0.05]


def test_many_do_not_wait_for_each_other(qtbot: QtBot, parent: QObject) -> None:
    meeting = threading.Barrier(8)
    answers = []
    for _ in range(8):
        OwnThread(lambda: meeting.wait(5), answers.append, parent).ask()
    qtbot.waitUntil(lambda: len(answers) == 8)


def test_bad_input_is_an_answer_and_bugs_are_raised_here(qtbot: QtBot, parent: QObject) -> None:
    def fail(error: Exception) -> None:
        raise error

    answers = []
    asked = OwnThread(fail, answers.append, parent)
    asked.ask(InputError("Wrong."))
    qtbot.waitUntil(lambda: len(answers) == 1)
    assert isinstance(answers[0], InputError)
    with qtbot.capture_exceptions() as raised:
        asked.ask(ZeroDivisionError("a bug"))
        qtbot.waitUntil(lambda: not asked.pending)
    assert len(answers) == 1
    assert [error for _, error, _ in raised if isinstance(error, ZeroDivisionError)]


def test_nobody_is_left_to_be_answered(qtbot: QtBot) -> None:
    parent, answers, go = QObject(), [], threading.Event()
    asked = OwnThread(lambda: go.wait(5), answers.append, parent)
    asked.ask()
    parent.deleteLater()
    qtbot.wait(50)
    go.set()
    qtbot.wait(50)
    assert not answers


def test_an_error_is_told_once_and_the_next_question_is_answered(qtbot: QtBot, parent: QObject) -> None:
    asked, answers = [], []

    def work(x: int) -> int:
        asked.append(x)
        if x < 0:
            raise RuntimeError("below zero")  # of these superqt makes workers that never end
        return x

    newest = NewestAnswer(work, answers.append, parent, pause=0)
    with qtbot.capture_exceptions() as errors:
        newest.ask(-1)
        qtbot.waitUntil(lambda: not newest.pending)
        newest.ask(1)
        qtbot.waitUntil(lambda: not newest.pending)
    assert answers == [1] and asked == [-1, 1]
    assert [str(error[1]) for error in errors] == ["below zero"]
