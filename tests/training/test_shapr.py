"""Train SHAPR from a dataset folder to a model file, and resume; the topological loss."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.simulated import ball, cell, phantom_file

import napari_dispr as nd
from napari_dispr import InputError
from napari_dispr.cells.folders import DatasetNotes, read_dataset, write_dataset
from napari_dispr.commands.cli import main
from napari_dispr.models.library import read_card
from napari_dispr.models.shapr import planes_of
from napari_dispr.settings import RivalTrainSettings, TrainSettings
from napari_dispr.training.plan import planned, preset_settings, run_for
from napari_dispr.training.run import Plan, Run
from napari_dispr.training.shapr import Tensors, iter_train_rival
from napari_dispr.training.train import iter_train

LITTLE = {"steps": 6, "batch": 4, "validation": 0.2, "device": "cpu"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells") / "phantoms"
    cells = [phantom_file("discocyte", seed) for seed in range(6)]
    write_dataset(folder, cells, DatasetNotes(voxel_size=0.2, unit="micrometer"))
    return folder


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "my-shapr.safetensors"
    events = []
    model = nd.train(dataset, out, preset="shapr", progress=events.append, **LITTLE)
    return model, events, out


# --- the verb -----------------------------------------------------------------------------------------


def test_from_a_folder_to_a_rival(trained, dataset):
    model, events, out = trained
    kinds = [type(event).__name__ for event in events]
    # Two steps an epoch; the supervised part ends after step 4.
    epochs = ["Validated", "Report", "Validated", "Report", "Report", "Validated"]
    assert kinds == ["Started", *epochs, "Ended"]
    reports = [event for event in events if type(event).__name__ == "Report"]
    phases = [(4, "supervised"), (5, "adversarial"), (6, "adversarial")]
    assert [(one.step, one.phase) for one in reports] == phases
    card = read_card(out)
    assert card.rival == "shapr" and card.name == "my-shapr" and card.voxel_size == 0.2
    assert card.training["preset"] == "shapr" and card.training["steps"] == 6
    apart = card.training["kept_apart"]
    assert len(apart) == 1 and len(model.card.seen) == 2 * 5  # each by its picture and by its object
    (known,) = [one for one in read_dataset(dataset, need_objects=True) if one.name in apart]
    assert not known.is_among(model.card.seen)
    assert 0 <= card.scores["one_shape"]["consensus_iou"] <= 1
    assert events[-1].scores == card.scores
    drawn = nd.predict(known.image, known.mask > 0.5, model=out, scale=1.0)
    assert len(drawn[1]) == 1


def test_resumed_training_equals_one_that_went_on(trained, dataset, tmp_path):
    out = tmp_path / "my-shapr.safetensors"
    run = planned(dataset, out, preset="shapr", **LITTLE)
    own = torch.get_rng_state()
    # After an epoch before its validation, in the middle of one, and in the second part.
    stops = iter([False, True, True, False, True])
    for reason in ("stopped", "stopped", "stopped", "finished"):
        events = list(iter_train(Run.open(run.folder), stop=lambda: next(stops, False)))
        assert events[-1].reason == reason
    assert torch.equal(torch.get_rng_state(), own), "the random numbers of the caller go on"
    again = nd.load_model(out)
    for name, tensor in trained[0].network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    whole = torch.load(run_for(trained[2]).checkpoint, weights_only=True)
    for name, tensor in whole["discriminator"].items():
        assert torch.equal(checkpoint["discriminator"][name], tensor), name
    assert checkpoint["plateau"] == whole["plateau"]


def test_a_closed_run_goes_on_and_a_stopped_one_can_be_used(dataset, tmp_path):
    out = tmp_path / "early.safetensors"
    run = planned(dataset, out, preset="shapr", **LITTLE)
    events = iter_train(run, report_every=1)
    assert [type(next(events)).__name__ for _ in range(2)] == ["Started", "Report"]
    events.close()
    assert run.state == "stopped" and run.checkpoint.exists()
    with pytest.raises(InputError, match="started with another batch"):
        other = RivalTrainSettings(**{**LITTLE, "batch": 2})
        list(iter_train_rival([cell("a")], [], run.checkpoint, other, resume=True))
    assert main(["train", "--resume", str(run.folder), "--finish"]) == 0
    assert nd.load_model(out).card.training["steps"] == 1


def test_command_trains_and_lists_it(dataset, tmp_path, capsys):
    out = tmp_path / "theirs.safetensors"
    options = [f"--{name}={value}" for name, value in {**LITTLE, "steps": 1, "adversarial": 0}.items()]
    assert main(["train", str(dataset), "--out", str(out), "--preset", "shapr", *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["begin", "step", "validation", "end"]
    assert main(["models", "import", str(out)]) == 0
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert "theirs" in listed and "SHAPR, trained on 5 cells" in listed
    assert main(["models", "info", "theirs"]) == 0
    assert "rival" in capsys.readouterr().out
    saved = tmp_path / "saved"
    assert main(["predict", str(dataset), "--out", str(saved), "--model", "theirs"]) == 0
    said = capsys.readouterr()
    assert "6 cells, 1 member each" in said.out and "theirs draws one shape of each cell" in said.err
    assert nd.load_prediction(saved).provenance["method"] == "shapr"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "shapr", "--warmup", "3"], "There is no setting 'warmup'"),
        (["--preset", "standard", "--epochs", "3"], "There is no setting 'epochs'"),
        (["--preset", "shapr", "--init", "generic"], "The method shapr trains from scratch"),
        (["--preset", "slow"], "choose one of quick, standard, dispr, shapr, topo-shapr"),
        (["--preset", "topo-shapr"], 'pip install "napari-dispr[topo]"'),
    ],
)
def test_wrong_options_give_one_sentence(dataset, tmp_path, capsys, monkeypatch, options, message):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "napari_dispr.training.plan.find_spec", lambda name: None if name == "gudhi" else found(name)
    )
    out = tmp_path / "m.safetensors"
    assert main(["train", str(dataset), "--out", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_dataset_that_is_not_there_leaves_no_run(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        nd.train(tmp_path / "nowhere", tmp_path / "m.safetensors", preset="shapr", **LITTLE)
    assert not list(tmp_path.iterdir())


def test_a_plan_keeps_its_kind():
    for preset, kind in (("shapr", RivalTrainSettings), ("quick", TrainSettings), ("dispr", TrainSettings)):
        plan = Plan(name="a", dataset="b", out="c", preset=preset, settings=preset_settings(preset))
        again = Plan.model_validate_json(plan.model_dump_json())
        assert again == plan and type(again.settings) is kind
    assert preset_settings("shapr").epochs == 100 and preset_settings("topo-shapr").topology == 0.1


def test_cells_without_images_are_refused(tmp_path):
    bare = [replace(cell(f"a{i}", 10 + i), image=None) for i in range(6)]
    write_dataset(tmp_path / "bare", bare, DatasetNotes())
    with pytest.raises(InputError, match=r"SHAPR learns from image and mask: add image/a\d\.tif"):
        nd.train(tmp_path / "bare", tmp_path / "m.safetensors", preset="shapr", **LITTLE)


def test_dispr_before_its_steps_is_marked(trained, dataset, tmp_path):
    """What its card says; a step of the network itself takes a minute."""
    from napari_dispr.training.finish import _with_steps

    settings = preset_settings("dispr")
    card = _with_steps(trained[0].card, settings, 300)
    assert card.training["undertrained"] == "300 of the 85,000 steps of the published model"
    assert "Undertrained" in card.description and "Undertrained" in card.limits
    assert "undertrained" not in _with_steps(trained[0].card, settings, 85_000).training


# --- samples and losses -------------------------------------------------------------------------------


def test_training_sees_turned_and_mirrored_cells():
    # A ball off the axis and above the imaged plane, whose mask is its section there.
    tensors = Tensors.of([cell("a", 12, (38, 31.5, 42))] * 8)
    planes, truth = tensors.batch(torch.arange(8), np.random.default_rng(0))
    assert planes.shape == (8, 2, 64, 64) and truth.shape == (8, 1, 64, 64, 64)
    assert set(truth.unique().tolist()) == {0, 1}
    places = np.stack([np.argwhere(t.numpy()).mean(axis=0) for t in truth[:, 0]])
    # Mirrored about plane 32, not about the grid's middle.
    assert set(np.round(places[:, 0], 2)) == {38.0, 26.0}
    np.testing.assert_allclose(np.hypot(places[:, 1] - 31.5, places[:, 2] - 31.5), 10.5, atol=0.1)
    assert np.ptp(places[:, 1]) > 5
    for section, plane, volume in zip(truth[:, 0, 32], planes[:, 0], truth, strict=True):
        agree = ((plane > 0.5) & (section > 0.5)).sum() / ((plane > 0.5) | (section > 0.5)).sum()
        assert agree > 0.95
        assert abs(volume.sum() / ball(12).sum() - 1) < 0.02
    same, as_it_is = tensors.batch(torch.arange(1), None)
    np.testing.assert_array_equal(as_it_is[0, 0].numpy(), ball(12, (38, 31.5, 42)))
    np.testing.assert_array_equal(same[0], planes_of(cell("a", 12, (38, 31.5, 42)).mask, same[0, 1] + 0))


def test_training_learns(tmp_path):
    cells = [cell("a", 14), cell("b", 18)]
    settings = RivalTrainSettings(steps=8, batch=2, learning_rate=0.01, adversarial=0)
    events = list(iter_train_rival(cells, [], tmp_path / "c.pt", settings, report_every=1))
    losses = [event.loss for event in events if hasattr(event, "loss")]
    assert losses[-1] < 0.8 * losses[0]


@pytest.fixture
def topology():
    pytest.importorskip("gudhi")
    from napari_dispr.training import topology

    return topology


def shapes(*volumes):
    return torch.from_numpy(np.stack(volumes).astype(np.float32))[:, None]


def test_diagrams_of_known_shapes(topology):
    """A ball has one part, two balls have two, and a hollow one has a cavity."""
    hollow = ball(24) & ~ball(12)
    two = ball(10, (32, 31.5, 16)) | ball(10, (32, 31.5, 48))
    for volume, parts, cavities in ((ball(20), 1, 0), (two, 2, 0), (hollow, 1, 1)):
        small = torch.nn.functional.adaptive_avg_pool3d(shapes(volume), topology.SIDE)[0, 0]
        for dimension, number in ((2, parts), (0, cavities)):
            points = topology.persistence_diagram(small, dimension)
            assert ((points[:, 1] - points[:, 0]) > 0.9).sum() == number
    assert topology.topological_loss(shapes(two), shapes(ball(20))).item() == pytest.approx(0.5, abs=0.05)


def test_distance_is_that_of_gudhi(topology):
    from gudhi.hera import wasserstein_distance

    rng = np.random.default_rng(0)
    for n, m in ((7, 4), (3, 9), (5, 0)):
        first, second = (np.sort(rng.random((count, 2)), axis=1) for count in (n, m))
        found = topology.wasserstein_distance(torch.from_numpy(first), torch.from_numpy(second)).item()
        expected = wasserstein_distance(first, second, order=2.0, internal_p=np.inf, delta=1e-6)
        assert found == pytest.approx(expected, rel=1e-4)


def test_loss_of_topology_is_zero_for_equal_shapes_and_can_be_followed_down(topology):
    truth = shapes(ball(20), ball(16))
    assert topology.topological_loss(truth, truth).item() == 0
    two = ball(10, (32, 31.5, 16)) | ball(10, (32, 31.5, 48))
    logits = (6 * shapes(two, ball(16)) - 3).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.3)
    found = []
    for _ in range(12):
        loss = topology.topological_loss(logits.sigmoid(), truth)
        optimiser.zero_grad()
        loss.backward()
        assert torch.isfinite(logits.grad).all() and logits.grad.abs().max() > 0
        optimiser.step()
        found.append(loss.item())
    assert found[-1] < 0.85 * found[0]
    # No slope that is not a number where nothing is apart.
    equal = truth.clone().requires_grad_()
    topology.topological_loss(equal, truth).backward()
    assert torch.isfinite(equal.grad).all()


def test_topological_shapr_trains(topology, dataset, tmp_path):
    out = tmp_path / "topo.safetensors"
    model = nd.train(dataset, out, preset="topo-shapr", **{**LITTLE, "steps": 2})
    assert model.card.rival == "topo-shapr" and isinstance(model.card.training["steps"], int)
