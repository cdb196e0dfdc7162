"""Follows the training of a shape model: its log, and its progress in words. No Qt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_dispr.errors import duration
from napari_dispr.training.run import Plan, Run
from napari_dispr.widgets.parts.followed import Followed, last_line

#: The most losses of a curve; beyond them every second one is dropped.
_MOST_LOSSES = 2000
#: A score is better than another if it is at most this share of it; smaller differences are noise.
_BETTER = 0.98

_PHASES = {"flow": "learning what the cells look like", "scored": "learning to sample shapes in a few steps"}


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean training loss up to ``share`` of the budget. Losses of two phases cannot be compared."""

    step: int
    share: float
    loss: float
    phase: str


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of the shapes sampled for validation cells at ``share`` of the budget; step 0: start model."""

    step: int
    share: float
    energy_score: float
    volume_error: float
    best: bool

    @property
    def score(self) -> float:
        """The sum of both errors, which selects the best weights."""
        return self.energy_score + self.volume_error


@dataclass(frozen=True, slots=True)
class Scoring:
    """``done`` of ``total`` validation cells are scored, at ``time``; ``started``: the time of the first.

    ``what`` names what is counted, if not cells.
    """

    done: int
    total: int
    what: str
    time: float
    started: float

    @property
    def seconds_left(self) -> float | None:
        """From the speed so far; None before the first cell is scored."""
        return (self.time - self.started) / self.done * (self.total - self.done) if self.done else None


@dataclass(slots=True)
class RunLog:
    """The log of a run.

    ``scores`` are without ``start``, that of the start model; ``scoring`` is that of the validation cells,
    while it runs. ``begin``, ``step``, ``end`` and ``problem`` are the last line of each kind; the last two
    are None if the run was continued since.
    """

    losses: list[Loss] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    start: Score | None = None
    begin: Mapping[str, Any] | None = None
    step: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    scoring: Scoring | None = None

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one line of the log; unknown kinds are ignored."""
        kind = line.get("kind")
        if kind == "scoring":
            done, when = int(line["done"]), float(line["time"])
            started = self.scoring.started if self.scoring is not None and done else when
            self.scoring = Scoring(done, int(line["of"]), str(line.get("what", "cells")), when, started)
            return
        self.scoring = None
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
        """Drop everything after the step from which a run continues: the run repeats it."""
        self.losses = [loss for loss in self.losses if loss.step <= step]
        self.scores = [score for score in self.scores if score.step <= step]

    @property
    def share(self) -> float:
        """How much of the budget is used, 0 to 1."""
        return self.losses[-1].share if self.losses else 0.0

    @property
    def best(self) -> Score | None:
        """The score of the best weights: the start model's, if none was better."""
        kept = [score for score in (self.start, *self.scores) if score is not None and score.best]
        return kept[-1] if kept and self.scores else None


class FollowedRun(Followed):
    """A training run of a shape model, with its log."""

    run: Run

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.log = RunLog()

    def started(self, finish: bool = False) -> None:
        super().started(finish)
        self.log.end = self.log.problem = self.log.scoring = None  # of the last time

    def _add(self, line: Mapping[str, Any]) -> None:
        self.log.add(line)

    @property
    def can_finish(self) -> bool:
        return self.run.best.exists() or self.run.checkpoint.exists()

    @property
    def model(self) -> str | None:
        return (self.log.end or {}).get("model") or None

    # --- in words --------------------------------------------------------------------------------

    def problem(self) -> str:
        if self.state in ("running", "finished"):
            return ""
        if self.log.problem is not None:
            return str(self.log.problem.get("text", "Training ended with an error."))
        if self.state == "stopped" and self.log.end is not None:
            return ""
        printed = last_line(self.run.output)
        if self.state == "planned" and not self.run.output.exists():
            return ""
        if self.log.begin is None:
            output = f': "{printed}"' if printed else ""
            return f"The training process could not start{output}. Press Continue to try again."
        output = f' Its last output: "{printed}"' if printed else ""
        return (
            "The training process ended unexpectedly (killed, out of memory or switched off). "
            f"Its last save is kept: press Continue.{output}"
        )

    def headline(self) -> str:
        log = self.log
        if self.state == "running":
            if self._finishing:
                return "Saving the best weights so far as a model, and scoring it."
            if log.begin is None or self._starting:
                return "Starting: loading libraries and cells."
            if log.scoring is not None and 0 < log.share < 1:
                return "Scoring the model so far on the validation cells."
            if log.step is None:
                first = "Scoring the start model on the validation cells."
                return "Continuing from the last save." if log.losses else first
            if log.share >= 1:
                return "Finishing the model and scoring it on the validation cells."
            words = _PHASES.get(str(log.step.get("phase", "")), "learning")
            return f"{words.capitalize()}."
        if self.state == "finished":
            return f'Finished: "{self.run.plan.name}" is now available in Predict.'
        if self.state == "planned":
            return "Not started yet."
        return f"Stopped at {int(100 * log.share)}% of its budget."

    @property
    def progress(self) -> float:
        """The used share of the budget, 0 to 1; before and after the training, the share of its steps."""
        log = self.log
        if self.state == "running" and log.scoring is not None and log.share in (0, 1):
            return log.scoring.done / max(1, log.scoring.total)
        return log.share

    def numbers(self) -> str:
        step, scoring = self.log.step, self.log.scoring
        if self.state == "running" and scoring is not None and not self._starting:
            left = scoring.seconds_left
            text = f"{scoring.done} of {scoring.total} {scoring.what}"
            return text if left is None else f"{text} · {duration(left)} left"
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
        """Scores of the best weights so far and of the start model, by name."""
        log, plan = self.log, self.run.plan
        found = {} if log.best is None else {plan.name: log.best}
        if log.start is not None and plan.start is not None:
            found[f"{start_name(plan)} (start)"] = log.start
        return found

    def verdict(self) -> str:
        """Whether the model is better than its start model."""
        best, start, plan = self.log.best, self.log.start, self.run.plan
        if best is None or start is None or plan.start is None:
            return ""
        if best.score < _BETTER * start.score:
            return f"Better than {start_name(plan)} on the validation cells, by the sum of both scores."
        if self.state == "running":
            return f"Not better than {start_name(plan)} yet."
        return (
            f"Not clearly better than {start_name(plan)} on these cells: train further, with more time or "
            "more cells."
        )


def start_name(plan: Plan) -> str:
    """Name of the start model of a run."""
    return "scratch" if plan.start is None else Path(plan.start).name.removesuffix(".safetensors")


def cells_words(begin: Mapping[str, Any]) -> str:
    """The cells and the device of a run."""
    kept = begin.get("validation_cells", 0)
    text = f"{begin.get('cells', 0)} training cells, {kept} validation cells"
    if device := begin.get("device"):
        processes = int(begin.get("processes") or 1)
        text += f"; on {device}" + (f" in {processes} processes" if processes > 1 else "")
    return text
