"""A run is followed by what its folder tells; processes here are real, though most of them only wait."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import WAITING, up_to_date

from napari_dispr.errors import InputError
from napari_dispr.training.run import Plan, Run, all_runs, runs_folder
from napari_dispr.widgets.parts.followed import last_line, stop_runs
from napari_dispr.widgets.train.follow import FollowedRun, RunLog, cells_words

STEP = {"learning_rate": 0.01, "samples_per_second": 14.1, "memory_gb": 1.94}


class WaitingRun(Run):
    """Trained by such a process."""

    def command(self, finish: bool = False) -> list[str]:
        return WAITING.command_of(self)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    plan = Plan(name="nuclei", dataset="cells", out=str(tmp_path / "nuclei.safetensors"), start="generic")
    return WaitingRun.create(tmp_path / "runs" / "nuclei", plan)


def step(run: Run, number: int, share: float, phase: str = "flow", left: float = 480.0) -> None:
    run.write("step", step=number, share=share, loss=1 / number, seconds_left=left, phase=phase, **STEP)


def validation(run: Run, number: int, share: float, energy: float, best: bool = False) -> None:
    scores = {"energy_score": energy, "volume_error": energy / 2, "score": 1.5 * energy}
    run.write("validation", step=number, share=share, best=best, **scores)


def started(run: Run) -> None:
    run.start()
    wait_for(lambda: up_to_date(FollowedRun(run)).log.begin is not None)


def wait_for(done: Callable[[], bool]) -> None:
    """Wait for a condition; pytest's own limit ends a test that waits for ever."""
    while not done():
        time.sleep(0.02)


def test_the_log_becomes_curves_and_words(run: Run) -> None:
    followed = up_to_date(FollowedRun(run))
    assert (followed.state, followed.headline()) == ("planned", "Not started yet.")
    run.write("begin", step=0, cells=69, validation_cells=17, device="cpu", processes=2)
    words = cells_words(up_to_date(followed).log.begin)
    assert words == "69 training cells, 17 validation cells; on cpu in 2 processes"
    validation(run, 0, 0.0, 0.30)
    step(run, 25, 0.25)
    validation(run, 25, 0.25, 0.24, best=True)
    step(run, 1000, 0.5, phase="scored", left=40)
    news = followed.news
    up_to_date(followed)
    assert followed.news == news + 1
    assert up_to_date(followed).news == news + 1, "nothing was new"
    log = followed.log
    assert [(loss.share, loss.loss, loss.phase) for loss in log.losses] == [
        (0.25, 1 / 25, "flow"),
        (0.5, 1 / 1000, "scored"),
    ]
    assert log.start.energy_score == 0.30 and [score.energy_score for score in log.scores] == [0.24]
    assert log.best.step == 25 and log.share == 0.5
    assert {name: score.energy_score for name, score in followed.scores().items()} == {
        "nuclei": 0.24,
        "generic (start)": 0.30,
    }
    assert followed.verdict() == "Better than generic on the validation cells, by the sum of both scores."


def test_numbers_of_a_run_that_goes_on(run: Run) -> None:
    started(run)
    followed = up_to_date(FollowedRun(run))
    assert (followed.headline(), followed.numbers()) == (
        "Scoring the start model on the validation cells.",
        "",
    )
    step(run, 1000, 0.5, phase="scored")
    assert up_to_date(followed).headline() == "Learning to sample shapes in a few steps."
    assert followed.numbers() == "step 1,000 · 14.1 cells/s · 8 min left · 1.9 GB"
    step(run, 2000, 1.0, phase="scored")
    assert up_to_date(followed).headline() == "Finishing the model and scoring it on the validation cells."
    stop_runs([run], grace=200)
    assert up_to_date(followed).numbers() == ""


def test_scoring_shows_progress(run: Run) -> None:
    def score(done: int, at: float, **what: str) -> FollowedRun:
        run.write("scoring", done=done, of=12, time=at, **what)
        return up_to_date(followed)

    started(run)
    followed = FollowedRun(run)
    assert score(0, 100.0).numbers() == "0 of 12 cells"
    assert score(3, 130.0).numbers() == "3 of 12 cells · 90 s left"
    assert (
        followed.headline() == "Scoring the start model on the validation cells."
        and followed.progress == 0.25
    )
    step(run, 1000, 0.5)
    assert (up_to_date(followed).progress, followed.numbers()[:4]) == (0.5, "step")
    score(0, 180.0)
    assert score(6, 200.0).progress == 0.5, "the budget"
    assert followed.headline() == "Scoring the model so far on the validation cells."
    assert followed.numbers() == "6 of 12 cells · 20 s left"
    step(run, 2000, 1.0)
    score(0, 300.0)
    assert score(9, 390.0, what="steps").progress == 0.75
    assert followed.numbers() == "9 of 12 steps · 30 s left", "each cell is scored several times"
    assert followed.headline() == "Finishing the model and scoring it on the validation cells."
    stop_runs([run], grace=200)


def test_no_better_than_the_start(run: Run) -> None:
    validation(run, 0, 0.0, 0.30, best=True)
    assert not up_to_date(FollowedRun(run)).verdict()
    validation(run, 25, 0.25, 0.31)
    followed = up_to_date(FollowedRun(run))
    assert followed.verdict().startswith("Not clearly better than generic on these cells")
    assert [score.energy_score for score in followed.scores().values()] == [0.30, 0.30], (
        "its weights are kept"
    )


def test_a_run_that_goes_on_does_not_draw_twice(run: Run) -> None:
    run.write("begin", step=0)
    for number in (5, 10, 15):
        step(run, number, number / 100)
    validation(run, 15, 0.15, 0.2, best=True)
    run.write("begin", step=10)
    assert [loss.step for loss in up_to_date(FollowedRun(run)).log.losses] == [5, 10]
    step(run, 15, 0.15)
    log = up_to_date(FollowedRun(run)).log
    assert [loss.step for loss in log.losses] == [5, 10, 15] and not log.scores


def test_long_curves_are_thinned() -> None:
    log = RunLog()
    for number in range(1, 20_001):
        log.add({"kind": "step", "step": number, "share": number / 20_000, "loss": 1.0, "phase": "flow"})
    assert 500 < len(log.losses) <= 2000
    assert log.losses[0].step == 1 and log.share == 1.0


def test_lines_that_are_not_known_are_passed_over(run: Run) -> None:
    run.write("weather", text="fine")
    with (run.folder / "log.jsonl").open("a") as log:
        log.write('{"kind": "begin", "st')
    assert up_to_date(FollowedRun(run)).log == RunLog()


def test_from_scratch_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Plan(name="a", dataset="d", out="o", start=None))
    validation(run, 0, 0.0, 0.9)
    validation(run, 9, 0.1, 0.4, best=True)
    followed = up_to_date(FollowedRun(run))
    assert not followed.verdict() and [score.step for score in followed.scores().values()] == [9]


def test_a_picture_is_read_when_it_is_another(run: Run) -> None:
    followed = up_to_date(FollowedRun(run))
    run.picture.write_bytes(b"one")
    news = followed.news
    assert up_to_date(followed).picture == b"one" and followed.news == news + 1
    assert up_to_date(followed).news == news + 1


def test_a_stopped_run_has_no_problem(run: Run) -> None:
    run.write("begin", step=0)
    step(run, 5, 0.4)
    run.write("end", reason="stopped", model=None)
    followed = up_to_date(FollowedRun(run))
    assert followed.state == "stopped" and not followed.problem()
    assert followed.headline() == "Stopped at 40% of its budget."


def test_a_finished_run_says_where_the_model_is(run: Run) -> None:
    run.write("begin", step=0)
    run.write("end", reason="finished", model="/models/nuclei.safetensors")
    followed = up_to_date(FollowedRun(run))
    assert (followed.state, followed.headline()) == (
        "finished",
        'Finished: "nuclei" is now available in Predict.',
    )
    assert followed.model == "/models/nuclei.safetensors"


def test_a_problem_is_said_until_the_run_goes_on(run: Run) -> None:
    run.write("problem", text="The disk is full.")
    assert up_to_date(FollowedRun(run)).problem() == "The disk is full."
    run.write("begin", step=0)
    run.write("end", reason="stopped", model=None)
    assert not up_to_date(FollowedRun(run)).problem()


def test_a_process_that_cannot_begin_is_quoted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WAITING, "script", "raise SystemExit('no module named torch')")
    process = run.start()
    process.wait()
    assert up_to_date(FollowedRun(run)).problem() == (
        'The training process could not start: "no module named torch". Press Continue to try again.'
    )


def test_death_is_noticed_and_said(run: Run) -> None:
    started(run)
    followed = up_to_date(FollowedRun(run))
    assert followed.state == "running" and not followed.problem()
    process = run._owner()
    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    wait_for(lambda: not run.is_running)
    assert up_to_date(followed).state == "stopped"
    assert "ended unexpectedly" in followed.problem() and "press Continue" in followed.problem()


@pytest.mark.parametrize("hears", ["hears", "deaf"])
def test_a_run_stops_by_itself_or_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch, hears: str) -> None:
    monkeypatch.setattr(WAITING, "hears", hears)
    started(run)
    grace = 0.1 if hears == "deaf" else 200.0
    stop_runs([run], grace)
    assert not run.is_running
    followed = up_to_date(FollowedRun(run))
    assert followed.state == "stopped" and not followed.problem()
    assert [line["kind"] for line in run.reports()[0]] == ["begin", "end"]
    started(run)  # and goes on
    assert up_to_date(FollowedRun(run)).state == "running"
    stop_runs([run], grace)


def test_a_start_is_known_before_the_log_tells_of_it(run: Run) -> None:
    run.write("begin", step=0)
    step(run, 5, 0.4)
    run.write("end", reason="stopped", model=None)
    followed = up_to_date(FollowedRun(run))
    begun_lines = len(run.reports()[0])
    run.start()
    followed.started()
    assert followed.headline() == "Starting: loading libraries and cells."
    wait_for(lambda: len(run.reports()[0]) > begun_lines)
    assert up_to_date(followed).headline() != "Starting: loading libraries and cells."
    stop_runs([run], grace=200)


def test_a_run_that_was_killed_while_scoring_starts_at_zero(run: Run) -> None:
    run.write("begin", step=0)
    run.write("scoring", done=12, of=12, time=100.0)
    followed = up_to_date(FollowedRun(run))
    assert followed.state == "stopped"
    followed.started()
    assert followed.progress == 0.0 and followed.numbers() == ""


def test_death_before_going_on_is_said_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write("begin", step=0)
    run.write("end", reason="stopped", model=None)
    followed = up_to_date(FollowedRun(run))
    monkeypatch.setattr(WAITING, "script", "raise SystemExit('no memory left')")
    process = run.start()
    followed.started()
    process.wait()
    assert up_to_date(followed).state == "stopped"
    assert 'Its last output: "no memory left"' in followed.problem()


def test_reading_in_a_thread_changes_nothing_that_the_window_shows(run: Run) -> None:
    followed = up_to_date(FollowedRun(run))
    run.write("begin", step=0)
    step(run, 5, 0.4)
    run.picture.write_bytes(b"one")
    news = followed.read()
    assert (followed.log, followed.state, followed.picture) == (RunLog(), "planned", b"")
    followed.take(news)
    assert (followed.progress, followed.state, followed.picture) == (0.4, "stopped", b"one")


def test_a_removed_run_is_missed(run: Run) -> None:
    followed = up_to_date(FollowedRun(run))
    for path in run.folder.iterdir():
        path.unlink()
    run.folder.rmdir()
    with pytest.raises(InputError, match="was deleted"):
        up_to_date(followed)


def test_runs_are_listed() -> None:
    assert all_runs() == []
    Run.create(runs_folder() / "a", Plan(name="a", dataset="d", out="o"))
    assert [(run.name, run.state) for run in all_runs()] == [("a", "planned")]


def test_last_line(tmp_path: Path) -> None:
    path = tmp_path / "process.log"
    assert last_line(path) == ""
    path.write_text("first\n" * 5000 + 'Killed by nobody.\n\n{"kind": "step"}\n')
    assert last_line(path) == "Killed by nobody."
