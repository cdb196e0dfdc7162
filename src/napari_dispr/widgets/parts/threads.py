"""Runs work outside the GUI thread, so that the window never waits.

`LatestAnswer` answers the newest of a series of questions; `Job` does one long piece of work with progress
and cancel. Both deliver their results on the GUI thread.
"""

import _thread
import atexit
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.loading import without_full_collections

#: If questions follow faster than this, in milliseconds, only the last is answered.
_PAUSE = 150

_changed = threading.Condition()
#: The events that cancel what runs in threads.
_running: list[threading.Event] = []


class _Relay(QObject):
    """Carries results to the GUI thread. It has no parent: a window that closes does not destroy it."""

    sent = Signal(object, object)


def _run_in_thread(work: Callable[[], None], cancelled: threading.Event) -> None:
    def run() -> None:
        try:
            work()
        finally:
            with _changed:
                _running.remove(cancelled)
                _changed.notify_all()

    with _changed:
        _running.append(cancelled)
    # Not `threading.Thread`: its `start` waits as long as another thread holds the interpreter.
    _thread.start_new_thread(run, ())


def threads_running() -> int:
    """Number of pieces of work that are running in threads."""
    return len(_running)


@atexit.register
def _end() -> None:
    """Cancel and wait: Python kills threads at its end, and one that is loading torch crashes then."""
    with _changed:
        for cancelled in _running:
            cancelled.set()
        _changed.wait_for(lambda: not _running)


class LatestAnswer(QObject):
    """Answers the last question; answers to earlier questions are dropped.

    Parameters
    ----------
    work : callable
        Runs in a thread.
    answered : callable
        Takes on the GUI thread what ``work`` returned, or the `InputError` that it raised. Other errors are
        raised there, where napari shows them.
    pause : int or None
        Milliseconds to wait for a newer question; then ``work`` runs one call at a time. None: ``work`` runs
        at once for each question, in a separate thread.
    """

    def __init__(
        self,
        work: Callable[..., Any],
        answered: Callable[[Any], None],
        parent: QObject,
        pause: int | None = _PAUSE,
    ) -> None:
        super().__init__(parent)
        self._work, self._answered, self._pause = work, answered, pause
        self._question: list[Any] | None = None  # a list, since each list is a different object
        self._busy = False
        self._relay = _Relay()
        self._relay.sent.connect(self._on_answer)
        self._timer = QTimer(self, singleShot=True, interval=pause or 0)
        self._timer.timeout.connect(self._start)

    @property
    def pending(self) -> bool:
        """Whether an answer is still to come."""
        return self._question is not None

    def ask(self, *question: Any) -> None:
        """Call ``work`` with these arguments soon."""
        self._question = list(question)
        if self._pause is None:
            self._start()
        else:
            self._timer.start()

    def forget(self) -> None:
        """Drop the answer that is still to come; work that has started runs to its end."""
        self._question = None
        self._timer.stop()

    def _start(self) -> None:
        question, work, relay = self._question, self._work, self._relay
        if question is None or (self._busy and self._pause is not None):
            return  # the question at work starts this one when it has finished
        self._busy = True

        def answer() -> None:
            try:
                result = work(*question)
            except Exception as error:
                result = error
            relay.sent.emit(question, result)

        _run_in_thread(answer, threading.Event())

    def _on_answer(self, question: list[Any], answer: Any) -> None:
        self._busy = False
        if question is not self._question:
            if self._question is not None and self._pause is not None and not self._timer.isActive():
                self._start()
            return
        self._question = None
        if isinstance(answer, Exception) and not isinstance(answer, InputError):
            raise answer
        self._answered(answer)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a job; ``text`` is the format of a progress bar, such as ``cell 3, %p %``."""

    done: int
    total: int
    text: str = "%v of %m"


class Cancelled(Exception):
    """Ends a job that the user has cancelled."""


#: Called after each step with the numbers of finished and of all steps; raises `Cancelled` to end the job.
Step = Callable[[int, int], None]
#: A generator that yields after each step, or a function that takes a `Step`.
Work = Generator[Any, None, Any] | Callable[[Step], Any]


class Job(QObject):
    """Does one piece of work at a time in a thread.

    When the job is cancelled, `Cancelled` is raised inside the work, where it has just finished a step. A
    generator may catch it to yield what is finished, and then raises it again.
    """

    #: What the work yields: `Progress`, or anything else.
    yielded = Signal(object)
    #: What the work returned.
    done = Signal(object)
    #: The exception that ended the work, `Cancelled` if it was cancelled.
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cancelled = threading.Event()
        self._relay: _Relay | None = None

    @property
    def running(self) -> bool:
        """Whether there is work whose end is still to come."""
        return self._relay is not None

    def start(self, work: Work) -> None:
        """Start, unless something is running."""
        if self._relay is not None:
            return
        self._cancelled = cancelled = threading.Event()
        self._relay = relay = _Relay()
        self.destroyed.connect(cancelled.set)
        relay.sent.connect(self._on_sent)

        def run() -> None:
            try:
                with without_full_collections():
                    result = _result_of(work, cancelled, lambda event: relay.sent.emit("yielded", event))
            except Exception as error:
                relay.sent.emit("failed", error)
            else:
                relay.sent.emit("done", result)

        _run_in_thread(run, cancelled)

    def cancel(self) -> None:
        """End within one step."""
        self._cancelled.set()

    def abandon(self) -> None:
        """End within one step, and deliver nothing any more."""
        self.cancel()
        if self._relay is not None:
            with suppress(RuntimeError, TypeError):  # Qt has destroyed this object already
                self._relay.sent.disconnect(self._on_sent)
            self._relay = None

    def _on_sent(self, what: str, value: Any) -> None:
        if what == "yielded":
            self.yielded.emit(value)
            return
        self._relay = None
        (self.done if what == "done" else self.failed).emit(value)


def _result_of(work: Work, cancelled: threading.Event, send: Callable[[Any], None]) -> Any:
    """Do the work step by step; once ``cancelled`` is set, raise `Cancelled` inside it."""
    if not isinstance(work, Generator):

        def step(done: int, total: int) -> None:
            if cancelled.is_set():
                raise Cancelled
            send(Progress(done, total))

        return work(step)
    thrown = False
    while True:
        try:
            if cancelled.is_set() and not thrown:
                thrown = True
                event = work.throw(Cancelled())
            else:
                event = next(work)
        except StopIteration as end:
            return end.value
        send(event)
