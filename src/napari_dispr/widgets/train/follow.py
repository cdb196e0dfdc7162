"""Follows a training run: reads what is new in its log, and says in words where it stands. No Qt.

The process that trains is not a part of this one: all that is known of it stands in the run's folder.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_dispr.errors import InputError
from napari_dispr.training.run import Plan, Run, State, all_runs

#: What a process that was asked to stop gets before it is killed, in seconds: a stop takes 2 s at most.
GRACE = 1.6
#: Losses that a curve keeps; of more every other one is forgotten, again and again.
_MOST_LOSSES = 2000
#: So much of the end of what a process printed is looked at, in bytes.
_TAIL = 4000
#: A score is better than another if it is this share of it at most: less is noise.
_BETTER = 0.98

_PHASES = {
    "flow": "learning what the cells look like",
    "scored": "learning to draw them in a few steps",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean training loss up to ``share`` of the budget, in one phase: losses of two do not compare."""

    step: int
    share: float
    loss: float
    phase: str


@dataclass(frozen=True, slots=True)
class Score:
    """A validation: how far members drawn of cells kept apart are from the truth. Smaller is better.

    Attributes
    ----------
    step : int
        0: the start model's.
    share : float
        Of the budget.
    energy_score, volume_error : float
    best : bool
        Whether it was the best so far.
    """

    step: int
    share: float
    energy_score: float
    volume_error: float
    best: bool

    @property
    def score(self) -> float:
        """Both in one number, by which the best weights are chosen."""
        return self.energy_score + self.volume_error


@dataclass(slots=True)
class Story:
    """What the log of a run tells.

    Attributes
    ----------
    losses : list of Loss
    scores : list of Score
        Without the start model's.
    start : Score or None
        The start model's.
    begin, step, end, problem : mapping or None
        The last line of each kind; of ``end`` and ``problem`` only if the run has not gone on since.
    """

    losses: list[Loss] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    start: Score | None = None
    begin: Mapping[str, Any] | None = None
    step: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one line of the log; those of kinds not known are passed over."""
        kind = line.get("kind")
        if kind == "begin":
            self.begin, self.end, self.problem, self.step = line, None, None, None
            self._go_back(int(line.get("step", 0)))
        elif kind == "step":
            self.step = line
            loss = Loss(
                int(line["step"]), float(line["share"]), float(line["loss"]), str(line.get("phase", ""))
            )
            self.losses.append(loss)
            if len(self.losses) > _MOST_LOSSES:
                del self.losses[1::2]
        elif kind == "validation":
            self._add_score(line)
        elif kind == "end":
            self.end = line
        elif kind == "problem":
            self.problem = line

    def _add_score(self, line: Mapping[str, Any]) -> None:
        score = Score(
            int(line["step"]),
            float(line["share"]),
            float(line["energy_score"]),
            float(line["volume_error"]),
            bool(line.get("best", False)),
        )
        if score.step == 0:
            self.start = score
        else:
            self.scores.append(score)

    def _go_back(self, step: int) -> None:
        """Forget what came after the step from which a run goes on: it comes again."""
        self.losses = [loss for loss in self.losses if loss.step <= step]
        self.scores = [score for score in self.scores if score.step <= step]

    @property
    def share(self) -> float:
        """How much of the budget is used, 0 to 1."""
        return self.losses[-1].share if self.losses else 0.0

    @property
    def best(self) -> Score | None:
        """The validation whose weights are kept: the start's own, if none was better since."""
        kept = [score for score in (self.start, *self.scores) if score is not None and score.best]
        return kept[-1] if kept and self.scores else None


class Followed:
    """A run and all that is known of it.

    Parameters
    ----------
    run : Run

    Attributes
    ----------
    story : Story
    state : {"planned", "running", "stopped", "finished"}
    picture : bytes
        The newest validation picture, a PNG; empty if there is none.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.story = Story()
        self.state: State = "planned"
        self.picture = b""
        #: Counts what was new.
        self.news = 0
        self._starting = self._finishing = False
        self._starts = 0
        self._looking = threading.Lock()
        self._read = 0
        self._picture_time = 0.0

    def started(self, finish: bool = False) -> None:
        """Know that its process has just been started, of which the log does not tell yet."""
        self.state, self._starting, self._finishing = "running", True, finish
        self._starts += 1
        self.news += 1
        self.story.end = self.story.problem = None  # of the last time

    def look(self) -> "Followed":
        """Read what is new; for a thread, as disks may be slow. Returns itself.

        Raises
        ------
        InputError
            If the run's folder is gone.
        """
        if not self.run.folder.is_dir():
            raise InputError(f"The folder of {self.run.plan.name!r} is gone: the run was removed.")
        with self._looking:
            return self._look()

    def _look(self) -> "Followed":
        starts = self._starts
        # The state first: what a process wrote before its end is then never missed.
        state = self.run.state
        lines, self._read = self.run.reports(self._read)
        for line in lines:
            self.story.add(line)
            self._starting &= line.get("kind") != "begin"
        if self._read_picture() or lines or state != self.state:
            self.news += 1
        if starts == self._starts:  # else it was started while its past was read
            self.state = state
            if state != "running":
                self._starting = self._finishing = False
        return self

    def _read_picture(self) -> bool:
        try:
            changed = self.run.picture.stat().st_mtime
            if changed == self._picture_time:
                return False
            self.picture, self._picture_time = self.run.picture.read_bytes(), changed
            return True
        except OSError:  # none yet
            return False

    @property
    def model(self) -> str | None:
        """The finished model's file."""
        return (self.story.end or {}).get("model") or None

    # --- in words --------------------------------------------------------------------------------

    def problem(self) -> str:
        """What went wrong, as one sentence or two; empty if nothing."""
        if self.state in ("running", "finished"):
            return ""
        if self.story.problem is not None:
            return str(self.story.problem.get("text", "Training ended with an error."))
        if self.state == "stopped" and self.story.end is not None:
            return ""
        printed = last_line(self.run.output)
        if self.state == "planned" and not self.run.output.exists():
            return ""
        if self.story.begin is None:
            return _ended_early(printed)
        said = f' The last it said: "{printed}"' if printed else ""
        return (
            "The training process ended unexpectedly (killed, out of memory or switched off). "
            f"All up to its last save is kept: press Continue.{said}"
        )

    def headline(self) -> str:
        """Where the run stands, in a few words."""
        story = self.story
        if self.state == "running":
            if self._finishing:
                return "Making a model of the best weights so far, and scoring it."
            if story.begin is None or self._starting:
                return "Starting: loading libraries and cells."
            if story.step is None:
                first = "Scoring what it begins from on the cells kept apart."
                return "Going on from the last save." if story.losses else first
            if story.share >= 1:
                return "Scoring the finished model on the cells kept apart."
            return phase_words(str(story.step.get("phase", "")))
        if self.state == "finished":
            return f'Finished: "{self.run.plan.name}" stands in Predict\'s list now.'
        if self.state == "planned":
            return "Not begun yet."
        return f"Stopped at {int(100 * story.share)}% of its budget."

    def numbers(self) -> str:
        """Of a run that goes on: such as ``step 120 · 14 cells/s · 8 min left · 1.9 GB``."""
        step = self.story.step
        if step is None or self.state != "running" or self._starting or self._finishing:
            return ""
        parts = [f"step {step['step']:,}"]
        if (speed := step.get("samples_per_second")) is not None:
            parts.append(f"{speed:.3g} cells/s")
        if (left := step.get("seconds_left")) is not None:
            parts.append(f"{duration(left)} left")
        if memory := step.get("memory_gb"):
            parts.append(f"{memory:.1f} GB")
        return " · ".join(parts)

    def scores(self) -> dict[str, Score]:
        """Of the best weights so far, and of the model that the run began from, by name."""
        story, plan = self.story, self.run.plan
        found = {} if story.best is None else {plan.name: story.best}
        if story.start is not None and plan.start is not None:
            found[f"{start_name(plan)} (start)"] = story.start
        return found

    def verdict(self) -> str:
        """Whether the model has become better than the one it began from."""
        best, start, plan = self.story.best, self.story.start, self.run.plan
        if best is None or start is None or plan.start is None:
            return ""
        if best.score < _BETTER * start.score:
            return f"Better than {start_name(plan)} on cells that it has not learnt from."
        if self.state == "running":
            return f"Not better than {start_name(plan)} yet."
        return f"Hardly better than {start_name(plan)} on these cells: train longer, or with more cells."


def start_name(plan: Plan) -> str:
    """Of the model that a run begins from."""
    return "scratch" if plan.start is None else Path(plan.start).name.removesuffix(".safetensors")


def cells_words(begin: Mapping[str, Any]) -> str:
    """What a run trains on, and where."""
    kept = begin.get("validation_cells", 0)
    text = f"{begin.get('cells', 0)} cells to learn from, {kept} kept apart"
    if device := begin.get("device"):
        processes = int(begin.get("processes") or 1)
        text += f"; on {device}" + (f" in {processes} processes" if processes > 1 else "")
    return text


def phase_words(phase: str) -> str:
    """What the network learns in a phase of the training."""
    words = _PHASES.get(phase, "learning")
    return f"{words[0].upper()}{words[1:]}."


def duration(seconds: float) -> str:
    """Such as ``40 s``, ``8 min`` or ``3 h 05 min``."""
    seconds = max(0, round(seconds))
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def last_line(path: Path) -> str:
    """The last line of a text file that is made of words; no more than what can be read aloud."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    # Events are printed as JSON, and stand in the log.
    text = next((line.strip() for line in reversed(lines) if line.strip() and line[0] not in "{[ "), "")
    return text if len(text) <= 300 else f"{text[:300]}…"


def _ended_early(printed: str) -> str:
    said = f': "{printed}"' if printed else ""
    return f"The training process ended before it began{said}. Nothing is lost: press Continue to try again."


def halt(runs: Sequence[Run]) -> None:
    """Have runs save and end; those that have not after `GRACE` are killed. For a thread.

    What a killed run loses is what it has done since its last save.
    """
    for run in runs:
        run.request_stop()
    deadline = time.monotonic() + GRACE
    while any(run.is_running for run in runs) and time.monotonic() < deadline:
        time.sleep(0.05)
    for run in runs:
        if run.is_running:
            run.kill()
            run.write("end", reason="stopped", model=None)


def list_runs() -> list[tuple[str, str, State]]:
    """Folder, name and state of each run, the newest first. Reads logs: for a thread."""
    return [(str(run.folder), run.plan.name, run.state) for run in all_runs()]
