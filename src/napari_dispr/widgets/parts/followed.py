"""Follows a run that works in another process: its folder holds everything that is known about it. No Qt."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_dispr.errors import InputError
from napari_dispr.training.run import RunFolder, State

#: A process that does not stop on request is killed after this time, in seconds.
GRACE = 1.6
#: Bytes that are read from the end of a process' output.
_TAIL = 4000


@dataclass(frozen=True, slots=True)
class News:
    """What a run's folder says that was not known: its state, the log from there to byte ``position``.

    ``picture`` and the time of its file are None and 0 if there is no newer one.
    """

    state: State
    lines: Sequence[Mapping[str, Any]]
    position: int
    picture: bytes | None = None
    picture_time: float = 0.0


class Followed(ABC):
    """A run, its state, and its newest picture (a PNG; empty if there is none)."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.state: State = "planned"
        self.picture = b""
        #: Changes with each news from the run.
        self.news = 0
        self._starting = self._finishing = False
        self._position = 0
        self._picture_time = 0.0

    def started(self, finish: bool = False) -> None:
        """Note that its process was started just now, which the log does not show yet."""
        self.state, self._starting, self._finishing = "running", True, finish
        self.news += 1

    def read(self) -> News:
        """Read what is new, and change nothing here; for a thread, as disks may be slow.

        Raises an InputError if the run's folder was deleted.
        """
        if not self.run.folder.is_dir():
            raise InputError(f"The folder of the run {self.run.name!r} was deleted.")
        # The state first: then no line that a process wrote before its end is missed.
        state = self.run.state
        news = News(state, *self.run.reports(self._position))
        with suppress(OSError):  # no picture yet
            changed = self.run.picture.stat().st_mtime
            if changed != self._picture_time:
                return replace(news, picture=self.run.picture.read_bytes(), picture_time=changed)
        return news

    def take(self, news: News) -> None:
        """Add what `read` has read since the last call."""
        for line in news.lines:
            self._add(line)
            self._starting &= line.get("kind") != "begin"
        if news.lines or news.picture is not None or news.state != self.state:
            self.news += 1
        self.state, self._position = news.state, news.position
        if news.picture is not None:
            self.picture, self._picture_time = news.picture, news.picture_time
        if news.state != "running":
            self._starting = self._finishing = False

    @abstractmethod
    def _add(self, line: Mapping[str, Any]) -> None:
        """Take one line of the log; unknown kinds are ignored."""

    @property
    @abstractmethod
    def progress(self) -> float:
        """What the progress bar shows, 0 to 1."""

    @property
    @abstractmethod
    def can_finish(self) -> bool:
        """Whether a model can be made of what is learned so far."""

    @abstractmethod
    def headline(self) -> str:
        """The state of the run in a few words."""

    @abstractmethod
    def numbers(self) -> str:
        """Of a running training: such as ``step 120 · 8 min left``."""

    @abstractmethod
    def problem(self) -> str:
        """What went wrong, in one or two sentences; empty if nothing."""


def last_line(path: Path) -> str:
    """The last line of words in a text file, shortened to 300 characters."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    # Lines of JSON are events, which the log holds too.
    text = next((line.strip() for line in reversed(lines) if line.strip() and line[0] not in "{[ "), "")
    return text if len(text) <= 300 else f"{text[:300]}…"


def resume(run: RunFolder, finish: bool) -> tuple[RunFolder, bool]:
    """Continue a stopped run, or with ``finish`` make a model of what it has learned.

    Raises an InputError if it is running, or its process cannot be started.
    """
    try:
        run.start(finish=finish)
    except OSError as error:
        raise InputError(f"Training cannot be started: {error.strerror or error}.") from error
    return run, finish


def stop_runs(runs: Sequence[RunFolder], grace: float = GRACE) -> None:
    """Let runs save and end; kill those that have not after ``grace`` seconds. For a thread.

    A killed run loses what it has done since its last save.
    """
    for run in runs:
        run.request_stop()
    deadline = time.monotonic() + grace
    while any(run.is_running for run in runs) and time.monotonic() < deadline:
        time.sleep(0.05)
    for run in runs:
        if run.is_running:
            run.kill()
            run.write("end", reason="stopped", model=None)
