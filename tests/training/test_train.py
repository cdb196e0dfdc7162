"""Train from a dataset folder to a model file, by Python and by the command line."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from support.models import TINY, tiny_model
from support.simulated import phantom_file
from support.training import LITTLE

import napari_dispr as nd
from napari_dispr import InputError
from napari_dispr.card import Card, Quality
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.models.library import read_card
from napari_dispr.settings import TrainSettings
from napari_dispr.training import finish, objectives
from napari_dispr.training.finish import _novelty, _volume_regression
from napari_dispr.training.loop import Validated
from napari_dispr.training.plan import planned, preset_settings, run_for
from napari_dispr.training.run import Run
from napari_dispr.training.train import Ended, iter_train, split
from napari_dispr.training.validation import Validation


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "phantoms.safetensors"
    events = []
    texts = {"licence": "CC0-1.0", "data_note": "Simulated.", "description": "Phantoms."}
    model = nd.train(dataset, out, progress=events.append, **texts, **LITTLE)
    return model, events, out


def test_from_a_folder_to_a_model(trained, dataset):
    model, events, out = trained
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Started", "Validated", "Validated", "Report", "Validated", "Ended"]
    assert events[0].cells == 7 and events[0].validation_cells == 1 and events[0].processes == 1
    assert events[-1].model == str(out) and out.exists()
    card = read_card(out)
    assert (card.name, card.licence, card.description) == ("phantoms", "CC0-1.0", "Phantoms.")
    assert card.voxel_size == 0.2 and card.unit == "micrometer"
    assert "Simulated." in card.attribution and "generic" in card.attribution
    read = read_dataset(dataset, need_objects=True)
    apart = [cell for cell in read if cell.name in card.training["kept_apart"]]
    assert len(apart) == 1 and set(card.training["cells"]) == {c.name for c in read} - {apart[0].name}
    assert apart[0].fingerprint not in card.training["fingerprints"]
    start = set(read_card("generic").training["fingerprints"])
    assert len(set(card.training["fingerprints"]) - start) == 7 and start
    scores = card.scores["balanced"]
    assert 0 <= scores["consensus_iou"] <= 1 and scores["volume_error_mean"] >= 0
    cell = apart[0]
    prediction = nd.predict(cell.image, cell.mask > 0.5, model=model, members=1, quality="fast", scale=1.0)
    assert prediction[1].members.any()


def test_the_log_holds_the_events(trained):
    _, events, out = trained
    run = run_for(out)
    lines, _ = run.reports()
    assert any(line["kind"] == "scoring" for line in lines)
    lines = [line for line in lines if line["kind"] != "scoring"]
    assert [line["kind"] for line in lines] == [
        "begin",
        "validation",
        "validation",
        "step",
        "validation",
        "end",
    ]
    assert lines[3]["step"] == 4 and lines[3]["loss"] == events[3].loss
    assert run.state == "finished" and run.picture.exists() and not run.is_running


def test_what_is_trained_is_what_is_scored(trained, dataset):
    """The last validation of the kept weights gives the scores of the finished model."""
    model, events, _ = trained
    best = [event for event in events if getattr(event, "best", False)][-1]
    apart = [
        c for c in read_dataset(dataset, need_objects=True) if c.name in model.card.training["kept_apart"]
    ]
    # A run draws from noise, which takes more evaluations.
    from_noise = {"balanced": Quality(sampler="euler", steps=4)}
    plain = model.card.model_copy(update={"volume": None, "novelty": None, "qualities": from_noise})
    again = Validation(apart, plain, model.process, torch.device("cpu"))
    from napari_dispr.training.process_group import ProcessGroup

    expected = (best.energy_score, best.volume_error)
    assert again(model.network, ProcessGroup()).mean(axis=0) == pytest.approx(expected, abs=0.02)


def test_a_resumed_run_ends_like_an_unbroken_one(trained, dataset, tmp_path):
    out = tmp_path / "phantoms.safetensors"
    texts = {"licence": "CC0-1.0", "data_note": "Simulated.", "description": "Phantoms."}
    run = planned(dataset, out, **texts, **LITTLE)
    steps = iter([False, True])
    events = list(iter_train(run, stop=lambda: next(steps)))
    assert events[-1] == Ended("stopped", None, {}) and not out.exists() and run.state == "stopped"
    model = nd.train(dataset, out, resume=True)
    for name, tensor in trained[0].network.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor, atol=2e-3, rtol=0.02)
    assert model.card.training["cells"] == trained[0].card.training["cells"]


@pytest.fixture
def tiny(monkeypatch):
    """Settings that train a tiny network from scratch."""
    monkeypatch.setattr(objectives, "DEFAULT", TINY)
    return {**LITTLE, "start": None}


def test_a_run_stopped_while_it_is_scored_ends_like_an_unbroken_one(dataset, tmp_path, tiny):
    out = tmp_path / "m.safetensors"
    run = planned(dataset, out, **tiny)
    events = []

    def is_validated():
        return sum(isinstance(event, Validated) for event in events) == 2

    for event in iter_train(run, stop=is_validated):
        events.append(event)
    assert is_validated()
    assert events[-1] == Ended("stopped", None, {}) and not out.exists()
    assert [type(event).__name__ for event in iter_train(run)] == ["Started", "Ended"] and out.exists()


def test_a_run_killed_after_its_model_is_written_is_finished(trained, tmp_path):
    out = trained[2]
    shutil.copytree(out.with_suffix(".training"), tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    log.write_text("".join(line for line in log.open() if '"end"' not in line))
    run = Run.open(tmp_path / "run")
    assert run.state == "stopped"
    assert [event.model for event in iter_train(run)] == [str(out)] and run.state == "finished"


def test_a_run_stops_within_a_step_with_an_error(dataset, tmp_path, tiny):
    out = tmp_path / "m.safetensors"

    def stop(event):
        if isinstance(event, Validated):
            run_for(out).request_stop()

    with pytest.raises(InputError, match="was stopped: continue with resume=True"):
        nd.train(dataset, out, progress=stop, **tiny)
    run = run_for(out)
    assert run.state == "stopped" and not out.exists()
    validated = run.last("validation")["step"]
    assert torch.load(run.checkpoint, weights_only=True)["step"] == validated + 1


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_members_start_from_known_shapes_if_that_is_better(dataset, tmp_path, tiny, monkeypatch, gain):
    run = planned(dataset, tmp_path / "m.safetensors", **tiny)
    list(iter_train(run, stop=lambda: True))
    score = finish.scored

    def scored(model, *rest):
        found = score(model, *rest)
        better = gain if model.known is not None else 0.0
        return replace(
            found,
            scores={
                name: [replace(one, energy_score=0.5 - better) for one in scores]
                for name, scores in found.scores.items()
            },
        )

    monkeypatch.setattr(finish, "scored", scored)
    (end,) = iter_train(Run.open(run.folder), finish=True)
    model = nd.load_model(end.model)
    energy = end.scores["energy_score_by_start"]
    assert energy["from_known_shapes"] == pytest.approx(energy["from_noise"] - gain)
    assert (model.known is not None) == (gain > 0)
    assert model.card.training.get("known_shapes") == ({"cells": 7, "versions": 14} if gain > 0 else None)
    lines = [line for line in run.reports()[0] if line["kind"] == "scoring"]
    # Validated twice before, then 7 cells become known shapes.
    assert lines[-1]["done"] == lines[-1]["of"] - 1 == 8 and lines[-1]["what"] == "steps"


def test_nothing_is_overwritten(trained, dataset):
    with pytest.raises(InputError, match=r"The model .* already exists"):
        planned(dataset, trained[2], **LITTLE)
    with pytest.raises(InputError, match=r"The model .* already exists"):
        nd.train(dataset, trained[2], resume=True)


def test_cells_that_the_start_has_seen_are_not_validated_on(cells):
    seen = {"fingerprints": [cell.fingerprint for cell in cells[:2]]}
    own, apart = split(cells, TrainSettings(validation=0.3), tiny_model(training=seen))
    assert {c.name for c in cells[:2]} <= {c.name for c in own} and len(apart) == 2
    seen["fingerprints"] += [cell.fingerprint for cell in cells[2:5]]
    with pytest.raises(InputError, match="'tiny' was trained on 5 of these 8 cells"):
        split(cells, TrainSettings(), tiny_model(training=seen))
    assert split(cells, TrainSettings(validation=0), None) == (cells, [])


def test_predicted_objects_are_trained_on_and_not_scored_by(cells):
    drawn = [replace(cell, name=f"{cell.name}00{i}", predicted=True) for cell in cells for i in (1, 2)]
    own, apart = split([*cells, *drawn], TrainSettings(validation=0.5), None)
    assert len(apart) == 4 and not any(cell.predicted for cell in apart)
    # Copies of a cell kept apart are not trained on either.
    assert len(own) == 12 and not {cell.fingerprint for cell in own} & {cell.fingerprint for cell in apart}
    assert sum(cell.predicted for cell in own) == 8
    # Without any real cell predicted ones are all there is.
    assert len(split(drawn, TrainSettings(validation=0.5), None)[1]) == 8


def test_predicted_objects_teach_no_volume_and_a_picture_is_seen_once():
    cells = [phantom_file(("discocyte", "stomatocyte")[seed % 2], seed) for seed in range(20)]
    drawn = [replace(cell, name=f"{cell.name}001", predicted=True) for cell in cells[:6]]
    regression = _volume_regression(cells)
    assert regression is not None and _volume_regression([*cells, *drawn]) == regression
    card = Card(name="a", qualities={})
    assert _novelty([*cells, *drawn], card) == _novelty(cells, card)


def test_copies_of_a_cell_are_known_as_one(cells):
    """The same shapes with another picture, or without any, are no new cells."""
    seen = {"fingerprints": [cells[0].fingerprint]}
    bare = [CellFile(f"bare{i}", cell.mask, None, cell.obj) for i, cell in enumerate(cells[:2])]
    own, apart = split([*cells, *bare], TrainSettings(validation=0.5), tiny_model(training=seen))
    assert {cells[0].name, "bare0"} <= {cell.name for cell in own} and apart
    dimmed = [CellFile(c.name, c.mask, 0.9 * c.image, c.obj) for c in cells]
    training = {"shapes": [cell.shape_fingerprint for cell in cells]}
    with pytest.raises(InputError, match="was trained on 8 of these 8 cells"):
        split(dimmed, TrainSettings(), tiny_model(training=training))


def test_presets():
    assert preset_settings("standard").minutes == 15
    assert preset_settings("standard", steps=10).minutes is None
    assert preset_settings("quick", minutes=1).minutes == 1
    with pytest.raises(InputError, match="no preset 'slow': choose one of quick, standard, dispr"):
        preset_settings("slow")
    with pytest.raises(InputError, match="batch"):
        preset_settings("quick", batch=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "nobody"}, "There is no model 'nobody'"),
        ({"minutes": -1}, "The setting minutes cannot be -1"),
        ({"device": "cuda:9"}, "There is no device 'cuda:9' here"),
        ({"processes": 5}, "5 processes need a batch"),
        ({"start": "generic", "preset": "dispr", "scored": 0.0}, "The method dispr trains from scratch"),
    ],
)
def test_wrong_settings_are_refused(dataset, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        nd.train(dataset, tmp_path / "m.safetensors", **{**LITTLE, **change})
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_of_another_kind_is_no_start(dataset, tmp_path):
    tiny_model().save(tmp_path / "other.safetensors")  # of another topology
    with pytest.raises(InputError, match="'tiny' has another network than the one to train"):
        nd.train(dataset, tmp_path / "m.safetensors", start=str(tmp_path / "other.safetensors"), **LITTLE)


def test_two_cells_are_too_few(cells, tmp_path):
    write_dataset(tmp_path / "two", cells[:2], DatasetNotes())
    with pytest.raises(InputError, match="only 2 different cells: give at least 5"):
        nd.train(tmp_path / "two", tmp_path / "m.safetensors", **LITTLE)
    assert "2 different cells" in run_for(tmp_path / "m.safetensors").last("problem")["text"]


def test_a_damaged_file_is_named_before_training(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "cells")
    broken = tmp_path / "cells/train/obj/discocyte4.tif"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match=r"discocyte4\.tif cannot be read as TIFF"):
        nd.train(tmp_path / "cells", tmp_path / "m.safetensors", **LITTLE)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(dataset, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot be written to|Permission denied"):
        nd.train(dataset, tmp_path / "m.safetensors", **LITTLE)


def test_labels_alone_can_be_trained_on(cells, tmp_path, tiny):
    bare = [CellFile(cell.name, cell.mask, None, cell.obj) for cell in cells]
    write_dataset(tmp_path / "bare", bare, DatasetNotes())
    model = nd.train(tmp_path / "bare", tmp_path / "m.safetensors", **{**tiny, "steps": 1})
    assert model.card.voxel_size is None
    assert nd.predict(None, cells[0].mask > 0.5, model=model, members=1, quality="fast", scale=1.0)[
        1
    ].members.any()
