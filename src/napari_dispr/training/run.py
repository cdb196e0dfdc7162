"""A training run as a folder: its plan, its log, its process. Knows no torch, so that a widget can follow it.

What trains is a process of its own (`Run.start`), which writes whole lines to ``log.jsonl`` and whole files
beside it. So the one who started it, a widget or a terminal, may go away and come back.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import psutil
from platformdirs import user_data_path
from pydantic import Field

from napari_dispr.errors import InputError
from napari_dispr.files import plain, write_json
from napari_dispr.settings import RivalTrainSettings, Settings, TrainSettings

State = Literal["planned", "running", "stopped", "finished"]

#: A process of another machine that has written nothing for so long, in seconds, is taken for gone.
_LATELY = 600
_PLAN, _LOG, _OWNER, _STOP = "plan.json", "log.jsonl", "process.json", "stop"


class Plan(Settings):
    """What a run is to do.

    Attributes
    ----------
    name : str
        Of the model.
    dataset : str
        Folder of the cells with their truths.
    out : str
        The model file that is written in the end.
    start : str or None
        Model to begin from, a name or a file; None: from scratch.
    preset : str
        Where the settings came from.
    settings : TrainSettings or RivalTrainSettings
        Their ``method`` says which.
    description, licence, data_note : str
        For the model's card, as the user words them.
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


class Run:
    """A folder with a plan, and what became of it.

    Attributes
    ----------
    folder : Path
    plan : Plan
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan

    @classmethod
    def create(cls, folder: str | os.PathLike[str], plan: Plan) -> Self:
        """Write a plan into a folder, which may exist.

        Raises
        ------
        InputError
            If the folder holds a run already.
        """
        folder = Path(folder).absolute()
        if cls.is_in(folder):
            raise InputError(f"{folder} holds a training run already: resume it, or choose another name.")
        write_json(folder / _PLAN, plan.model_dump(mode="json"))
        return cls(folder, plan)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds a run; one whose plan was never written whole does not."""
        return (folder / _PLAN).exists()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """The run in a folder.

        Raises
        ------
        InputError
            If there is none, or another version wrote it.
        """
        folder = Path(folder).absolute()
        try:
            return cls(folder, Plan.model_validate_json((folder / _PLAN).read_text("utf-8")))
        except OSError:
            raise InputError(f"There is no training run in {folder}: check the folder.") from None
        except ValueError:  # pydantic's, and of bytes that are no text
            raise InputError(
                f"The plan {folder / _PLAN} was not written by this version: begin a new run."
            ) from None

    @property
    def checkpoint(self) -> Path:
        """What a run goes on from."""
        return self.folder / "checkpoint.pt"

    @property
    def best(self) -> Path:
        """Weights of the best validation so far."""
        return self.folder / "best.safetensors"

    @property
    def picture(self) -> Path:
        """A validation cell: its picture, its truth, its members. Replaced after every validation."""
        return self.folder / "validation.png"

    @property
    def output(self) -> Path:
        """What the process printed."""
        return self.folder / "process.log"

    @property
    def state(self) -> State:
        """Whether it has begun, goes on, and has come to its end."""
        if self.is_running:
            return "running"
        last = self.last("end")
        if last is not None and last.get("model"):
            return "finished"
        return "stopped" if (self.folder / _LOG).exists() else "planned"

    # --- the log ------------------------------------------------------------------------------------

    def write(self, kind: str, **content: Any) -> None:
        """Append a line to the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(plain({"kind": kind, **content}), allow_nan=False).encode() + b"\n"
        with (self.folder / _LOG).open("ab+") as log:
            if log.tell():
                log.seek(-1, os.SEEK_END)
                if log.read(1) != b"\n":  # a crash left half a line behind
                    line = b"\n" + line
            log.write(line)

    def reports(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Whole lines of the log after byte ``since``, and the byte to ask from next time."""
        try:
            with (self.folder / _LOG).open("rb") as log:
                log.seek(since)
                new = log.read()
        except OSError:
            return [], since
        whole = new[: new.rfind(b"\n") + 1]
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):  # a crash may leave half a line behind
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)], since + len(whole)

    def last(self, kind: str) -> dict[str, Any] | None:
        """The last line of a kind."""
        return next((line for line in reversed(self.reports()[0]) if line.get("kind") == kind), None)

    # --- the process --------------------------------------------------------------------------------

    def command(self, finish: bool = False) -> list[str]:
        """What begins the run or goes on with it; with ``finish`` it makes a model of what there is."""
        end = ["--finish"] if finish else []
        return [sys.executable, "-m", "napari_dispr", "train", "--resume", str(self.folder), *end]

    def start(self, finish: bool = False) -> subprocess.Popen[bytes]:
        """Start the process. It does not end with this one.

        Raises
        ------
        InputError
            If it runs already.
        """
        if self.is_running:
            raise InputError(f"{self.plan.name!r} is being trained already: wait for it or stop it first.")
        self.forget_wish()
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                self.command(finish), stdin=subprocess.DEVNULL, stdout=output, stderr=output, **apart
            )
        self._own(process.pid)  # so that nobody starts it twice while it is still loading
        return process

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """While this process trains the run: says so.

        Raises
        ------
        InputError
            If another process trains it.
        """
        # Some launchers of Python are its parent.
        owner = self._owner()
        if (owner and owner.pid not in (os.getpid(), os.getppid())) or self._is_elsewhere:
            raise InputError(f"{self.plan.name!r} is being trained already: wait for it or stop it first.")
        self._own(os.getpid())
        try:
            yield
        finally:
            (self.folder / _OWNER).unlink(missing_ok=True)

    @property
    def is_running(self) -> bool:
        """Whether there is a process that trains it."""
        return self._owner() is not None or self._is_elsewhere

    def ask_to_stop(self) -> None:
        """Have the process save and end within one step."""
        (self.folder / _STOP).touch()

    def forget_wish(self) -> None:
        """Let the next process not end at a wish that was meant for the last one."""
        (self.folder / _STOP).unlink(missing_ok=True)

    @property
    def is_to_stop(self) -> bool:
        """Whether somebody asked for it."""
        return (self.folder / _STOP).exists()

    def kill(self) -> None:
        """End the process, and those that it started, at once; what it had saved is kept."""
        if (owner := self._owner()) is None:
            return
        family = [*owner.children(recursive=True), owner]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # Not psutil.wait_procs: that takes the exit status away from whoever started the process.
        until = time.monotonic() + 2
        while any(map(_lives, family)) and time.monotonic() < until:
            time.sleep(0.01)

    def _own(self, pid: int) -> None:
        # A process id alone may be another program's by tomorrow.
        since = psutil.Process(pid).create_time()
        write_json(self.folder / _OWNER, {"pid": pid, "since": since, "host": platform.node()})

    @property
    def _is_elsewhere(self) -> bool:
        """Whether a process of another machine, that sees the same folder, has written lately."""
        try:
            told = json.loads((self.folder / _OWNER).read_text("utf-8"))
            if told.get("host", platform.node()) == platform.node():
                return False
        except (OSError, ValueError, AttributeError):
            return False
        return time.time() - max(_written(self.folder / name) for name in (_OWNER, _LOG)) < _LATELY

    def _owner(self) -> psutil.Process | None:
        try:
            told: Mapping[str, Any] = json.loads((self.folder / _OWNER).read_text("utf-8"))
            if told.get("host", platform.node()) != platform.node():
                return None
            process = psutil.Process(told["pid"])
            same = abs(process.create_time() - told["since"]) < 5
            return process if same and _lives(process) else None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None


def runs_folder() -> Path:
    """Where the runs of the widget lie, a folder each."""
    return user_data_path("napari-dispr", appauthor=False) / "runs"


def all_runs() -> list[Run]:
    """The runs in `runs_folder`, the newest first."""
    found = []
    for plan in sorted(runs_folder().glob(f"*/{_PLAN}"), key=_written, reverse=True):
        with contextlib.suppress(InputError):
            found.append(Run.open(plan.parent))
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # not there, or no longer
        return 0.0
