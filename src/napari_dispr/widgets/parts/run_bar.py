"""The run bar: progress, cancel button and result of the jobs that a window runs in the background.

A window gives it a generator (or a function that takes a `Step`) and a handler of the result.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QGridLayout, QProgressBar, QPushButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layouts import column, keep_room, row
from napari_dispr.widgets.parts.threads import Cancelled, Job, Progress, Work

#: The progress bar repaints the window at each change: not at every step, milliseconds.
_BETWEEN_PROGRESS = 200
#: Lines of text for which a bar that keeps its room has room.
_LINES = 3


class RunBar(QWidget):
    """Runs one job at a time, and shows its progress and how it ended.

    ``cancel_tip`` says what cancelling keeps. With ``keeps_room`` progress and result share one place of
    three lines, which stays while nothing runs, so that they do not move what is above it.
    """

    #: A job has started, or has ended and its result was handled.
    changed = Signal()

    def __init__(self, cancel_tip: str, *, keeps_room: bool = False) -> None:
        super().__init__()
        self.progress_bar = QProgressBar()
        self.cancel_button = QPushButton("Cancel", toolTip=cancel_tip)
        #: How the last job ended.
        self.status = Message(_LINES if keeps_room else 0)
        progress = row((self.progress_bar, 1), self.cancel_button)
        if keeps_room:
            for part in (self.progress_bar, self.cancel_button):
                keep_room(part)
            places = QGridLayout(self)
            places.setContentsMargins(0, 0, 0, 0)
            places.addLayout(progress, 0, 0)
            places.addWidget(self.status, 0, 0)
        else:
            column(progress, self.status, parent=self)
        self._job = Job(self)
        self._on_result: Callable[[Any], None] = lambda result: None
        self._on_event: Callable[[Any], None] = lambda event: None
        self._kept: Callable[[], str] = str
        self._progress: Progress | None = None
        self._waiting: Callable[[], None] | None = None  # starts the job that waits for the end of another
        self._next_progress = QTimer(self, singleShot=True, interval=_BETWEEN_PROGRESS)
        self._next_progress.timeout.connect(self._show_progress)
        self._job.yielded.connect(self._on_yielded)
        self._job.done.connect(self._on_done)
        self._job.failed.connect(self._on_failed)
        self.cancel_button.clicked.connect(self.cancel)
        self._show_running()

    @property
    def running(self) -> bool:
        return self._job.running

    def start(
        self,
        work: Work,
        on_result: Callable[[Any], None],
        *,
        on_event: Callable[[Any], None] = lambda event: None,
        first: str = "loading the model",
        kept: str | Callable[[], str] = "Nothing was changed.",
    ) -> None:
        """Start a job, unless one is running.

        Parameters
        ----------
        work : generator or callable
            The generator may yield `Progress`.
        on_result : callable
            Takes what the work returns.
        on_event : callable
            Takes everything else that the generator yields.
        first : str
            What the progress bar says until the first `Progress`.
        kept : str or callable
            A sentence about the results of a job that was cancelled or failed.
        """
        if self.running:
            return
        self._on_result, self._on_event, self._progress = on_result, on_event, None
        self._kept = kept if callable(kept) else lambda: kept
        self.status.say("")
        self.progress_bar.setRange(0, 1)  # an endless bar would not show its text
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat(first)
        self._job.start(work)
        self._show_running()

    def restart(self, work: Work, on_result: Callable[[Any], None], **how: Any) -> None:
        """Start a job as `start` does; one that is running is cancelled before."""
        if self.running:
            self.cancel()
            self._waiting = partial(self.start, work, on_result, **how)
        else:
            self.start(work, on_result, **how)

    def cancel(self) -> None:
        """End within one step."""
        self._waiting = None
        self._job.cancel()
        self._next_progress.stop()
        self.cancel_button.setEnabled(False)
        self.progress_bar.setFormat("cancelling")

    def shut_down(self) -> None:
        """End within one step, and show nothing any more."""
        self._waiting = None
        self._job.abandon()
        self._next_progress.stop()

    def _on_yielded(self, event: Any) -> None:
        if not isinstance(event, Progress):
            self._on_event(event)
            return
        self._progress = event
        if not self._next_progress.isActive() and self.cancel_button.isEnabled():
            self._next_progress.start()

    def _show_progress(self) -> None:
        if self._progress is not None:
            self.progress_bar.setRange(0, self._progress.total)
            self.progress_bar.setFormat(self._progress.text)
            self.progress_bar.setValue(self._progress.done)

    def _on_done(self, result: Any) -> None:
        try:
            self._on_result(result)
        finally:
            self._show_running()

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self.status.say(f"Cancelled. {self._kept()}".strip())
        elif isinstance(error, InputError):
            self.status.say(str(error), problem=True)
        elif isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            text = f"{place}{error.strerror or error}. Choose another folder, or free some space there."
            self.status.say(text, problem=True)
        else:
            text = f"Stopped by an error: see napari's notifications. {self._kept()}"
            self.status.say(text.strip(), problem=True)
            notification_manager.receive_error(type(error), error, error.__traceback__)
        self._show_running()

    def _show_running(self) -> None:
        self.progress_bar.setVisible(self.running)
        self.cancel_button.setVisible(self.running)
        self.cancel_button.setEnabled(self.running)
        self._next_progress.stop()
        self.changed.emit()
        if self._waiting is not None and not self.running:
            start, self._waiting = self._waiting, None
            start()
