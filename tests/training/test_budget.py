"""Budgets in steps and minutes, learning rates, and when validations are done."""

import numpy as np
import pytest
import torch
from support.models import TINY
from support.simulated import cell_of
from support.training import CHECKPOINT, SHORT, content, train

from napari_dispr.diffusion.network import UNet3D
from napari_dispr.events import result_of
from napari_dispr.settings import TrainSettings
from napari_dispr.training.loop import Report, Validated, iter_optimise
from napari_dispr.training.state import State


@pytest.fixture(scope="module")
def cells():
    return [cell_of("discocyte"), cell_of("stomatocyte", 1)]


def rates(settings):
    state = State(settings, TINY, torch.device("cpu"))
    for state.step in range(settings.steps):
        yield state.learning_rate_share


def test_learning_rate_rises_stays_and_falls():
    shares = list(rates(TrainSettings(steps=100, warmup=10, decay=0.4)))
    assert shares[0] == pytest.approx(0.1) and shares[9] == 1
    assert set(shares[10:60]) == {1.0}
    assert shares[80] == pytest.approx(0.5)
    assert 0 < shares[-1] < 0.03
    assert set(rates(TrainSettings(steps=10, warmup=0, decay=0.0))) == {1.0}


def test_a_budget_in_minutes_goes_by_the_clock():
    state = State(TrainSettings(minutes=10, scored=0.3, warmup=0, decay=0.5), TINY, torch.device("cpu"))
    assert (state.share, state.scored, state.learning_rate_share) == (0, False, 1)
    state.clock = 0.71 * 600
    assert state.share == pytest.approx(0.71) and state.scored
    assert state.learning_rate_share == pytest.approx(0.58)
    state.clock = 601.0
    assert state.share == 1


class Clock:
    """A clock that goes on by the same time whenever it is read."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_minutes_end_a_run(cells, tmp_path):
    settings = TrainSettings(minutes=2 / 60, batch=2, warmup=0)
    reports = train(cells, tmp_path, settings, clock=Clock(0.1))
    assert reports[-1].share == 1 and {report.phase for report in reports} == {"flow", "scored"}
    assert 2 <= reports[-1].seconds < 3 and len(reports) == reports[-1].step
    assert [report.seconds for report in reports] == sorted(report.seconds for report in reports)


class Judge:
    """A validator whose scores are given."""

    def __init__(self, scores):
        self.scores, self.calls = list(scores), 0

    def __call__(self, network, group):
        self.calls += 1
        return np.array([[self.scores[self.calls - 1] + cell, 0.1] for cell in (-0.05, 0.05)])


def test_validations_are_spread_and_the_best_weights_kept(cells, tmp_path):
    kept = []
    settings = SHORT.model_copy(update={"validations": 3})
    judge = Judge([0.5, 0.3, 0.4])  # each cell is as much worse: a clear difference
    events = train(cells, tmp_path, settings, validator=judge, keep_best=lambda network: kept.append(network))
    found = [event for event in events if isinstance(event, Validated)]
    assert [event.step for event in found] == [2, 4, 6]
    assert [event.best for event in found] == [True, True, False] and len(kept) == 2
    assert found[1].score == pytest.approx(0.4) and found[1].volume_error == 0.1
    assert all(isinstance(event, Report | Validated) for event in events)


def test_weights_that_are_not_clearly_worse_are_kept(cells, tmp_path):
    tables = [[0.3, 0.5], [0.5, 0.32], [0.35, 0.55]]  # means .4, .41 (error .19) and .45 (.05 each)
    kept, calls = [], iter(tables)
    settings = SHORT.model_copy(update={"validations": 3})
    events = train(
        cells,
        tmp_path,
        settings,
        validator=lambda network, group: np.array([[value, 0.0] for value in next(calls)]),
        keep_best=kept.append,
    )
    assert [event.best for event in events if isinstance(event, Validated)] == [True, True, False]
    assert len(kept) == 2 and content(tmp_path)["lowest"] == pytest.approx([0.3, 0.5])
    assert content(tmp_path)["since_lowest"] == 2


def test_a_start_is_validated_before_the_first_step(cells, tmp_path):
    judge = Judge([0.2] * 4)
    events = train(
        cells, tmp_path, SHORT.model_copy(update={"validations": 1}), start=UNet3D(TINY), validator=judge
    )
    assert isinstance(events[0], Validated) and events[0].step == 0 and judge.calls == 2


def test_patience_ends_a_run(cells, tmp_path):
    settings = SHORT.model_copy(update={"validations": 6, "patience": 2, "decay": 0.9})
    run = iter_optimise(
        cells,
        tmp_path / CHECKPOINT,
        settings,
        config=TINY,
        report_every=1,
        validator=Judge([0.5, 0.6, 0.6, 0]),
    )
    events: list = []
    assert result_of(run, events.append) == "converged" and max(event.step for event in events) == 3


def test_patience_begins_where_weights_settle(cells, tmp_path):
    settings = SHORT.model_copy(update={"validations": 6, "patience": 1, "decay": 0.34, "scored": 0.34})
    events = train(cells, tmp_path, settings, validator=Judge([0.1, 0.6, 0.6, 0.6, 0.6, 0.6]))
    assert max(event.step for event in events) == 4


def test_a_validation_that_is_stopped_is_done_again(cells, tmp_path):
    settings = SHORT.model_copy(update={"validations": 2})
    tables = iter([np.full((2, 2), np.nan), np.zeros((2, 2)), np.zeros((2, 2))])
    options = {"validator": lambda network, group: next(tables)}
    first = train(cells, tmp_path, settings, **options)
    assert [event.step for event in first] == [1, 2, 3] and content(tmp_path)["validated"] == 1
    rest = train(cells, tmp_path, settings, resume=True, **options)
    assert [event.step for event in rest if isinstance(event, Validated)] == [3, 6]


def test_validations_do_not_use_up_a_budget_of_minutes(cells, tmp_path):
    clock = Clock(0.1)
    settings = TrainSettings(minutes=10 / 60, batch=1, warmup=0, scored=0.0, validations=50)

    def slow(network, group):
        clock.now += 1.0
        return np.zeros((2, 2))

    events = train(cells, tmp_path, settings, start=UNet3D(TINY), validator=slow, clock=clock)
    count = sum(isinstance(event, Validated) for event in events)
    assert 2 <= count <= 10 / (1.0 * 6) + 2
    assert isinstance(events[-1], Validated) and events[-1].share == 1


def test_quick_validations_are_all_done(cells, tmp_path):
    settings = TrainSettings(minutes=6 / 60, batch=1, warmup=0, scored=0.0, validations=4)
    judge = Judge([0.1] * 5)
    train(cells, tmp_path, settings, start=UNet3D(TINY), validator=judge, clock=Clock(0.06))
    assert judge.calls == 5
