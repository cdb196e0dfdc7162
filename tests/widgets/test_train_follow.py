"""A run is followed by what its folder tells; processes here are real, though most of them only wait."""

import os
import signal
import time
from pathlib import Path

import pytest
from support.runs import WAITING

from napari_dispr.errors import InputError
from napari_dispr.training.run import Plan, Run
from napari_dispr.widgets.train.follow import (
    GRACE,
    Followed,
    Story,
    cells_words,
    duration,
    halt,
    last_line,
    list_runs,
)

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


def begun(run: Run) -> None:
    run.start()
    wait_for(lambda: Followed(run).look().story.begin is not None)


def wait_for(done, seconds: float = 20) -> None:
    begin = time.monotonic()
    while not done():
        assert time.monotonic() - begin < seconds
        time.sleep(0.02)


def test_the_log_becomes_curves_and_words(run: Run) -> None:
    followed = Followed(run).look()
    assert (followed.state, followed.headline()) == ("planned", "Not begun yet.")
    run.write("begin", step=0, cells=69, validation_cells=17, device="cpu", processes=2)
    words = cells_words(followed.look().story.begin)
    assert words == "69 cells to learn from, 17 kept apart; on cpu in 2 processes"
    validation(run, 0, 0.0, 0.30)
    step(run, 25, 0.25)
    validation(run, 25, 0.25, 0.24, best=True)
    step(run, 1000, 0.5, phase="scored", left=40)
    news = followed.news
    followed.look()
    assert followed.news == news + 1
    assert followed.look().news == news + 1, "nothing was new"
    story = followed.story
    assert [(loss.share, loss.loss, loss.phase) for loss in story.losses] == [
        (0.25, 1 / 25, "flow"),
        (0.5, 1 / 1000, "scored"),
    ]
    assert story.start.energy_score == 0.30 and [score.energy_score for score in story.scores] == [0.24]
    assert story.best.step == 25 and story.share == 0.5
    assert {name: score.energy_score for name, score in followed.scores().items()} == {
        "nuclei": 0.24,
        "generic (start)": 0.30,
    }
    assert followed.verdict() == "Better than generic on cells that it has not learnt from."


def test_numbers_of_a_run_that_goes_on(run: Run) -> None:
    begun(run)
    followed = Followed(run).look()
    assert (followed.headline(), followed.numbers()) == (
        "Scoring what it begins from on the cells kept apart.",
        "",
    )
    step(run, 1000, 0.5, phase="scored")
    assert followed.look().headline() == "Learning to draw them in a few steps."
    assert followed.numbers() == "step 1,000 · 14.1 cells/s · 8 min left · 1.9 GB"
    step(run, 2000, 1.0, phase="scored")
    assert followed.look().headline() == "Scoring the finished model on the cells kept apart."
    halt([run])
    assert followed.look().numbers() == ""


def test_no_better_than_the_start(run: Run) -> None:
    validation(run, 0, 0.0, 0.30, best=True)
    assert not Followed(run).look().verdict()
    validation(run, 25, 0.25, 0.31)
    followed = Followed(run).look()
    assert (
        followed.verdict() == "Hardly better than generic on these cells: train longer, or with more cells."
    )
    assert [score.energy_score for score in followed.scores().values()] == [0.30, 0.30], (
        "its weights are kept"
    )


def test_a_run_that_goes_on_does_not_draw_twice(run: Run) -> None:
    run.write("begin", step=0)
    for number in (5, 10, 15):
        step(run, number, number / 100)
    validation(run, 15, 0.15, 0.2, best=True)
    run.write("begin", step=10)
    assert [loss.step for loss in Followed(run).look().story.losses] == [5, 10]
    step(run, 15, 0.15)
    story = Followed(run).look().story
    assert [loss.step for loss in story.losses] == [5, 10, 15] and not story.scores


def test_long_curves_are_thinned() -> None:
    story = Story()
    for number in range(1, 20_001):
        story.add({"kind": "step", "step": number, "share": number / 20_000, "loss": 1.0, "phase": "flow"})
    assert 500 < len(story.losses) <= 2000
    assert story.losses[0].step == 1 and story.share == 1.0


def test_lines_that_are_not_known_are_passed_over(run: Run) -> None:
    run.write("weather", text="fine")
    with (run.folder / "log.jsonl").open("a") as log:
        log.write('{"kind": "begin", "st')
    assert Followed(run).look().story == Story()


def test_from_scratch_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Plan(name="a", dataset="d", out="o", start=None))
    validation(run, 0, 0.0, 0.9)
    validation(run, 9, 0.1, 0.4, best=True)
    followed = Followed(run).look()
    assert not followed.verdict() and [score.step for score in followed.scores().values()] == [9]


def test_a_picture_is_read_when_it_is_another(run: Run) -> None:
    followed = Followed(run).look()
    run.picture.write_bytes(b"one")
    news = followed.news
    assert followed.look().picture == b"one" and followed.news == news + 1
    assert followed.look().news == news + 1


def test_a_stopped_run_has_no_problem(run: Run) -> None:
    run.write("begin", step=0)
    step(run, 5, 0.4)
    run.write("end", reason="stopped", model=None)
    followed = Followed(run).look()
    assert followed.state == "stopped" and not followed.problem()
    assert followed.headline() == "Stopped at 40% of its budget."


def test_a_finished_run_says_where_the_model_is(run: Run) -> None:
    run.write("begin", step=0)
    run.write("end", reason="finished", model="/models/nuclei.safetensors")
    followed = Followed(run).look()
    assert (followed.state, followed.headline()) == (
        "finished",
        'Finished: "nuclei" stands in Predict\'s list now.',
    )
    assert followed.model == "/models/nuclei.safetensors"


def test_a_problem_is_said_until_the_run_goes_on(run: Run) -> None:
    run.write("problem", text="The disk is full.")
    assert Followed(run).look().problem() == "The disk is full."
    run.write("begin", step=0)
    run.write("end", reason="stopped", model=None)
    assert not Followed(run).look().problem()


def test_a_process_that_cannot_begin_is_quoted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WAITING, "script", "raise SystemExit('no module named torch')")
    process = run.start()
    process.wait(20)
    assert Followed(run).look().problem() == (
        'The training process ended before it began: "no module named torch". '
        "Nothing is lost: press Continue to try again."
    )


def test_death_is_noticed_and_said(run: Run) -> None:
    begun(run)
    followed = Followed(run).look()
    assert followed.state == "running" and not followed.problem()
    process = run._owner()
    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    wait_for(lambda: not run.is_running, 1)
    assert followed.look().state == "stopped"
    assert "ended unexpectedly" in followed.problem() and "press Continue" in followed.problem()


@pytest.mark.parametrize("hears", ["hears", "deaf"])
def test_halt_ends_within_two_seconds(run: Run, monkeypatch: pytest.MonkeyPatch, hears: str) -> None:
    monkeypatch.setattr(WAITING, "hears", hears)
    begun(run)
    begin = time.monotonic()
    halt([run])
    took = time.monotonic() - begin
    assert took < GRACE if hears == "hears" else GRACE < took < 2.2
    followed = Followed(run).look()
    assert followed.state == "stopped" and not followed.problem()
    assert [line["kind"] for line in run.reports()[0]] == ["begin", "end"]
    begun(run)  # and goes on
    assert Followed(run).look().state == "running"
    halt([run])


def test_a_start_is_known_before_the_log_tells_of_it(run: Run) -> None:
    run.write("begin", step=0)
    step(run, 5, 0.4)
    run.write("end", reason="stopped", model=None)
    followed = Followed(run).look()
    begun_lines = len(run.reports()[0])
    run.start()
    followed.started()
    assert followed.headline() == "Starting: loading libraries and cells."
    wait_for(lambda: len(run.reports()[0]) > begun_lines)
    assert followed.look().headline() != "Starting: loading libraries and cells."
    halt([run])


def test_death_before_going_on_is_said_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write("begin", step=0)
    run.write("end", reason="stopped", model=None)
    followed = Followed(run).look()
    monkeypatch.setattr(WAITING, "script", "raise SystemExit('no memory left')")
    process = run.start()
    followed.started()
    process.wait(20)
    assert followed.look().state == "stopped"
    assert 'The last it said: "no memory left"' in followed.problem()


def test_a_removed_run_is_missed(run: Run) -> None:
    followed = Followed(run).look()
    for path in run.folder.iterdir():
        path.unlink()
    run.folder.rmdir()
    with pytest.raises(InputError, match="was removed"):
        followed.look()


def test_runs_are_listed() -> None:
    from napari_dispr.training.run import runs_folder

    assert list_runs() == []
    Run.create(runs_folder() / "a", Plan(name="a", dataset="d", out="o"))
    assert [entry[1:] for entry in list_runs()] == [("a", "planned")]


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (40, "40 s"), (480, "8 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_last_line(tmp_path: Path) -> None:
    path = tmp_path / "process.log"
    assert last_line(path) == ""
    path.write_text("first\n" * 5000 + 'Killed by nobody.\n\n{"kind": "step"}\n')
    assert last_line(path) == "Killed by nobody."
