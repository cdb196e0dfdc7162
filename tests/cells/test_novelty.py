"""Cells like those trained on pass; blurred, inverted, small or strange ones are found and named."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from napari_dispr.cells.cropping import Scaling, crop_cells
from napari_dispr.cells.features import PICTURE, SHAPE, SIZE, features
from napari_dispr.cells.folders import read_dataset
from napari_dispr.cells.novelty import Novelty, fit_novelty, in_words, novelty_reason
from napari_dispr.errors import InputError

Y, X = np.indices((64, 64)) - 31.5


def cell(rng, radius=(17, 24), ratio=(0.6, 1.0), core=(0.3, 0.6)):
    """An ellipse with a bright rim and a darker core, as a red blood cell has it, with a little noise."""
    a, turn = rng.uniform(*radius), rng.uniform(0, np.pi)
    b = a * rng.uniform(*ratio)
    u, v = np.cos(turn) * X + np.sin(turn) * Y, np.cos(turn) * Y - np.sin(turn) * X
    depth = (1 - np.sqrt((u / a) ** 2 + (v / b) ** 2)) * b
    mask = np.clip(depth + 0.5, 0, 1)
    rim = np.exp(-(((depth - 3.5) / 1.8) ** 2)) + rng.uniform(*core) * (depth > 3.5)
    image = gaussian_filter(rim * rng.uniform(0.6, 0.9), 0.6) + rng.normal(0, 0.01, mask.shape)
    return mask.astype(np.float32), np.clip(image, 0, 1).astype(np.float32)


def nucleus(rng):
    """An ellipse that is bright throughout, with texture."""
    mask, _ = cell(rng)
    texture = gaussian_filter(rng.normal(size=mask.shape), 2)
    image = gaussian_filter(mask * (0.6 + 1.5 * texture), 1) + rng.normal(0, 0.01, mask.shape)
    return mask, np.clip(image, 0, 1).astype(np.float32)


def inverted(mask, image):
    return mask, image[mask > 0.5].max() - image


def blurred(mask, image):
    return mask, gaussian_filter(image, 2.5)


@pytest.fixture(scope="module")
def novelty():
    rng = np.random.default_rng(0)
    return fit_novelty([cell(rng) for _ in range(50)])


def reasons(novelty, cells, sized=True):
    return [novelty_reason(novelty, features(*one), sized=sized) for one in cells]


def test_cells_like_those_trained_on_pass(novelty):
    rng = np.random.default_rng(1)
    assert sum(reason is not None for reason in reasons(novelty, [cell(rng) for _ in range(100)])) <= 10


@pytest.mark.parametrize(("spoil", "word"), [(inverted, "inverted"), (blurred, "blurred")])
def test_spoiled_pictures_are_found_and_named(novelty, spoil, word):
    rng = np.random.default_rng(2)
    found = reasons(novelty, [spoil(*cell(rng)) for _ in range(30)])
    assert sum(reason is not None and word in reason for reason in found) >= 27


def test_nuclei_are_found(novelty):
    rng = np.random.default_rng(3)
    assert sum(reason is not None for reason in reasons(novelty, [nucleus(rng) for _ in range(30)])) >= 27


def test_what_tells_strangers_apart_can_be_learned():
    rng = np.random.default_rng(4)

    def dim(rng):  # only the core differs, and not by much
        return cell(rng, core=(0.65, 0.8))

    own = [cell(rng) for _ in range(40)]
    others = [dim(rng) for _ in range(20)]
    plain, taught = fit_novelty(own), fit_novelty(own, [dim(rng) for _ in range(30)])
    before, after = (
        sum(reason is not None for reason in reasons(known, others)) for known in (plain, taught)
    )  # fmt: skip
    assert after > before + 3
    assert any("another stain" in (reason or "") for reason in reasons(taught, others))


@pytest.mark.parametrize("image", [True, False])
def test_sizes_count_where_they_are_known(novelty, image):
    rng = np.random.default_rng(5)
    small = [cell(rng, radius=(9, 10)) for _ in range(10)]
    small = [(mask, picture if image else None) for mask, picture in small]
    found = reasons(novelty, small)
    assert all(found)
    if not image:
        assert all("smaller" in reason for reason in found)
        # The scale "auto" brings them to one size.
        usual = [(zoom(mask, 2.5, order=1)[48:112, 48:112], None) for mask, _ in small]
        assert sum(reason is not None for reason in reasons(novelty, usual, sized=False)) <= 2


def test_unusual_outlines_are_found_without_a_picture(novelty):
    rng = np.random.default_rng(6)
    long = [(cell(rng, radius=(20, 22), ratio=(0.2, 0.25))[0], None) for _ in range(10)]
    assert all("outline" in (reason or "") for reason in reasons(novelty, long))
    mask, _ = cell(rng)
    mask[(X**2 + Y**2) < 60] = 0
    reason = novelty_reason(novelty, features(mask, None), sized=True)
    assert reason is not None and "holes" in reason


def test_neighbours_gain_and_what_lies_outside_do_not_matter(novelty):
    rng = np.random.default_rng(7)
    mask, image = cell(rng)
    other = np.where(mask > 0.5, 0.5 * image + 0.1, rng.random(mask.shape)).astype(np.float32)
    for group, values in features(mask, image).items():
        np.testing.assert_allclose(features(mask, other)[group], values, rtol=1e-4, atol=1e-4)


def test_a_picture_that_says_nothing_counts_as_none(novelty):
    mask, _ = cell(np.random.default_rng(8))
    assert "picture" not in features(mask, np.full_like(mask, 0.3))
    assert novelty_reason(novelty, features(mask, np.full_like(mask, 0.3)), sized=True) == novelty_reason(
        novelty, features(mask, None), sized=True
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (2, 2), (64, 64)])
def test_degenerate_masks_have_finite_features(novelty, shape):
    mask = np.zeros((64, 64), np.float32)
    mask[: shape[0], : shape[1]] = 1
    image = np.random.default_rng(9).random((64, 64)).astype(np.float32)
    found = features(mask, image)
    assert all(np.isfinite(values).all() for values in found.values())
    assert len(found["size"]) == len(SIZE) and len(found["shape"]) == len(SHAPE)
    assert len(found.get("picture", PICTURE)) == len(PICTURE)
    assert novelty_reason(novelty, features(mask, image), sized=True) is not None


def test_masks_alone_can_be_learned():
    rng = np.random.default_rng(10)
    known = fit_novelty([(cell(rng)[0], None) for _ in range(30)])
    assert set(known.groups) == {"size", "shape"} and not known.directions
    mask, image = cell(rng)
    seen, unpictured = features(mask, image), features(mask, None)
    assert novelty_reason(known, seen, sized=True) == novelty_reason(known, unpictured, sized=True)


def test_it_survives_json_and_is_small(novelty):
    text = novelty.model_dump_json()
    assert Novelty.model_validate_json(text) == novelty
    # The entries of a JSON object have no order.
    again = Novelty.model_validate_json(json.dumps(json.loads(text), sort_keys=True))
    odd = features(*inverted(*cell(np.random.default_rng(2))))
    assert novelty_reason(again, odd, sized=True) == novelty_reason(novelty, odd, sized=True) is not None
    assert len(text) < 20_000


def test_too_few_cells():
    with pytest.raises(InputError, match="at least 20"):
        fit_novelty([cell(np.random.default_rng(11))] * 19)


def test_warnings_in_words():
    assert in_words({}, 5) == []
    assert in_words({"7": "it is smaller than usual"}, 5) == [
        "Cell 7 is unlike the training data: it is smaller than usual."
    ]
    assert len(in_words(dict.fromkeys("abc", "it is odd"), 9)) == 3
    (text,) = in_words({"3": "it is odd", "5": "it is odd", "7": "it is even", "9": "it is odd"}, 40)
    assert text.startswith("4 of 40 cells") and "3, 5, 7, 9 (reason for 3 of them: it is odd)" in text
    (text,) = in_words({str(i): "it is odd" for i in range(100)}, 100)
    assert "and others (reason for each" in text and len(text) < 200


@pytest.mark.slow
def test_real_cells(red_blood_cells):
    """Half of the real cells judge the other half: the figures of all are in docs/model.md."""
    files = read_dataset(red_blood_cells)
    cells = [(file.mask, file.image) for file in files]
    known = fit_novelty(cells[::2])
    others = cells[1::2]
    assert sum(reason is not None for reason in reasons(known, others)) <= 0.1 * len(others)
    for spoil in (inverted, blurred):
        found = reasons(known, [spoil(*one) for one in others])
        assert sum(reason is not None for reason in found) >= 0.8 * len(others)
    # Through a picture of their own and the scale "auto", as a user's cells come.
    crops = []
    for mask, image in others[::3]:
        field, labels = np.kron(image, np.ones((3, 3))), np.kron(mask > 0.5, np.ones((3, 3), int))
        field = gaussian_filter(np.pad(field, 5), 1)
        crops += crop_cells(field, np.pad(labels, 5), None, Scaling("auto", 50))[0]
    found = reasons(known, [(crop.mask, crop.image) for crop in crops], sized=False)
    assert sum(reason is not None for reason in found) <= 3
