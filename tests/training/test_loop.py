"""The training loop: it lowers the loss, and a killed and resumed run ends like an unbroken one."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import TINY
from support.simulated import cell_of
from support.training import CHECKPOINT, SHORT, content, train

from napari_dispr import InputError
from napari_dispr.diffusion.network import DEFAULT, NetworkConfig, UNet3D
from napari_dispr.settings import TrainSettings, checked_settings
from napari_dispr.training import loop as optimisation
from napari_dispr.training import objectives
from napari_dispr.training.loop import iter_optimise
from napari_dispr.training.objectives import objective_of
from napari_dispr.training.process_group import ProcessGroup
from napari_dispr.training.samples import Samples, Units, joined
from napari_dispr.training.state import State


@pytest.fixture(scope="module")
def cells():
    return [cell_of("discocyte"), cell_of("stomatocyte", 1)]


def assert_same(a, b):
    """All numbers of two nested states are equal, to the last bit."""
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


@pytest.fixture(scope="module")
def uninterrupted(cells, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, train(cells, out)


@pytest.mark.parametrize(("scored", "factor"), [(0.0, 0.5), (1.0, 0.7)])
def test_training_lowers_the_loss(cells, tmp_path, scored, factor):
    """Of the same samples, noise, times and stages, before and after."""
    fast = {"learning_rate": 0.05, "adam_learning_rate": 5e-3, "warmup": 0, "decay": 0.0}
    settings = TrainSettings(steps=24, batch=2, resliced=0.0, blended=0.0, scored=scored, **fast)

    def loss(network):
        objective, samples = objective_of(network, settings), Samples(cells, settings, TINY.planes, 0)
        drawn = joined([samples[i] for i in range(1000, 1004)])
        batch = objectives.Batch(*drawn, torch.arange(4), 4)
        with torch.no_grad():
            sources = (torch.Generator().manual_seed(seed) for seed in range(4))
            return np.mean([float(objective(batch, scored > 0, source)) for source in sources])

    train(cells, tmp_path, settings)
    trained = UNet3D(TINY)
    trained.load_state_dict(content(tmp_path)["network"])
    assert loss(trained) < factor * loss(UNet3D(TINY))


def test_each_unit_takes_its_own_samples():
    settings = TrainSettings(steps=5, batch=4, scored=0.4)
    assert settings.flow_steps == 3
    alone = iter(Units(settings, ProcessGroup(), 0))
    assert [next(alone) for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert next(iter(Units(settings, ProcessGroup(), 6))) == [6, 7]
    two = [
        iter(Units(settings.model_copy(update={"scored": 0.0}), ProcessGroup(rank, 2), 4)) for rank in (0, 1)
    ]
    assert [next(one) for one in two] == [[4, 6], [5, 7]]


def test_pairs_need_an_even_batch():
    with pytest.raises(InputError, match=r"^Scored steps draw shapes in pairs: take an even batch\.$"):
        checked_settings(TrainSettings, {"batch": 3})
    assert checked_settings(TrainSettings, {"batch": 3, "scored": 0.0}).flow_steps == 2000


def test_reports(uninterrupted):
    out, reports = uninterrupted
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.share for report in reports] == pytest.approx([i / 6 for i in range(1, 7)], abs=1e-4)
    assert [report.phase for report in reports] == ["flow"] * 4 + ["scored"] * 2
    assert all(report.samples_per_second > 0 and report.memory_gb > 0.1 for report in reports)
    assert all(np.isfinite(report.loss) for report in reports)
    assert reports[-1].seconds_left == 0 and reports[2].seconds_left == pytest.approx(reports[2].seconds, 0.3)
    assert os.listdir(out) == [CHECKPOINT]
    assert content(out)["taken"] == 4 * 2 + 2 * 1


def test_seed_decides_everything(cells, tmp_path, uninterrupted):
    own = torch.get_rng_state()
    train(cells, tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), own), "the random numbers of the caller go on"
    assert_same(content(uninterrupted[0]), content(tmp_path / "again"))
    train(cells, tmp_path / "other", SHORT.model_copy(update={"seed": 1}))
    a, b = (content(folder)["network"]["out.2.weight"] for folder in (uninterrupted[0], tmp_path / "other"))
    assert not torch.equal(a, b)


def test_reporting_changes_nothing(cells, tmp_path, uninterrupted):
    list(iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, config=TINY, report_every=4))
    assert_same(content(tmp_path), content(uninterrupted[0]))


def test_closing_saves_and_resuming_goes_on_exactly(cells, tmp_path, uninterrupted):
    run = iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, config=TINY, report_every=1, save_every_s=1e9)
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
from support.models import TINY
from support.simulated import cell_of
from napari_dispr.settings import TrainSettings
from napari_dispr.training.loop import iter_optimise
SHORT = TrainSettings(steps=6, batch=2, warmup=2)
cells = [cell_of("discocyte"), cell_of("stomatocyte", 1)]
options = dict(config=TINY, report_every=1, save_every_s=0)

def run(out, killed_at=None, **more):
    for report in iter_optimise(cells, Path(out) / "checkpoint.pt", SHORT, **options, **more):
        if report.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

"""


def run_in_its_own_process(*runs):
    # Other modules in a process can change how threads divide sums, and so the last decimals.
    code = RUN.format(tests=str(Path(__file__).parents[1])) + "\n".join(runs)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_run_loses_nothing_but_time(tmp_path):
    killed, whole = str(tmp_path / "killed"), str(tmp_path / "whole")
    run = run_in_its_own_process(f"run({killed!r}, killed_at=4)")
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert content(tmp_path / "killed")["step"] == 3
    run = run_in_its_own_process(f"run({killed!r}, resume=True)", f"run({whole!r})")
    assert run.returncode == 0, run.stderr
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
    with pytest.raises(InputError, match="started with other cells"):
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
    run = iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, start=start, report_every=1)
    next(run)
    run.close()
    state = content(tmp_path)
    assert state["network"].keys() == start.state_dict().keys()
    # One step of a rate of 5e-4 does not lead far from where it began.
    assert (state["network"]["out.2.bias"] - 0.25).abs().max() < 0.01


def test_what_is_missing_is_said(cells, tmp_path):
    with pytest.raises(InputError, match="no cells"):
        next(iter_optimise([], tmp_path / CHECKPOINT, SHORT))
    with pytest.raises(InputError, match="no checkpoint"):
        next(iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, resume=True))
    assert not os.listdir(tmp_path)


# --- parts ------------------------------------------------------------------------------------------------


def test_sample_depends_on_its_number_alone(cells):
    samples = Samples([cells[0], cells[1], cell_of("echinocyte", 2)], TrainSettings(), planes=6, volumes=4)
    condition, clean, noise = samples[5]
    assert noise.shape == (1, 2, 64, 64, 64) and abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert condition.planes.shape == (1, 6, 64, 64) and condition.planes.dtype == torch.float32
    assert condition.volumes.shape == (1, 4, 64, 64, 64) and condition.volumes.dtype == torch.float32
    assert clean.shape == (1, 1, 64, 64, 64) and clean.dtype == torch.float32
    assert clean.min() == -1 and clean.max() <= 1
    tensors, again, other = ((*samples[i].condition, *samples[i][1:]) for i in (5, 5, 6))
    assert all(
        torch.allclose(one, two, 0, 0, equal_nan=True) for one, two in zip(tensors, again, strict=True)
    )
    assert not any(torch.equal(one, two) for one, two in zip(tensors, other, strict=True))


def test_samples_have_further_planes_and_projections(cells):
    settings = TrainSettings(projections=0.2, further_planes=0.5, scored=0.0)
    samples = Samples(cells, settings, planes=6, volumes=4)
    drawn = [samples[i] for i in range(60)]
    depths = torch.cat([one.condition.depths for one in drawn])
    projections = depths[:, 0].isnan()
    several = (~depths.isnan()).sum(1) > 1
    assert 0.08 < projections.float().mean() < 0.4 and 0.25 < several.float().mean() < 0.6
    for one in drawn:
        condition, (clean,) = one.condition, one.clean[0]
        _, (edges,) = condition.sections(settings.truncation)
        known = ~condition.depths[0].isnan()
        if not known[0]:
            silhouette = (clean > 0).any(dim=0)
            assert ((edges[0] > 0) ^ silhouette).sum() < 0.02 * silhouette.sum()
        for depth, edge in zip(condition.depths[0][known].tolist(), edges[known], strict=True):
            i = int(np.floor(32 + depth))
            share = 32 + depth - i
            section = clean[i] * (1 - share) + clean[min(i + 1, 63)] * share > 0
            assert ((edge > 0) ^ section).sum() <= 0.05 * section.sum() + 12


def test_a_network_without_volumes_gets_the_samples_of_earlier_versions(cells):
    one, other = (
        Samples(cells, TrainSettings(projections=share, further_planes=share), planes=6, volumes=0)[3]
        for share in (0.0, 1.0)
    )
    assert one.condition.volumes.numel() == 0 and one.condition.depths.tolist() == [[0]]
    assert torch.equal(one.clean, other.clean) and torch.equal(one.noise, other.noise)


def test_a_run_with_another_network_is_not_resumed(cells, tmp_path):
    first = iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, config=TINY, report_every=1)
    next(first)
    first.close()
    wider = replace(TINY, volumes=4)
    with pytest.raises(InputError, match="another version wrote it: move it away"):
        next(iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, config=wider, resume=True))


@pytest.mark.parametrize(
    "config", [TINY, DEFAULT, NetworkConfig(**{**DEFAULT.__dict__, "channel_mult": (1, 1)})]
)
def test_every_parameter_is_trained(config):
    state = State(TrainSettings(warmup=0), config, torch.device("cpu"))
    start = {name: p.clone() for name, p in state.network.named_parameters()}
    source = torch.Generator().manual_seed(0)
    for p in state.network.parameters():
        p.grad.copy_(torch.randn(p.shape, generator=source))
    state.update(2)
    for name, p in state.network.named_parameters():
        assert not torch.equal(p, start[name]), name
    # The average has moved, but less.
    for mean, now, name in zip(state.average.parameters(), state.network.parameters(), start, strict=True):
        assert not torch.equal(mean, start[name])
        assert not torch.equal(mean, now)
    assert state.step == 1
    assert not state.gradient.any()


@pytest.mark.parametrize(
    "spoiled",
    [lambda loss, weight: loss * float("nan"), lambda loss, weight: loss + (0 * weight.sum()).sqrt()],
    ids=["loss", "gradient"],
)
def test_a_loss_or_gradient_that_is_no_number_changes_nothing(cells, tmp_path, monkeypatch, spoiled):
    class Spoiled:
        when = range(2, 3)

        def __init__(self, network, settings):
            self.own, self.calls, self.weight = objective_of(network, settings), 0, next(network.parameters())

        def __call__(self, batch, scored, source):
            self.calls += 1
            loss = self.own(batch, scored, source)
            return spoiled(loss, self.weight) if self.calls in self.when else loss

    monkeypatch.setattr(optimisation, "objective_of", Spoiled)
    reports = train(cells, tmp_path, SHORT.model_copy(update={"scored": 0.0}))
    assert reports[-1].step == 6 and content(tmp_path)["taken"] == 14
    assert all(torch.isfinite(weight).all() for weight in content(tmp_path)["network"].values())

    monkeypatch.setattr(Spoiled, "when", range(100))
    with pytest.raises(InputError, match="no longer finite"):
        train(cells, tmp_path / "always")
    assert all(torch.isfinite(w).all() for w in content(tmp_path / "always")["network"].values())


def test_out_of_memory_cuts_the_step_and_changes_nothing(cells, tmp_path, monkeypatch, uninterrupted):
    class Small:
        """Holds one sample at a time."""

        def __init__(self, network, settings):
            self.own = objective_of(network, settings)

        def __call__(self, batch, scored, source):
            if len(batch.clean) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.own(batch, scored, source)

    monkeypatch.setattr(optimisation, "objective_of", Small)
    reports = train(cells, tmp_path)
    assert [r.loss for r in reports] == pytest.approx([r.loss for r in uninterrupted[1]], rel=0.02)


def test_every_weight_has_a_gradient_at_every_stage(cells, monkeypatch):
    """Weights cast to 16 bit without gradients must not be found again by the step that needs them."""
    config = replace(TINY, volumes=4)
    state = State(TrainSettings(batch=2), config, torch.device("cpu"))
    objective = objectives.FlowObjective(state.network, state.settings)
    objective.mixed = True
    drawn = Samples(cells, state.settings, config.planes, config.volumes)[0]
    batch = objectives.Batch(*drawn, torch.tensor([0]), 1)
    for stage in ((1, 0), (2, 1)):
        monkeypatch.setattr(objectives, "STAGES", (stage,))
        for p in state.network.parameters():
            p.grad = None
        objective(batch, True, torch.Generator()).backward()
        assert all(p.grad is not None for p in state.network.parameters()), stage


def test_a_stopped_run_saves_and_resumes_exactly(cells, tmp_path, uninterrupted):
    stops = iter([False, False, True])
    first = train(cells, tmp_path, stop=lambda: next(stops))
    assert first[-1].step == 3 and content(tmp_path)["step"] == 3
    train(cells, tmp_path, resume=True)
    assert_same(content(tmp_path), content(uninterrupted[0]))


def test_a_damaged_checkpoint_is_refused(cells, tmp_path):
    train(cells, tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        train(cells, tmp_path, resume=True)


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
        if (tmp_path / CHECKPOINT).exists() and content(tmp_path)["step"] == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(iter_optimise(cells, tmp_path / CHECKPOINT, SHORT, config=TINY, report_every=1, save_every_s=0))
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert content(tmp_path)["step"] == 3
    train(cells, tmp_path, resume=True)
    assert_same(content(tmp_path), content(uninterrupted[0]))
