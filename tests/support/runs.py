"""Processes that act as a training, and what their folders say."""

import sys
from typing import TypeVar

from napari_dispr.training.run import Run
from napari_dispr.widgets.parts.followed import Followed

AnyFollowed = TypeVar("AnyFollowed", bound=Followed)


class Waiting:
    """A process that starts a run and waits, and may ignore requests to stop."""

    script = """
import sys, time
from napari_dispr.training.run import Run
run = Run.open(sys.argv[1])
with run.owned():
    run.write("begin", step=0, cells=8, validation_cells=2, device="cpu", processes=1)
    while not (run.stop_requested and sys.argv[2] == "hears"):
        time.sleep(0.02)
    run.write("end", reason="stopped", model=None)
"""
    hears = "hears"

    def command_of(self, run: Run) -> list[str]:
        return [sys.executable, "-c", self.script, str(run.folder), self.hears]


WAITING = Waiting()


def up_to_date(followed: AnyFollowed) -> AnyFollowed:
    """The same, with everything that its run's folder says now."""
    followed.take(followed.read())
    return followed
