"""Runs what is short and must not wait in threads of its own, so that the GUI thread never waits for it.

The workers of `background` share a pool of as many threads as there are cores: while one loads torch and
another cuts cells, a wish to stop would wait.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_dispr.errors import InputError

# Not a thread for each question: to start one takes as long as others hold the interpreter. Python waits
# for those at work at its end.
_pool = ThreadPoolExecutor(16, "napari-dispr")


class OwnThread(QObject):
    """Answers the last question asked, each at once in a thread; answers that are out of date are dropped.

    Parameters
    ----------
    work : callable
        Runs in a thread. Python waits for it at its end: it must be short.
    answered : callable
        Takes what ``work`` returned, or the `InputError` that it raised, on the GUI thread.
    """

    _done = Signal(object, object)

    def __init__(self, work: Callable[..., Any], answered: Callable[[Any], None], parent: QObject) -> None:
        super().__init__(parent)
        self._work, self._answered = work, answered
        self._question: object | None = None
        self._done.connect(self._on_done)

    @property
    def pending(self) -> bool:
        """Whether an answer is still to come."""
        return self._question is not None

    def ask(self, *arguments: Any) -> None:
        """Call ``work`` with these arguments now."""
        self._question = question = object()
        _pool.submit(self._run, question, arguments)

    def forget(self) -> None:
        """Want no answer any more; what was asked is done nevertheless."""
        self._question = None

    def _run(self, question: object, arguments: tuple[Any, ...]) -> None:
        try:
            answer = self._work(*arguments)
        except Exception as error:
            answer = error
        with suppress(RuntimeError):  # Qt's half of this object is gone: nobody wants to know
            self._done.emit(question, answer)

    def _on_done(self, question: object, answer: Any) -> None:
        if question is self._question:
            self._question = None
            if isinstance(answer, Exception) and not isinstance(answer, InputError):
                raise answer  # where napari shows it
            self._answered(answer)
