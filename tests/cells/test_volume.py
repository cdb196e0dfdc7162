"""The regression of a cell's volume from features, by which members are corrected one by one."""

import numpy as np
import pytest

from napari_dispr import InputError, grid
from napari_dispr.card import Card, Quality
from napari_dispr.cells.cropping import Crop
from napari_dispr.cells.features import features
from napari_dispr.cells.volume import expected_volume, fit_volume
from napari_dispr.prediction.prior import Prior
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import MOST_STRETCH, Ensemble, stretched

Y, X = np.indices((64, 64)) - 31.5
Z = np.indices(grid.SHAPE)[0] - grid.IMAGED_PLANE


def simulated(count, seed=0):
    """Ellipses, brighter at the rim the flatter the cell is, of a volume that their picture tells."""
    rng = np.random.default_rng(seed)
    masks, images, volumes = [], [], []
    for _ in range(count):
        a, b, flat = rng.uniform(12, 24, 2), rng.uniform(0.8, 1.2), rng.uniform(0, 1)
        depth = 1 - np.sqrt((Y / a[0]) ** 2 + (X / (b * a[1])) ** 2)
        mask = np.clip(10 * depth + 0.5, 0, 1).astype(np.float32)
        image = mask * (0.4 + 0.5 * flat * np.exp(-10 * depth.clip(0)) + 0.3 * (1 - flat) * depth.clip(0))
        noise = rng.normal(0, 0.01, mask.shape)
        masks.append(mask)
        images.append((image + noise).astype(np.float32))
        volumes.append(float((mask > 0.5).sum() * (40 - 25 * flat)))
    return masks, images, np.array(volumes)


@pytest.fixture(scope="module")
def regression():
    return fit_volume(*simulated(60))


def errors(regression, sized, images=None):
    masks, own, volumes = simulated(40, seed=1)
    found = [
        expected_volume(regression, features(mask, image), sized=sized)[0]
        for mask, image in zip(masks, images or own, strict=True)
    ]
    return np.abs(np.log(found) - np.log(volumes))


def test_volumes_of_other_cells_are_predicted(regression):
    _, _, volumes = simulated(40, seed=1)
    ignorant = np.abs(np.log(volumes) - np.log(volumes).mean()).mean()
    assert errors(regression, True).mean() < 0.25 * ignorant
    assert errors(regression, False).mean() < 0.4 * ignorant


def test_without_a_picture_less_is_known(regression):
    masks, images, _ = simulated(40, seed=1)
    assert errors(regression, True, [None] * 40).mean() > 2 * errors(regression, True).mean()
    with_picture = expected_volume(regression, features(masks[0], images[0]), sized=True)[1]
    assert expected_volume(regression, features(masks[0], None), sized=True)[1] > 2 * with_picture


def test_stated_error_is_that_of_other_cells(regression):
    stated = regression.weights["size+shape+picture"].error
    assert stated == pytest.approx(np.sqrt(np.mean(errors(regression, True) ** 2)), rel=0.6)


def test_a_cell_has_the_error_of_cells_like_it():
    masks, images, volumes = simulated(120)
    areas = np.array([mask.sum() for mask in masks])
    large = areas > np.median(areas)
    volumes[large] *= np.exp(np.random.default_rng(0).normal(0, 0.4, large.sum()))
    regression = fit_volume(masks, images, volumes)
    others = simulated(40, seed=1)[:2]
    stated = np.array(
        [expected_volume(regression, features(*other), sized=True)[1] for other in zip(*others, strict=True)]
    )
    large = np.array([mask.sum() for mask in others[0]]) > np.median(areas)
    assert np.median(stated[large]) > 2 * np.median(stated[~large])
    assert np.sqrt(np.mean(stated**2)) == pytest.approx(
        regression.weights["size+shape+picture"].error, rel=0.3
    )


def test_gain_of_the_camera_changes_nothing(regression):
    masks, images, _ = simulated(1, seed=2)
    one = expected_volume(regression, features(masks[0], images[0]), sized=True)
    assert expected_volume(regression, features(masks[0], 0.3 * images[0]), sized=True) == pytest.approx(one)


def test_too_few_cells():
    masks, images, volumes = simulated(25)
    with pytest.raises(InputError, match="19 cells with an image are too few"):
        fit_volume(masks, [*images[:19], *[None] * 6], volumes)


def ball(radius, shift=0.0):
    y, x = Y[None], X[None]
    return (radius - np.sqrt((Z - shift) ** 2 + y**2 + x**2)).astype(np.float32)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_stretching_changes_the_volume_and_not_the_plane(factor):
    before = ball(16.0, 3.0)
    after = stretched(before, factor)
    assert (after > 0).sum() == pytest.approx(factor * (before > 0).sum(), rel=0.02)
    assert np.array_equal(after[grid.IMAGED_PLANE], before[grid.IMAGED_PLANE])


def test_stretching_stays_on_the_grid_and_within_bounds():
    tall = stretched(ball(25.0), 1.5) > 0
    assert not tall[[0, -1]].any() and tall.sum() > 1.1 * (ball(25.0) > 0).sum()
    grown = stretched(ball(10.0), 5.0) > 0
    assert grown.sum() == pytest.approx(MOST_STRETCH * (ball(10.0) > 0).sum(), rel=0.03)
    nothing = np.full(grid.SHAPE, -1, np.float32)
    assert stretched(nothing, 1.2) is nothing


def crop(mask, image):
    return Crop(1, mask, image, 1.0, grid.grid_to_pixel(1.0, (31.5, 31.5)), known_scale=1.0)


@pytest.fixture(scope="module")
def uncertain():
    masks, images, volumes = simulated(60)
    return fit_volume(masks, images, volumes * np.exp(np.random.default_rng(0).normal(0, 0.2, 60)))


@pytest.mark.parametrize("share", [0.5, 0.65, 0.0])
@pytest.mark.parametrize("size", [0.95, 1.05])
def test_members_are_brought_part_of_the_way_and_spread_by_the_error(uncertain, share, size):
    masks, images, _ = simulated(1, seed=3)
    weighted = uncertain.model_copy(update={"share": share})
    card = Card(name="x", qualities={"fast": Quality(sampler="euler", steps=1)}, volume=weighted)
    expected, error = expected_volume(weighted, features(masks[0], images[0]), sized=True)
    prior = Prior(crop(masks[0], images[0]), card)
    before = ball(size * np.cbrt(3 * expected / (4 * np.pi)))
    volume = np.count_nonzero(before > 0)
    found = [np.count_nonzero(prior.applied(before, seed) > 0) / volume for seed in range(35, 40)]
    assert np.mean(found) == pytest.approx((expected / volume) ** share, rel=0.03)
    assert sorted(found)[2] == found[0], "the first member is in the middle"
    spread = share * np.sqrt(error**2 - 0.09**2)
    assert error > 0.15 and np.log(max(found) / min(found)) == pytest.approx(2 * 1.2816 * spread, abs=0.03)


def test_members_are_not_spread_where_the_volume_is_known_well(regression):
    masks, images, _ = simulated(1, seed=3)
    assert expected_volume(regression, features(masks[0], images[0]), sized=True)[1] < 0.09
    prior = Prior(crop(masks[0], images[0]), Card(name="x", qualities={}, volume=regression))
    assert np.array_equal(prior.applied(ball(12.0), 1), prior.applied(ball(12.0), 2))


def test_members_are_not_spread_if_the_errors_of_cells_are_not_known(uncertain):
    masks, images, _ = simulated(1, seed=3)
    weights = {name: own.model_copy(update={"errors": None}) for name, own in uncertain.weights.items()}
    card = Card(name="x", qualities={}, volume=uncertain.model_copy(update={"weights": weights}))
    prior = Prior(crop(masks[0], images[0]), card)
    assert np.array_equal(prior.applied(ball(12.0), 1), prior.applied(ball(12.0), 2))


def test_without_regression_nothing_is_expected():
    masks, images, _ = simulated(1)
    prior = Prior(crop(masks[0], images[0]), Card(name="x", qualities={}))
    shape = ball(10.0)
    assert prior.volume is None and prior.unlike is None and prior.applied(shape, 0) is shape


def test_shapes_that_the_grid_cuts_are_found():
    shapes = {1: ball(20.0), 2: ball(20.0, 18.0), 3: ball(31.0)}
    found = Prediction({})
    for n, shape in shapes.items():
        found = found.with_cell(Ensemble(n, shape[None], np.eye(4)))
    assert len(found.warnings) == 1 and "cuts members of cell 2," in found.warnings[0]
