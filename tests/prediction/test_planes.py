"""Predictions from several planes, and from a projection."""

import numpy as np
import pytest
from support.models import tiny_model
from support.stacks import STEP, two_balls

import napari_dispr as nd
from napari_dispr import InputError, ShapeModel
from napari_dispr.events import result_of
from napari_dispr.prediction.predict import iter_predict

IMAGE, LABELS = two_balls()
DEPTHS = [STEP * k for k in range(9)]
QUICK = {"members": 2, "steps": 1}


@pytest.fixture(scope="module")
def prediction(model):
    return nd.predict(IMAGE, LABELS, depths=DEPTHS, model=model, **QUICK)


def test_every_given_section_is_in_every_member_at_its_place_in_the_stack(prediction):
    for member in (0, 1):
        volume, affine = prediction.label_volume(member)
        z, y, x = np.rint(-affine[:3, 3] / np.diag(affine)[:3]).astype(int)  # voxel of the world's origin
        assert np.allclose(np.diag(affine), 1)
        found = []
        for k, depth in enumerate(DEPTHS):
            for label in (1, 2):
                given = LABELS[k] == label
                if given.any():
                    canvas = np.zeros(LABELS.shape[1:], int)
                    canvas[-y : volume.shape[1] - y, -x : volume.shape[2] - x] = volume[z + depth]
                    drawn = canvas == label
                    found.append((drawn & given).sum() / (drawn | given).sum())
        assert len(found) > 12 and np.median(found) >= 0.97 and min(found) > 0.9


def test_members_differ_less_the_more_planes_are_known(prediction, model):
    alone = nd.predict(IMAGE[4], LABELS[4], model=model, cells=[1], **QUICK)
    assert prediction[1].ambiguity < 0.7 * alone[1].ambiguity


def test_more_members_and_a_saved_prediction_keep_to_the_planes(prediction, model, tmp_path):
    prediction.save(tmp_path)
    again = nd.load_prediction(tmp_path)
    for label, ensemble in prediction.items():
        assert again[label].section.same(ensemble.section) and ensemble.section.planes
        np.testing.assert_array_equal(again.grid_to_world(label), prediction.grid_to_world(label))
    assert {plane.image is None for plane in again[2].section.planes} == {True, False}
    more = nd.more_members(again, 2, 1, model=model)
    three = nd.predict(IMAGE, LABELS, depths=DEPTHS, model=model, cells=[2], **{**QUICK, "members": 3})
    np.testing.assert_array_equal(more[2].signed_distance, three[2].signed_distance)
    steps = nd.denoising(again, 1, model=model)
    np.testing.assert_array_equal(steps.frames[-1], prediction[1].signed_distance[0])


def test_provenance_says_which_planes(prediction):
    assert prediction.provenance["depths"] == DEPTHS
    assert prediction.provenance["settings"]["picture"] == "section"


def test_an_interrupted_prediction_goes_on_only_with_the_same_planes(prediction, model):
    first = nd.predict(IMAGE, LABELS, depths=DEPTHS, model=model, cells=[1], **QUICK)
    events = iter_predict(IMAGE, LABELS, depths=DEPTHS, model=model, earlier=first, **QUICK)
    both = result_of(events)
    np.testing.assert_array_equal(both[2].signed_distance, prediction[2].signed_distance)
    with pytest.raises(InputError, match="has depths"):
        nd.predict(IMAGE[:8], LABELS[:8], depths=DEPTHS[:8], model=model, earlier=first, **QUICK)
    other = LABELS.copy()
    other[5, 38:42, 28:32] = 0
    with pytest.raises(InputError, match="another cell 1"):
        nd.predict(IMAGE, other, depths=DEPTHS, model=model, earlier=first, **QUICK)
    with pytest.raises(InputError, match="has cell 1, which is not chosen now, so it cannot be continued"):
        nd.predict(IMAGE, LABELS, depths=DEPTHS, model=model, cells=[2], earlier=first, **QUICK)


def test_what_is_calibrated_for_one_section_is_not_used_for_more(prediction, model):
    assert model.card.intervals and not prediction.has_intervals
    projection = nd.predict(IMAGE[4], LABELS[4], model=model, picture="projection", cells=[1], **QUICK)
    assert not projection.intervals and not projection.unlike
    assert nd.predict(IMAGE[4], LABELS[4], model=model, members=2, cells=[1]).intervals


def test_every_member_fills_the_silhouette_of_a_projection(model, tmp_path):
    silhouettes = LABELS.max(axis=0)
    prediction = nd.predict(IMAGE.max(axis=0), silhouettes, model=model, picture="projection", **QUICK)
    for ensemble in prediction.values():
        assert ensemble.section.picture == "projection"
        for member in ensemble.members:
            np.testing.assert_array_equal(member.any(axis=0), ensemble.section.mask > 0.5)
    prediction.save(tmp_path)
    assert nd.load_prediction(tmp_path)[1].section.picture == "projection"
    with pytest.raises(InputError, match="projection has no depth"):
        nd.predict(IMAGE, LABELS, depths=DEPTHS, model=model, picture="projection", **QUICK)


def test_a_model_that_cannot_use_planes_says_so():
    fit = nd.load_model("cylinder")
    for model, text in ((tiny_model(), "was not trained with further planes"), (fit, "cannot use")):
        found = nd.predict(IMAGE, LABELS, depths=DEPTHS, model=model, cells=[1], members=1)
        assert any(text in warning for warning in found.warnings)
    tiny = tiny_model()
    learned = ShapeModel(tiny.network.with_inputs(4, 4), tiny.process, tiny.card)
    found = nd.predict(IMAGE, LABELS, depths=DEPTHS, model=learned, cells=[1], members=1)
    assert not any("planes" in warning for warning in found.warnings)
