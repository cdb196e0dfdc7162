"""One slow thing in a thread, with progress, cancel, and what went wrong as one sentence."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, Signal
from superqt.utils import FunctionWorker, create_worker

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.loading import without_full_collections

#: Called with what is done and of how much, after each step; raises `Cancelled` when it is to end.
Step = Callable[[int, int], None]


class Cancelled(Exception):
    """Raised by a step of work that is not wanted any more."""


class Job(QObject):
    """Does one thing at a time.

    ``work`` runs in a thread and is given a `Step`, which it calls after each of its steps.
    """

    #: How much of the work is done, and of how much.
    progressed = Signal(int, int)
    #: It is done: what the work returned.
    done = Signal(object)
    #: It ended without a result: why, as a sentence; empty if it was cancelled.
    failed = Signal(str)
    #: After either.
    ended = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cancelled = threading.Event()
        self._worker: FunctionWorker[Any] | None = None
        self.destroyed.connect(self._cancelled.set)

    @property
    def running(self) -> bool:
        """Whether there is work going on."""
        return self._worker is not None

    def start(self, work: Callable[[Step], Any]) -> None:
        """Begin; does nothing while something runs."""
        if self._worker is not None:
            return
        self._cancelled = cancelled = threading.Event()
        self.destroyed.connect(cancelled.set)

        def step(finished: int, total: int) -> None:
            if cancelled.is_set():
                raise Cancelled
            with suppress(RuntimeError):  # Qt's half of this object is gone
                self.progressed.emit(finished, total)

        def attempt() -> tuple[Any, Exception | None]:
            # Nothing is raised, nor an error returned alone: of some superqt makes a worker that never ends.
            try:
                with without_full_collections():
                    return work(step), None
            except Exception as error:
                return None, error

        self._worker = create_worker(attempt, _start_thread=False)
        self._worker.returned.connect(self._on_returned)
        self._worker.start()

    def cancel(self) -> None:
        """End within one step; no result comes."""
        self._cancelled.set()

    def _on_returned(self, outcome: tuple[Any, Exception | None]) -> None:
        self._worker = None
        result, error = outcome
        if isinstance(error, Cancelled) or self._cancelled.is_set():
            self.failed.emit("")
        elif isinstance(error, InputError):
            self.failed.emit(str(error))
        elif isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            self.failed.emit(f"{place}{error.strerror or error}. Choose another place, or make room there.")
        elif error is not None:
            self.failed.emit("Stopped by an error; napari's notifications have the details.")
            notification_manager.receive_error(type(error), error, error.__traceback__)
        else:
            self.done.emit(result)
        self.ended.emit()
