"""A training run as a folder: its plan, its log, its process. No torch, so that a widget can follow it.

A separate process (`Run.start`) trains. It writes whole lines to ``log.jsonl`` and whole files next to it, so
that the widget or terminal that started it may close and come back later.
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import psutil
from platformdirs import user_data_path
from pydantic import Field

from napari_dispr.errors import InputError
from napari_dispr.files import append_json, locked, reading, write_json
from napari_dispr.settings import RivalTrainSettings, Settings, TrainSettings

State = Literal["planned", "running", "stopped", "finished"]

#: A process on another machine counts as ended if it has written nothing for this time, in seconds.
_SILENCE = 600
_PLAN, _LOG, _OWNER, _STOP, _LOCK = "plan.json", "log.jsonl", "process.json", "stop", "lock"


class Plan(Settings):
    """What a run trains on, and how.

    ``dataset`` is a folder of cells with objects, ``out`` the model file to write, ``start`` the name or
    file of a model to start from (None: from scratch). The ``method`` of the settings says which kind they
    are.
    """

    name: str
    dataset: str
    out: str
    start: str | None = None
    preset: str = "standard"
    settings: Annotated[TrainSettings | RivalTrainSettings, Field(discriminator="method")] = TrainSettings()
    description: str = ""
    licence: str = ""
    data_note: str = ""


class RunFolder(ABC):
    """A folder with the log of a run, and the process that works on it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    @property
    def log(self) -> Path:
        """The log, a line of JSON for each event."""
        return self.folder / _LOG

    @property
    @abstractmethod
    def picture(self) -> Path:
        """A picture of the progress, which is replaced from time to time."""

    @property
    def output(self) -> Path:
        return self.folder / "process.log"

    @property
    def state(self) -> State:
        if self.is_running:
            return "running"
        last = self.last("end")
        if last is not None and last.get("model"):
            return "finished"
        return "stopped" if self.log.exists() else "planned"

    def delete(self) -> None:
        """Delete the run; its finished model stays.

        Raises an InputError if it is running, or files cannot be deleted.
        """
        if self.is_running:
            raise InputError(f"{self.name!r} is being trained: stop it first.")
        try:
            for folder in self._folders():
                if folder.exists():
                    shutil.rmtree(folder)
        except OSError as error:
            raise InputError(f"{error.filename} cannot be deleted: {error.strerror or error}.") from error

    def _folders(self) -> tuple[Path, ...]:
        return (self.folder,)

    # --- the log ------------------------------------------------------------------------------------

    def write(self, kind: str, **content: Any) -> None:
        append_json(self.log, {"kind": kind, **content})

    def scoring(self, done: int, of: int, what: str = "cells") -> None:
        """Write to the log how many validation cells are scored, or ``what`` else is counted."""
        self.write("scoring", done=done, of=of, what=what, time=time.time())

    def reports(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Whole lines of the log after byte ``since``, and the value of ``since`` for the next call."""
        whole = self._logged(since)
        return list(_parsed(whole.splitlines())), since + len(whole)

    def last(self, kind: str) -> dict[str, Any] | None:
        # Only lines with this word are parsed: logs are long, and windows ask for the state all the time.
        lines = (line for line in reversed(self._logged().splitlines()) if kind.encode() in line)
        return next((line for line in _parsed(lines) if line.get("kind") == kind), None)

    def _logged(self, since: int = 0) -> bytes:
        """Whole lines of the log after byte ``since``."""
        try:
            with self.log.open("rb") as log:
                log.seek(since)
                new = log.read()
        except OSError:
            return b""
        return new[: new.rfind(b"\n") + 1]

    # --- the process --------------------------------------------------------------------------------

    @abstractmethod
    def command(self, finish: bool = False) -> list[str]:
        """The command that starts or continues the run; with ``finish`` it only makes the model."""

    def start(self, finish: bool = False) -> subprocess.Popen[bytes]:
        """Start a process, if the run has none. It continues when this process ends."""
        detached: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        with self._free():
            self.clear_stop_request()
            with self.output.open("wb") as output:
                process = subprocess.Popen(
                    self.command(finish), stdin=subprocess.DEVNULL, stdout=output, stderr=output, **detached
                )
            self._own(process.pid)  # so that it is not started twice while it loads
        return process

    @contextlib.contextmanager
    def _free(self, *but: int) -> Iterator[None]:
        """Check that no process but these trains the run; until the block ends, none can begin."""
        with locked(self.folder / _LOCK, wait=True):
            owner = self._owner()
            if (owner and owner.pid not in but) or self._is_elsewhere:
                raise InputError(f"{self.name!r} is being trained already: wait for it or stop it first.")
            yield

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Mark the run as trained by this process; an InputError if another process trains it."""
        # Some launchers of Python are the parent of the process that they start.
        with self._free(os.getpid(), os.getppid()):
            self._own(os.getpid())
        try:
            yield
        finally:
            (self.folder / _OWNER).unlink(missing_ok=True)

    @property
    def is_running(self) -> bool:
        return self._owner() is not None or self._is_elsewhere

    def request_stop(self) -> None:
        """Ask the process to save and end within one step."""
        (self.folder / _STOP).touch()

    def clear_stop_request(self) -> None:
        """Remove a request to stop, so that it does not end the next process."""
        (self.folder / _STOP).unlink(missing_ok=True)

    @property
    def stop_requested(self) -> bool:
        return (self.folder / _STOP).exists()

    def kill(self) -> None:
        """Kill the process and those that it started. What it has saved is kept."""
        if (owner := self._owner()) is None:
            return
        family = [*owner.children(recursive=True), owner]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # Not psutil.wait_procs, which would take the exit status from the parent process.
        until = time.monotonic() + 2
        while any(map(_is_alive, family)) and time.monotonic() < until:
            time.sleep(0.01)

    def _own(self, pid: int) -> None:
        # A process id alone may later belong to another program.
        since = psutil.Process(pid).create_time()
        write_json(self.folder / _OWNER, {"pid": pid, "since": since, "host": platform.node()})

    @property
    def _is_elsewhere(self) -> bool:
        """Whether a process on another machine that shares the folder has written recently."""
        host = self._marked().get("host", platform.node())
        return (
            host != platform.node()
            and time.time() - max(written_at(path) for path in (self.folder / _OWNER, self.log)) < _SILENCE
        )

    def _owner(self) -> psutil.Process | None:
        owner = self._marked()
        try:
            if owner.get("host", platform.node()) != platform.node():
                return None
            process = psutil.Process(owner["pid"])
            same = abs(process.create_time() - owner["since"]) < 5
            return process if same and _is_alive(process) else None
        except (ValueError, KeyError, TypeError, psutil.Error):
            return None

    def _marked(self) -> Mapping[str, Any]:
        """Host, number and start of the process that trains the run, as it wrote them."""
        try:
            owner = json.loads((self.folder / _OWNER).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}


class Run(RunFolder):
    """A folder with a plan, a log and the results so far."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        super().__init__(folder, plan.name)
        self.plan = plan

    @classmethod
    def create(cls, folder: str | os.PathLike[str], plan: Plan) -> Self:
        """Write a plan into a folder, which may exist but not contain a run."""
        run = cls(Path(folder).absolute(), plan)
        if cls.is_in(run.folder):
            # A run that could not begin does not block its name.
            if run.is_running or run.last("begin") or not run.last("problem"):
                raise InputError(
                    f"{run.folder} already holds a training run: resume it (on the command line: --resume), "
                    "or choose another name."
                )
            run.delete()
        write_json(run.folder / _PLAN, plan.model_dump(mode="json"))
        return run

    @staticmethod
    def is_in(folder: Path) -> bool:
        return (folder / _PLAN).exists()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Open the run in a folder; an InputError if there is none, or another version wrote it."""
        folder = Path(folder).absolute()
        if not cls.is_in(folder):
            raise InputError(f"There is no training run in {folder}: check the folder.")
        with reading(folder / _PLAN, "a plan of this version", "start a new run"):
            return cls(folder, Plan.model_validate_json((folder / _PLAN).read_text("utf-8")))

    def delete(self) -> None:
        """Delete the run; its finished model stays.

        Raises an InputError also if an unfinished run of the Train widget needs its cells.
        """
        for run in all_runs():
            own = run.folder == self.folder
            if not own and self.folder in Path(run.plan.dataset).parents and run.state != "finished":
                raise InputError(
                    f"{run.name!r} is not finished and needs the cells of {self.name!r}: delete or finish "
                    f"{run.name!r} first."
                )
        super().delete()

    @property
    def checkpoint(self) -> Path:
        """The state from which a run is resumed."""
        return self.folder / "checkpoint.pt"

    @property
    def best(self) -> Path:
        """Weights of the best validation so far."""
        return self.folder / "best.safetensors"

    @property
    def picture(self) -> Path:
        """Image, truth and members of validation cells. Replaced after every validation."""
        return self.folder / "validation.png"

    def command(self, finish: bool = False) -> list[str]:
        """The command that starts or resumes the run; with ``finish`` it only makes the model."""
        end = ["--finish"] if finish else []
        return [sys.executable, "-m", "napari_dispr", "train", "--resume", str(self.folder), *end]


def runs_folder() -> Path:
    """The folder with the runs of the Train widget."""
    return user_data_path("napari-dispr", appauthor=False) / "runs"


def all_runs() -> list[Run]:
    """The runs in `runs_folder`, newest first."""
    found = []
    for plan in sorted(runs_folder().glob(f"*/{_PLAN}"), key=written_at, reverse=True):
        with contextlib.suppress(InputError):
            found.append(Run.open(plan.parent))
    return found


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):  # a crash may leave half a line
            if isinstance(found := json.loads(line), dict):
                yield found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def written_at(path: Path) -> float:
    """The time when a file was last written; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
