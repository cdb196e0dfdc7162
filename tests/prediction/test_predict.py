"""Predict on simulated cells with the shipped weights: frame, seeds, neighbours, cancelling, wrong inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_dispr as nd
from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.cells.cropping import Scaling, crop_cells
from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.novelty import fit_novelty
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import iter_shapes
from napari_dispr.events import result_of
from napari_dispr.models.sampling import as_method
from napari_dispr.prediction.predict import CellDone, Step, iter_predict
from napari_dispr.prediction.tables import measure_cells
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.intervals import CALIBRATED
from napari_dispr.synthesis.phantoms import simulate_field

#: As quick as it gets: these tests do not look at how good the shapes are.
QUICK = {"members": 2, "steps": 2}


@pytest.fixture(scope="module")
def field():
    return simulate_field(cells=4, shape=(256, 256), seed=1)


@pytest.fixture(scope="module")
def prediction(field, model):
    return nd.predict(field.image, field.labels, model=model, **QUICK)


def section(prediction, label, shape, member=0):
    """The imaged plane of a cell's label volume on the picture's pixels."""
    volume, affine = prediction.label_volume(member)
    to_pixel = np.linalg.inv(grid.pixel_to_world(prediction.image_to_world)) @ affine
    z, y, x = np.rint(-to_pixel[:3, 3]).astype(int)
    # Shapes may reach beyond the picture.
    padded = np.pad(volume[z] == label, [(0, shape[0]), (0, shape[1])])
    canvas = np.zeros(shape, bool)
    for row, column in np.argwhere(padded):
        if 0 <= row - y < shape[0] and 0 <= column - x < shape[1]:
            canvas[row - y, column - x] = True
    return canvas


def test_every_cell_has_its_section_in_the_picture(field, prediction):
    assert sorted(prediction) == [1, 2, 3, 4]
    for label, ensemble in prediction.items():
        assert ensemble.members.shape == (2, 64, 64, 64)
        mask = field.labels == label
        drawn = section(prediction, label, mask.shape)
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.95


def test_no_seam_at_the_imaged_plane(prediction):
    for ensemble in prediction.values():
        planes = ensemble.members[:, 29:36]
        overlap = [
            (a & b).sum() / (a | b).sum()
            for a, b in zip(np.moveaxis(planes, 1, 0), np.moveaxis(planes, 1, 0)[1:], strict=False)
        ]
        at_the_plane, elsewhere = np.array(overlap)[[2, 3]], np.array(overlap)[[0, 1, 4, 5]]
        assert at_the_plane.min() > elsewhere.min() - 0.05


def test_a_cell_is_the_same_whatever_else_is_drawn(field, model, prediction):
    alone = nd.predict(field.image, field.labels, model=model, cells=[3], **QUICK)
    more = nd.predict(field.image, field.labels, model=model, cells=[4, 3], members=3, steps=2)
    np.testing.assert_array_equal(alone[3].signed_distance, prediction[3].signed_distance)
    np.testing.assert_array_equal(more[3].signed_distance[:2], prediction[3].signed_distance)


def test_seeds(field, model, prediction):
    other = nd.predict(field.image, field.labels, model=model, cells=[2], seed=1, **QUICK)
    a, b = prediction[2].members
    assert (a != b).any(), "members differ"
    assert (other[2].members[0] != a).any(), "seeds differ"


def test_neighbours_and_dtype_do_not_change_a_cell(field, model):
    one = nd.predict(field.image, field.labels, model=model, cells=[1], **QUICK)
    image = np.where(field.labels == 1, field.image, field.image.max() - field.image)
    labels = np.where(field.labels == 1, 1, 0)
    other = nd.predict(image.astype(np.float64) * 3, labels, model=model, cells=[1], **QUICK)
    np.testing.assert_array_equal(one[1].members, other[1].members)


def test_a_hot_pixel_elsewhere_does_not_change_a_cell(field, model):
    image = field.image / 65535
    one = nd.predict(image, field.labels, model=model, cells=[1], **QUICK)
    without = nd.predict(None, field.labels, model=model, cells=[1], **QUICK)
    assert (one[1].members != without[1].members).any(), "the picture matters"
    for value in (1e6, -1e6):
        hot = image.copy()
        hot[tuple(np.argwhere(field.labels == 0)[0])] = value
        other = nd.predict(hot, field.labels, model=model, cells=[1], **QUICK)
        np.testing.assert_array_equal(one[1].signed_distance, other[1].signed_distance)


def test_debris_does_not_stop_a_run_over_all_cells(field, model):
    labels = field.labels.astype(np.int32)
    labels[2, 5:250] = np.where(labels[2, 5:250] == 0, 77, labels[2, 5:250])
    prediction = nd.predict(field.image, labels, model=model, members=1, steps=1)
    assert sorted(prediction) == [1, 2, 3, 4]
    assert any("77" in warning and "thick" in warning for warning in prediction.warnings)
    with pytest.raises(InputError, match="77"):
        nd.predict(field.image, labels, model=model, cells=[77])


def test_the_frame_of_the_picture_holds(field, model, prediction):
    c, s = np.cos(0.4) * 0.1, np.sin(0.4) * 0.1
    to_world = np.array([[c, -s, 7], [s, c, -2], [0, 0, 1]])
    placed = nd.predict(
        field.image,
        field.labels,
        model=model,
        cells=[2],
        image_to_world=to_world,
        unit="micrometer",
        scale="auto",
        **QUICK,
    )
    np.testing.assert_array_equal(placed[2].members, prediction[2].members)
    assert placed[2].unit == "micrometer"
    # The grid's in-plane centre in its imaged plane is the centre of the cell's box in the picture.
    y, x = np.nonzero(field.labels == 2)
    centre = to_world @ [(y.min() + y.max()) / 2, (x.min() + x.max()) / 2, 1]
    world = placed[2].grid_to_world @ [*grid.MIDDLE, 1]
    np.testing.assert_allclose(world[:3], [0, *centre[:2]], atol=1e-9)
    np.testing.assert_allclose(grid.spacing(placed[2].grid_to_world), 0.1 / placed[2].zoom)
    volume = nd.measure(placed)["volume"] / nd.measure(prediction).query("label == 2")["volume"].to_numpy()
    np.testing.assert_allclose(volume, 0.1**3, rtol=1e-5)


def test_masks_keep_holes_and_parts(field, model):
    labels = np.zeros((128, 128), np.int32)
    labels[30:90, 30:60] = 5
    labels[50:60, 40:48] = 0
    labels[70:90, 66:80] = 5
    image = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    drawn = section(nd.predict(image, labels, model=model, **QUICK), 5, labels.shape)
    mask = labels == 5
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.95
    assert not drawn[53:57, 42:46].any() and drawn[74:86, 69:77].all()


def test_events_and_cancelling(field, model):
    events = iter_predict(field.image, field.labels, model=model, cells=[1, 2], members=5, steps=3)
    first = next(events)
    assert isinstance(first, Step)
    assert (first.label, first.done, first.total) == (1, 1, 6)
    events.close()
    seen = list(iter_predict(field.image, field.labels, model=model, cells=[1, 2], members=5, steps=3))
    steps = [event for event in seen if isinstance(event, Step)]
    assert [step.done for step in steps] == [1, 2, 3, 4, 5, 6] and {step.total for step in steps} == {6}
    cells = [event for event in seen if isinstance(event, CellDone)]
    assert [list(event.prediction) for event in cells] == [[1], [1, 2]]
    assert seen.index(cells[0]) == 3, "a cell comes as soon as it is finished"
    assert steps[-1].seconds_left == 0


class Crowded(torch.nn.Module):
    """A network whose device holds only two shapes at once."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config = network, network.config

    def encode(self, planes, volumes):
        return self.network.encode(planes, volumes)

    def forward(self, x, *arguments):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.network(x, *arguments)


def test_out_of_memory_halves_the_batch_and_goes_on(field, model, prediction, monkeypatch):
    ready = ShapeModel.ready
    monkeypatch.setattr(ShapeModel, "ready", lambda self, device: Crowded(ready(self, device)))
    survived = nd.predict(field.image, field.labels, model=model, cells=[1, 2], **QUICK)
    assert any("memory" in warning for warning in survived.warnings)
    for label in survived:
        a, b = survived[label].members, prediction[label].members
        assert (a & b).sum() / (a | b).sum() >= 0.995


def test_provenance(field, model, prediction):
    found = prediction.provenance
    assert found["model"] == "red-blood-cell" and found["model_hash"] == model.hash
    assert found["settings"]["steps"] == 2 and found["settings"]["sampler"] == "euler"
    assert found["settings"]["seed"] == 0 and nd.__version__ in found["software"]


def test_a_notebook_shows_no_arrays_or_weights(model, prediction):
    first = next(iter(prediction.values()))
    for shown in (model, model.card, prediction, first, first.section):
        assert len(repr(shown)) < 500
    assert f"<Prediction of {len(prediction)} cells (" in repr(prediction) and model.name in repr(prediction)


def test_the_model_is_left_as_it_was(field, model):
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    nd.predict(field.image, field.labels, model=model, cells=[1], **QUICK)
    for name, tensor in model.network.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


def test_a_model_draws_a_cell_of_a_dataset(model):
    mask = np.zeros((64, 64), np.float32)
    mask[20:40, 15:45] = 1
    method = as_method(model, PredictSettings(steps=2))
    shapes = result_of(iter_shapes(CellFile("cell", mask, None, None), method, 3, 7))
    assert shapes.shape == (3, 64, 64, 64)
    np.testing.assert_array_equal(shapes[:, grid.IMAGED_PLANE], np.broadcast_to(mask > 0, (3, 64, 64)))


@pytest.fixture(scope="module")
def bare(model):
    """The shipped model without anything that its card tells of trust and volume."""
    nothing = {"intervals": {}, "novelty": None, "volume": None}
    return ShapeModel(model.network, model.process, model.card.model_copy(update=nothing))


@pytest.fixture(scope="module")
def calibrated(field, bare):
    """A model whose card can tell intervals, and knows cells brighter at the rim than the field's."""
    rng = np.random.default_rng(0)
    crops, _ = crop_cells(field.image, field.labels, None, Scaling("auto", 50))
    own = [(c.mask, c.image + rng.normal(0, 0.01, c.image.shape).astype(np.float32)) for c in crops * 6]
    scores = tuple(np.linspace(-2, 2, 39).tolist())
    intervals = {name: Calibration(scores=scores, floor=0.1, sd=0.1, members=5) for name in CALIBRATED}
    card = bare.card.model_copy(update={"intervals": intervals, "novelty": fit_novelty(own)})
    return ShapeModel(bare.network, bare.process, card)


def test_what_a_card_tells_of_trust_changes_no_shape(field, bare, calibrated, tmp_path):
    assert calibrated.hash == bare.hash
    options = {"cells": [2], "members": 2, "quality": "fast", "device": "cpu"}
    prediction = nd.predict(field.image, field.labels, model=bare, **options)
    calibrated.save(tmp_path / "model.safetensors")
    loaded = ShapeModel.load(tmp_path / "model.safetensors")
    assert loaded.card == calibrated.card
    found = nd.predict(field.image, field.labels, model=loaded, **options)
    np.testing.assert_array_equal(found[2].members, prediction[2].members)
    table = measure_cells(found)
    low, mean, high = (table[f"volume_{column}"][0] for column in ("low", "mean", "high"))
    assert low < mean < high and table["warning"][0] == "" and not found.warnings
    assert "curvature_low" not in table and "volume_low" not in measure_cells(prediction)
    # Nor where cells are drawn in another way than those that it was made from.
    for other in ({"image": None}, {"steps": 2}, {"sampler": "ddim"}):
        found = nd.predict(**{"image": field.image, "labels": field.labels, **options, **other}, model=loaded)
        assert "volume_low" not in measure_cells(found)


def test_volume_is_agreed_on_but_not_of_cells_unlike_the_training_data(field, model, bare, calibrated):
    expected = model.card.volume
    changed = bare.card.model_copy(update={"volume": expected})
    believing = ShapeModel(model.network, model.process, changed)
    assert len({believing.hash, bare.hash, model.hash}) == 3
    drawn = nd.predict(field.image, field.labels, model=bare, cells=[2], **QUICK)[2].members
    agreed = nd.predict(field.image, field.labels, model=believing, cells=[2], **QUICK)[2].members
    assert (agreed != drawn).any() and (agreed[:, 32] == drawn[:, 32]).all()
    changed = calibrated.card.model_copy(update={"volume": expected})
    doubting = ShapeModel(model.network, model.process, changed)
    image = field.image.max() - field.image
    warned = nd.predict(image, field.labels, model=doubting, cells=[2], **QUICK)
    plain = nd.predict(image, field.labels, model=bare, cells=[2], **QUICK)
    assert warned.unlike and (warned[2].members == plain[2].members).all()


def test_cells_unlike_the_training_data_are_named_once(field, calibrated):
    image = field.image.max() - field.image
    options = {"model": calibrated, "members": 1, "steps": 1}
    one = nd.predict(image, field.labels, cells=[3], **options)
    (warning,) = one.warnings
    assert warning.startswith("Cell 3 is unlike the training data: ") and set(one.unlike) == {3}
    every = nd.predict(image, field.labels, **options)
    (warning,) = every.warnings
    assert warning.startswith("4 of 4 cells are unlike the training data: 1, 2, 3, 4 (")
    assert all(measure_cells(every)["warning"])
    mixed = np.where(field.labels == 2, image, field.image)
    (warning,) = nd.predict(mixed, field.labels, **options).warnings
    assert warning.startswith("Cell 2 is unlike")


def _labels(field):
    labels = field.labels.astype(np.int32)
    border = labels.copy()
    border[:30, :30] = 9
    return {"good": labels, "border": border}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: {"image": np.stack([f.image] * 3, axis=-1)}, "RGB"),
        (lambda f: {"labels": f.labels + 0.5}, "fractions"),
        (lambda f: {"labels": f.labels[:-1]}, "shape"),
        (lambda f: {"labels": np.zeros_like(f.labels)}, "empty"),
        (lambda f: {"image": np.where(f.labels == 1, np.nan, 1.0)}, "NaN"),
        (lambda f: {"image": np.full(f.labels.shape, 7)}, "same value"),
        (lambda f: {"labels": _labels(f)["border"], "cells": [9]}, "border"),
        (lambda f: {"cells": [99]}, "99"),
        (lambda f: {"cells": []}, "No cells"),
        (lambda f: {"scale": 5.0}, "grid"),
        (lambda f: {"scale": "physical"}, "size of a pixel"),
        (lambda f: {"quality": "paper"}, "paper"),
        (lambda f: {"sampler": "ddpm"}, "ddpm"),
        (lambda f: {"sampler": "heun"}, "heun"),
        (lambda f: {"members": 0}, "members"),
        (lambda f: {"device": "tpu"}, "tpu"),
        (lambda f: {"colour": 1}, "colour"),
    ],
)
def test_wrong_inputs_are_one_sentence(field, model, change, words):
    arguments = {"image": field.image, "labels": field.labels, "model": model, **change(field)}
    with pytest.raises(InputError, match=words) as error:
        nd.predict(arguments.pop("image"), arguments.pop("labels"), **arguments)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")


def test_cells_keep_their_size_if_it_is_known(field, model):
    """As in the window: true sizes tell more than sizes that are all the same."""
    unknown = replace(model, card=model.card.model_copy(update={"voxel_size": None}))
    for drawn_by, pixel_size, scale in (
        (model, 0.1, "physical"),
        (model, None, "auto"),
        (unknown, 0.1, "auto"),
    ):
        how = {"cells": [1], "pixel_size": pixel_size, "model": drawn_by}
        found, chosen = (
            nd.predict(field.image, field.labels, **how, **QUICK, scale=x) for x in (None, scale)
        )
        assert found.provenance["settings"]["scale"] == scale
        assert (found[1].members == chosen[1].members).all()
        assert (found[1].zoom == pytest.approx(0.1 / model.card.voxel_size)) == (scale == "physical")


def test_cells_cut_by_the_border_are_left_out_and_named(field, model):
    prediction = nd.predict(field.image, _labels(field)["border"], model=model, members=1, steps=1)
    assert 9 not in prediction and any("9" in warning for warning in prediction.warnings)


@pytest.mark.parametrize("cells", [[1.7], "12", "ab", [[1]], [True]])
def test_cells_are_whole_numbers(field, model, cells):
    with pytest.raises(InputError, match="whole numbers"):
        nd.predict(field.image, field.labels, model=model, cells=cells)


@pytest.mark.parametrize("affine", [np.eye(4), np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_affines_that_are_none(field, model, affine):
    with pytest.raises(InputError, match="image_to_world"):
        nd.predict(field.image, field.labels, model=model, image_to_world=affine)


def test_no_gradient_is_recorded_and_no_mode_leaks(field, model):
    events = iter_predict(field.image, field.labels, model=model, cells=[1], **QUICK)
    next(events)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    events.close()


def test_an_earlier_prediction_in_memory_is_continued(field):
    how = {"model": "ellipsoid", "seed": 1}
    with_one = next(
        event.prediction
        for event in iter_predict(field.image, field.labels, **how)
        if isinstance(event, CellDone)
    )
    assert len(with_one) == 1
    whole = nd.predict(field.image, field.labels, earlier=with_one, **how)
    assert list(whole) == [1, 2, 3, 4] and whole[1] is with_one[1]
    assert whole.warnings == nd.predict(field.image, field.labels, **how).warnings
    with pytest.raises(InputError, match=r"seed 1, not 2.*--overwrite .in Python, leave out"):
        nd.predict(field.image, field.labels, earlier=with_one, **{**how, "seed": 2})


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_pixels_of_any_size_that_is_allowed(size: float) -> None:
    labels = np.pad(np.ones((80, 20), int), 5)
    volumes = [
        nd.measure(nd.predict(None, labels, model="ellipsoid", pixel_size=side))["volume"][0]
        for side in (1.0, size)
    ]
    assert volumes[1] == pytest.approx(volumes[0] * size**3, rel=1e-6)
