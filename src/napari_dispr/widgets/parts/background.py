"""Runs the newest of a series of questions in a thread, so that the GUI thread never waits for an answer."""

import atexit
import threading
from collections.abc import Callable
from typing import Any

from napari.qt.threading import GeneratorWorker
from qtpy.QtCore import QObject, QTimer
from superqt.utils import FunctionWorker, WorkerBase, create_worker

from napari_dispr.errors import InputError

#: Questions that follow one another faster (typing, painting, sliding) are asked once; milliseconds.
_PAUSE = 150

# At its end Python pulls the ground from under threads of Qt, and one that loads torch then crashes.
# napari waits for them when it is quit from its window; scripts and tests end otherwise.
atexit.register(WorkerBase.await_workers)


class CancellableWorker(GeneratorWorker[Any, Any, Any]):
    """A generator in a thread. napari's "quit", at the closing of its window, ends it as Cancel does.

    A worker of superqt leaves its generator where it stands, and with it all that the run holds.

    Parameters
    ----------
    function : callable
        Makes the generator, of ``arguments``.
    arguments
        One of them is the `threading.Event` by which it is cancelled.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(function, *arguments)
        self._cancelled = next(one for one in arguments if isinstance(one, threading.Event))
        self.quitted = False

    def quit(self) -> None:
        self.quitted = True
        self._cancelled.set()


class NewestAnswer(QObject):
    """Answers the last question asked; answers that are out of date are dropped.

    Parameters
    ----------
    work : callable
        Runs in a thread, one call at a time.
    answered : callable
        Takes what ``work`` returned, or the `InputError` that it raised, on the GUI thread. Other errors
        are raised there, where napari shows them.
    pause : int
        Milliseconds to wait for a newer question before asking.
    """

    def __init__(
        self,
        work: Callable[..., Any],
        answered: Callable[[Any], None],
        parent: QObject,
        pause: int = _PAUSE,
    ) -> None:
        super().__init__(parent)
        self._work, self._answered = work, answered
        self._question: tuple[Any, ...] | None = None
        self._worker: FunctionWorker[Any] | None = None
        self._timer = QTimer(self, singleShot=True, interval=pause)
        self._timer.timeout.connect(self._start)

    @property
    def pending(self) -> bool:
        """Whether an answer is still to come."""
        return self._question is not None

    def ask(self, *question: Any) -> None:
        """Call ``work`` with these arguments soon."""
        self._question = question
        self._timer.start()

    def forget(self) -> None:
        """Want no answer any more."""
        self._question = None
        self._timer.stop()

    def _start(self) -> None:
        if self._worker is not None or self._question is None:
            return  # the one at work starts this one when it has finished
        question = self._question
        self._worker = create_worker(self._attempt, question, _start_thread=False)
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)  # type: ignore[arg-type]
        self._worker.start()

    def _attempt(self, question: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        try:
            return question, self._work(*question)
        except Exception as error:  # an answer, too: of a RuntimeError superqt makes a worker that never ends
            return question, error

    def _on_returned(self, result: tuple[tuple[Any, ...], Any]) -> None:
        question, answer = result
        if question is self._question:
            self._question = None
            if isinstance(answer, Exception) and not isinstance(answer, InputError):
                raise answer
            self._answered(answer)

    def _on_finished(self) -> None:
        self._worker = None
        if self._question is not None and not self._timer.isActive():
            self._start()
