"""Training: the loss falls, and a run that was killed ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_augmentation import cell_of
from test_model import TINY

from napari_dispr import InputError
from napari_dispr.diffusion.network import DEFAULT, NetworkConfig, UNet3D
from napari_dispr.settings import TrainSettings, checked_settings
from napari_dispr.training import CHECKPOINT, LOG, Batches, Samples, State, iter_train, learning_rate_share

SHORT = TrainSettings(steps=6, batch=2, warmup=2)


@pytest.fixture(scope="module")
def cells():
    return [cell_of("discocyte"), cell_of("stomatocyte", 1)]


def content(folder):
    return torch.load(folder / CHECKPOINT, weights_only=True)


def assert_same(a, b):
    """Of two nested states: every number, to the last bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


def train(cells, out, settings=SHORT, **options):
    return list(iter_train(cells, out, settings, config=TINY, report_every=1, **options))


@pytest.fixture(scope="module")
def uninterrupted(cells, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, train(cells, out)


def test_loss_falls(cells, tmp_path):
    fast = {"learning_rate": 0.05, "adam_learning_rate": 5e-3, "warmup": 0, "decay": 0.0}
    settings = TrainSettings(steps=30, batch=2, resliced=0.0, blended=0.0, scored=0.0, **fast)
    losses = [report.loss for report in train(cells, tmp_path, settings)]
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:3])


def test_score_falls(cells, tmp_path):
    fast = {"learning_rate": 0.05, "adam_learning_rate": 5e-3, "warmup": 0, "decay": 0.0}
    settings = TrainSettings(steps=40, batch=4, resliced=0.0, blended=0.0, scored=1.0, **fast)
    losses = [report.loss for report in train(cells, tmp_path, settings)]
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:3])


def test_each_step_takes_its_own_samples():
    settings = TrainSettings(steps=5, batch=4, scored=0.4)
    assert settings.flow_steps == 3
    steps = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13], [14, 15]]
    assert list(Batches(settings, 0)) == steps
    assert list(Batches(settings, 4)) == steps[4:] and len(Batches(settings, 4)) == 1


def test_pairs_need_an_even_batch():
    with pytest.raises(InputError, match=r"^Scored steps draw shapes in pairs: take an even batch\.$"):
        checked_settings(TrainSettings, {"batch": 3})
    assert checked_settings(TrainSettings, {"batch": 3, "scored": 0.0}).flow_steps == 2000


def test_reports_and_log(uninterrupted):
    out, reports = uninterrupted
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert all(report.steps == 6 and report.samples_per_second > 0 for report in reports)
    assert all(np.isfinite(report.loss) for report in reports)
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    assert [line["loss"] for line in lines] == [report.loss for report in reports]
    assert sorted(os.listdir(out)) == [CHECKPOINT, LOG]


def test_seed_decides_everything(cells, tmp_path, uninterrupted):
    train(cells, tmp_path / "again")
    assert_same(content(uninterrupted[0]), content(tmp_path / "again"))
    train(cells, tmp_path / "other", SHORT.model_copy(update={"seed": 1}))
    a, b = (content(folder)["network"]["out.2.weight"] for folder in (uninterrupted[0], tmp_path / "other"))
    assert not torch.equal(a, b)


def test_reporting_changes_nothing(cells, tmp_path, uninterrupted):
    list(iter_train(cells, tmp_path, SHORT, config=TINY, report_every=4))
    assert_same(content(tmp_path), content(uninterrupted[0]))


def test_closing_saves_and_resuming_goes_on_exactly(cells, tmp_path, uninterrupted):
    run = iter_train(cells, tmp_path, SHORT, config=TINY, report_every=1, save_every_s=1e9)
    first = [next(run) for _ in range(3)]
    run.close()
    assert content(tmp_path)["step"] == 3
    rest = train(cells, tmp_path, resume=True)
    assert_same(content(tmp_path), content(uninterrupted[0]))
    assert [r.loss for r in (*first, *rest)] == [r.loss for r in uninterrupted[1]]


RUN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import SHORT, TINY, cell_of, iter_train
cells = [cell_of("discocyte"), cell_of("stomatocyte", 1)]
options = dict(config=TINY, report_every=1, save_every_s=0, resume={resume})
for report in iter_train(cells, Path({out!r}), SHORT, **options):
    if report.step == {killed_at}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def run_in_its_own_process(out, killed_at=None, resume=False):
    # What else a process has loaded can decide how sums are divided among threads, and so the last decimals.
    code = RUN.format(tests=str(Path(__file__).parent), out=str(out), killed_at=killed_at, resume=resume)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_run_loses_nothing_but_time(tmp_path):
    run = run_in_its_own_process(tmp_path / "killed", killed_at=4)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert content(tmp_path / "killed")["step"] == 3
    run = run_in_its_own_process(tmp_path / "killed", resume=True)
    assert run.returncode == 0, run.stderr
    assert run_in_its_own_process(tmp_path / "whole").returncode == 0
    assert_same(content(tmp_path / "killed"), content(tmp_path / "whole"))


def test_error_in_the_middle_keeps_the_steps_before(cells, tmp_path):
    class Shortage(list):
        def __getitem__(self, i):
            if self.taken == 5:  # a cell and its partner a sample: in the second step
                raise MemoryError
            self.taken += 1
            return super().__getitem__(i)

    poor = Shortage(cells)
    poor.taken = 0
    with pytest.raises(MemoryError):
        train(poor, tmp_path)
    assert content(tmp_path)["step"] == 1


def test_a_run_is_not_resumed_with_other_cells(cells, tmp_path):
    train(cells, tmp_path)
    before = content(tmp_path)
    with pytest.raises(InputError, match="begun with other cells"):
        train(cells[::-1], tmp_path, resume=True)
    assert_same(content(tmp_path), before)


def test_finished_run_resumes_to_nothing(cells, tmp_path):
    train(cells, tmp_path)
    before = content(tmp_path)
    assert train(cells, tmp_path, resume=True) == []
    assert_same(content(tmp_path), before)


def test_start_from_a_network(cells, tmp_path):
    start = UNet3D(NetworkConfig(**{**TINY.__dict__, "num_res_blocks": 2}))
    with torch.no_grad():
        start.out[2].bias.fill_(0.25)
    run = iter_train(cells, tmp_path, SHORT, start=start, report_every=1)
    next(run)
    run.close()
    state = content(tmp_path)
    assert state["network"].keys() == start.state_dict().keys()
    # One step of a rate of 5e-4 does not lead far from where it began.
    assert (state["network"]["out.2.bias"] - 0.25).abs().max() < 0.01


def test_what_is_missing_is_said(cells, tmp_path):
    with pytest.raises(InputError, match="no cells"):
        next(iter_train([], tmp_path, SHORT))
    with pytest.raises(InputError, match="no checkpoint"):
        next(iter_train(cells, tmp_path, SHORT, resume=True))
    assert not os.listdir(tmp_path)


# --- parts ------------------------------------------------------------------------------------------------


def test_sample_depends_on_its_number_alone(cells):
    samples = Samples([cells[0], cells[1], cell_of("echinocyte", 2)], TrainSettings(), planes=6)
    planes, clean = samples[5]
    assert planes.shape == (6, 64, 64) and planes.dtype == torch.float32
    assert clean.shape == (1, 64, 64, 64) and clean.dtype == torch.float32
    assert clean.min() == -1 and clean.max() <= 1
    again = samples[5]
    assert torch.equal(planes, again[0]) and torch.equal(clean, again[1])
    assert not torch.equal(clean, samples[6][1])


@pytest.mark.parametrize(
    "config", [TINY, DEFAULT, NetworkConfig(**{**DEFAULT.__dict__, "channel_mult": (1, 1)})]
)
def test_every_parameter_is_trained(config):
    state = State(TrainSettings(), config, torch.device("cpu"))
    start = {name: p.clone() for name, p in state.network.named_parameters()}
    source = torch.Generator().manual_seed(0)
    for p in state.network.parameters():
        p.grad = torch.randn(p.shape, generator=source).contiguous(memory_format=torch.preserve_format)
    state.update(1.0, 0.998)
    for name, p in state.network.named_parameters():
        assert not torch.equal(p, start[name]), name
    # The average has moved, but less.
    for mean, now, name in zip(state.average.parameters(), state.network.parameters(), start, strict=True):
        assert not torch.equal(mean, start[name])
        assert not torch.equal(mean, now)
    assert state.step == 1
    assert all(p.grad is None for p in state.network.parameters())


def test_learning_rate_rises_stays_and_falls():
    settings = TrainSettings(steps=100, warmup=10, decay=0.4)
    shares = [learning_rate_share(step, settings) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[9] == 1
    assert set(shares[10:60]) == {1.0}
    assert shares[80] == pytest.approx(0.5)
    assert 0 < shares[-1] < 0.03
    flat = TrainSettings(steps=10, warmup=0, decay=0.0)
    assert {learning_rate_share(step, flat) for step in range(10)} == {1.0}


def test_a_folder_with_a_run_is_neither_overwritten_nor_resumed_with_other_settings(cells, tmp_path):
    train(cells, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match="resume it"):
        train(cells, tmp_path)
    with pytest.raises(InputError, match="batch"):
        train(cells, tmp_path, SHORT.model_copy(update={"batch": SHORT.batch + 1}), resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_run_interrupted_within_an_update_is_not_saved(cells, tmp_path, monkeypatch, uninterrupted):
    step = torch.optim.AdamW.step

    def interrupted(self, *arguments):
        if (tmp_path / LOG).exists() and len((tmp_path / LOG).read_text().splitlines()) == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(iter_train(cells, tmp_path, SHORT, config=TINY, report_every=1, save_every_s=0))
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert content(tmp_path)["step"] == 3
    train(cells, tmp_path, resume=True)
    assert_same(content(tmp_path), content(uninterrupted[0]))
