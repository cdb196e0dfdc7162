"""A combo box that lists the runs of one kind, and "New model…"."""

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QTimer, Signal

from napari_dispr.training.run import RunFolder, State
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox, refill
from napari_dispr.widgets.parts.run_follower import RunFollower
from napari_dispr.widgets.parts.threads import LatestAnswer

_NEW = "New model…"
#: How often the runs are listed, milliseconds.
_PAUSE = 5000


class RunList(ShortComboBox):
    """Chooses the run that a `RunFollower` shows, or a new one.

    ``all_runs`` returns the runs, the newest first. It is called in a thread, which also reads their states.
    """

    #: The user chose the run in this folder; None: a new run. At first: a run that was started before.
    chosen = Signal(object)

    def __init__(self, all_runs: Callable[[], Sequence[RunFolder]], view: RunFollower[Any]) -> None:
        super().__init__(characters=12)
        self.setToolTip("Start a new run, or show one that is running or stopped")
        self.addItem(_NEW, None)
        self._view = view
        self._runs: list[tuple[str, str, State]] = []
        self._fresh = True  # the runs were never listed, and none was chosen
        self._list = LatestAnswer(lambda: _listed(all_runs()), self._on_listed, self, pause=None)
        timer = QTimer(self, interval=_PAUSE)
        timer.timeout.connect(self._list.ask)
        timer.start()
        view.state_changed.connect(self.refresh)
        self.activated.connect(lambda: self.chosen.emit(self.currentData()))
        self._list.ask()

    @property
    def running(self) -> list[str]:
        """Names of the runs that are running."""
        return [name for _, name, state in self._runs if state == "running"]

    def refresh(self) -> None:
        """Choose the run that is shown, and list all of them again."""
        self._fresh = False
        self._show()
        self._list.ask()

    def _on_listed(self, runs: list[tuple[str, str, State]]) -> None:
        self._runs = runs
        fresh, self._fresh = self._fresh, False
        if fresh and (going := [folder for folder, _, state in runs if state == "running"]):
            self.chosen.emit(going[0])
        self._show()

    def _show(self) -> None:
        run = self._view.run
        shown = None if run is None else str(run.folder)
        items: dict[str | None, str] = {None: _NEW}
        for folder, name, state in self._runs:
            items[folder] = f"{name}: {self._view.state or state if folder == shown else state}"
        if shown not in items:
            items = {None: _NEW, shown: run.name} | items
        before = {self.itemData(i): self.itemText(i) for i in range(self.count())}
        if list(items.items()) != list(before.items()) and not self.view().isVisible():
            refill(self, items, shown)
        self.setCurrentIndex(list(items).index(shown))


def _listed(runs: Sequence[RunFolder]) -> list[tuple[str, str, State]]:
    """Folder, name and state of each run. Reads logs."""
    return [(str(run.folder), run.name, run.state) for run in runs]
