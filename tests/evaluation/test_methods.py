"""Methods by name, and fits and SHAPR as models of predict."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_dispr as nd
from napari_dispr import InputError
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Scaling, crop_cells
from napari_dispr.cells.folders import CellFile
from napari_dispr.evaluation.evaluate import iter_shapes, method_names, method_of, methods_of
from napari_dispr.events import result_of
from napari_dispr.models.fits import FITS
from napari_dispr.models.library import (
    available_fits,
    check_name,
    export_model,
    import_model,
    read_card,
    user_folder,
)
from napari_dispr.models.shapr import SHAPR, SHAPRModel
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings

Y, X = np.ogrid[:90, :120]
#: Two discs, and one that the border cuts.
LABELS = np.zeros((90, 120), np.uint8)
LABELS[(Y - 40) ** 2 + (X - 40) ** 2 < 20**2] = 3
LABELS[(Y - 50) ** 2 + (X - 90) ** 2 < 15**2] = 7
LABELS[:5, 60:70] = 9
IMAGE = np.where(LABELS > 0, 90.0, 20.0) + X % 7


@pytest.fixture
def shapr():
    """A SHAPR among the user's models."""
    torch.manual_seed(0)
    card = Card(name="my-shapr", rival="shapr", qualities={}, training={"fingerprints": ["ab"]})
    model = SHAPRModel(SHAPR(), card)
    model.save(user_folder() / "my-shapr.safetensors")
    return model


def test_methods_by_name_and_by_file(shapr, tmp_path):
    settings = PredictSettings()
    assert set(FITS) == {"cylinder", "ellipsoid", "cylinder-code", "ellipsoid-code"}
    assert set(available_fits()) == {*FITS, "interpolation"}
    for name, fit in FITS.items():
        assert method_of(name, settings) is fit and fit.name == name and fit.members == 1
    model = method_of("model", settings)
    assert model.name == "red-blood-cell" and model.provenance["quality"] == "balanced"
    assert model.card.seen >= set(model.card.training["fingerprints"])
    assert method_of("generic", settings).name == "generic"
    path = export_model("my-shapr", tmp_path)
    for given in ("my-shapr", path, str(path)):
        method = method_of(given, settings)
        assert method.name == "my-shapr" and method.card.seen == {"ab"} and method.members == 1
        assert method.provenance["model_hash"] == shapr.hash
    assert list(methods_of(["cylinder", "model", "cylinder", "my-shapr"], settings)) == [
        "cylinder", "red-blood-cell", "my-shapr",
    ]  # fmt: skip
    assert {"model", "my-shapr", "ellipsoid-code", "generic"} <= set(method_names())


def test_wrong_methods_are_one_sentence(shapr, tmp_path):
    with pytest.raises(InputError, match=r"no method 'sphere': choose among model, cylinder, .* my-shapr"):
        method_of("sphere", PredictSettings())
    other = SHAPRModel(SHAPR(), shapr.card)
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="Two methods are called 'my-shapr'"):
        methods_of(["my-shapr", str(tmp_path / "other.safetensors")], PredictSettings())
    with pytest.raises(InputError, match="a fit has it"):
        check_name("Cylinder")


@pytest.mark.parametrize("name", ["cylinder", "my-shapr"])
def test_a_rival_predicts_an_ensemble_of_one(shapr, name, tmp_path):
    prediction = nd.predict(IMAGE, LABELS, model=name)
    assert list(prediction) == [3, 7] and prediction.members == 1
    assert prediction.provenance["model"] == name
    assert prediction.provenance["method"] == {"cylinder": "fit", "my-shapr": "shapr"}[name]
    said = " ".join(prediction.warnings)
    assert f"{name} draws one shape of each cell, not 5" in said and "Left out: " in said
    prediction.save(tmp_path / "saved")
    again = nd.load_prediction(tmp_path / "saved")
    assert again.provenance == prediction.provenance
    np.testing.assert_array_equal(again[7].members, prediction[7].members)
    assert len(nd.measure(prediction)) == 2
    nd.report(again, tmp_path / "report.html")
    said = (tmp_path / "report.html").read_text("utf-8")
    assert "The method predicts one shape per cell" in said and "diffusion model" not in said
    with pytest.raises(InputError, match=f"{name} draws one shape of a cell and no other"):
        nd.more_members(again, 7, 1)
    one = nd.predict(IMAGE, LABELS, model=nd.load_model(name), cells=[7], members=1)
    np.testing.assert_array_equal(one[7].members, prediction[7].members)
    assert not [text for text in one.warnings if "one shape of each cell" in text or "no use" in text]
    how = {"quality": "fast", "steps": 3, "device": "cuda:9"}
    said = nd.predict(IMAGE, LABELS, model=nd.load_model(name), cells=[7], members=1, **how).warnings
    assert any(text.startswith(f"{name} makes no use of quality, steps, device: ") for text in said)


def test_what_is_drawn_is_what_is_evaluated(shapr):
    (crop,), _ = crop_cells(IMAGE, LABELS, [3], Scaling("auto", 50))
    for name in ("ellipsoid", "my-shapr"):
        method = method_of(name, PredictSettings())
        shapes = result_of(iter_shapes(CellFile("cell", crop.mask, crop.image, None), method, 1, 0))
        drawn = nd.predict(IMAGE, LABELS, model=name, cells=[3])[3]
        np.testing.assert_array_equal(drawn.members, shapes)
        level, surface = method.level(crop)
        np.testing.assert_array_equal(shapes, (level > surface)[None])


def test_cells_that_a_rival_cannot_draw_are_left_out(shapr):
    crops, _ = crop_cells(IMAGE, LABELS, [3, 7], Scaling("auto", 50))
    bare = replace(crops[0], image=None)
    events = iter_predict_crops([bare, crops[1]], shapr, PredictSettings(), image_to_world=np.eye(3))
    prediction = [event for event in events if isinstance(event, CellDone)][-1].prediction
    assert list(prediction) == [7]
    assert any(text.startswith("Left out: cell 3: SHAPR needs an image") for text in prediction.warnings)
    with pytest.raises(InputError, match="needs an image"):
        nd.predict(None, LABELS, model="my-shapr")


def test_a_rival_is_a_model_of_the_library(shapr, tmp_path):
    assert read_card("my-shapr").rival == "shapr" and read_card("cylinder").rival == "fit"
    path = export_model("my-shapr", tmp_path)
    imported = import_model(path, "theirs")
    assert imported.name == "theirs" and nd.load_model("theirs").hash == shapr.hash
    nd.remove_model("theirs")
    with pytest.raises(InputError, match="no model 'theirs'"):
        nd.load_model("theirs")
