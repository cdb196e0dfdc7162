"""Pictures: a shape is seen where it is, lit from one side; a page has a tile a member."""

import numpy as np
from skimage.io import imread

from napari_dispr import grid
from napari_dispr.pictures import save_page, shaded
from napari_dispr.results import Prediction
from napari_dispr.shapes.ensemble import Ensemble

BALL = 15 - np.linalg.norm(
    np.indices(grid.SHAPE).transpose(1, 2, 3, 0) - [grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE], axis=-1
)


def test_a_ball_is_a_disc_lit_from_one_side():
    view = shaded(BALL.astype(np.float32), (1.0, 0.5, 0.25))
    assert view.shape == (64, 64, 4) and view.min() >= 0 and view.max() <= 1
    covered = view[..., 3] > 0.5
    assert covered.sum() == np.clip(covered.sum(), 0.95 * np.pi * 15**2, 1.05 * np.pi * 15**2)
    np.testing.assert_allclose(np.argwhere(covered).mean(axis=0), [grid.CENTRE] * 2, atol=0.6)
    red = view[..., 0]
    assert red[24:28, 24:28].mean() > 2 * red[38:42, 38:42].mean()
    np.testing.assert_allclose(view[covered][:, 1], view[covered][:, 0] / 2, rtol=1e-5)


def test_nothing_is_transparent():
    assert shaded(np.full(grid.SHAPE, -1, np.float32), (1, 1, 1))[..., 3].max() == 0


def test_a_page(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((90, 90), np.int32)
    labels[20:60, 20:60] = 3
    affine = grid.pixel_to_world(np.eye(3)) @ grid.grid_to_pixel(1.0, (39.5, 39.5))
    ensemble = Ensemble(3, np.stack([BALL, BALL - 5]).clip(-8, 8).astype(np.float32), affine)
    image = rng.integers(0, 255, labels.shape, np.uint8)
    sizes = []
    for truths in (None, {3: BALL.astype(np.float32)}):
        save_page(tmp_path / "page.png", Prediction({3: ensemble}), image, labels, truths, "title")
        page = imread(tmp_path / "page.png")
        assert np.unique(page.reshape(-1, page.shape[-1]), axis=0).shape[0] > 200
        sizes.append(page.shape)
    assert sizes[1][1] > sizes[0][1], "the truth has a column of its own"
