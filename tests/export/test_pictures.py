"""Pictures: a shape is seen where it is, lit from one side; a page has a tile a member."""

from dataclasses import replace

import numpy as np
from skimage.io import imread

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile
from napari_dispr.export.pictures import (
    BACKGROUND,
    ENLARGED,
    GAP,
    LEVELS,
    OUTLINE,
    SEAM,
    denoising_overview,
    montage,
    save_page,
)
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.section import Section
from napari_dispr.shapes.shading import shaded

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
    truths = {3: BALL.astype(np.float32)}
    save_page(tmp_path / "page.png", Prediction({3: ensemble}), image, labels, truths, "title")
    page = imread(tmp_path / "page.png")
    assert np.unique(page.reshape(-1, page.shape[-1]), axis=0).shape[0] > 200


def tiles(page, columns):
    """The cells of a montage: picture and shape of each."""
    side = grid.SIZE * ENLARGED
    for top in range(GAP, page.shape[0] - GAP, side + GAP):
        for column in range(columns):
            left = GAP + column * (2 * side + SEAM + GAP)
            row = page[top : top + side]
            yield row[:, left : left + side], row[:, left + side + SEAM : left + 2 * side + SEAM]


def test_a_montage_shows_picture_outline_and_shape():
    obj = np.rint(255 * np.clip(BALL + 0.5, 0, 1)).astype(np.uint8)
    mask = obj[grid.IMAGED_PLANE].astype(np.float32) / 255
    cells = [
        CellFile("a", mask, mask * 0.6 + 0.1, obj),
        CellFile("b", mask, None, obj),
        CellFile("c", mask, mask * 0.6 + 0.1, None),
    ]
    page = montage(cells, columns=2, rows=2)
    assert page.dtype == np.uint8
    assert page.shape == (2 * (128 + GAP) + GAP, 2 * (2 * 128 + SEAM + GAP) + GAP, 3)
    (picture, shape), (plain, _), (_, nothing), (empty, _) = tiles(page, 2)
    outline = (picture == OUTLINE).all(axis=-1)
    radius = np.linalg.norm(np.argwhere(outline) - 63.5, axis=1) / ENLARGED
    assert outline.sum() > 150 and radius.min() > 14 and radius.max() < 15.5
    assert picture[60, 60, 0] > 2 * picture[5, 5, 0] > 0
    assert (picture[60, 60] == picture[60, 60, 0]).all(), "pictures are grey"
    assert (plain == OUTLINE).all(axis=-1).sum() == outline.sum() and plain[60, 60, 0] > plain[5, 5, 0]
    covered = (shape != BACKGROUND).any(axis=-1)
    assert covered.sum() == np.clip(covered.sum(), 0.9 * np.pi * 30**2, 1.25 * np.pi * 30**2)
    assert shape[covered].mean(axis=0).argmax() == 2
    assert (nothing == BACKGROUND).all() and (empty == BACKGROUND).all()


def test_a_montage_of_many_cells_takes_some_and_of_few_is_small():
    obj = np.rint(255 * np.clip(BALL + 0.5, 0, 1)).astype(np.uint8)
    cells = [
        CellFile(str(i), np.full((64, 64), (i + 1) / 40, np.float32), None, obj if i % 2 else None)
        for i in range(40)
    ]
    page = montage(cells, columns=3, rows=2)
    assert page.shape == montage(cells[:6], columns=3, rows=2).shape
    assert (page != montage(cells[:6], columns=3, rows=2)).any()
    assert montage(cells[:2]).shape[1] < montage(cells[:3]).shape[1]
    assert montage(cells[:2]).shape[0] == 128 + 2 * GAP
    assert montage([]).ndim == 3


def test_how_a_shape_came_to_be_is_seen_from_noise_to_shape():
    noise = np.random.default_rng(0).normal(0, 8, BALL.shape)
    frames = np.stack([noise, BALL])
    mask = np.clip(BALL[grid.IMAGED_PLANE] + 0.5, 0, 1).astype(np.float32)
    path = Denoising(1, 0, frames, frames, np.array([1, 0]), np.array([1, 0]), np.eye(4))
    page = denoising_overview(path)
    side = grid.SIZE * ENLARGED
    assert page.dtype == np.uint8
    assert page.shape == (2 * (side + GAP) + GAP, len(LEVELS) * (side + GAP) + GAP, 3)
    places = [GAP + i * (side + GAP) for i in range(len(LEVELS))]
    picked = [places[i] for i in (0, LEVELS.index(0.33), -1)]
    shapes, planes = ([page[top : top + side, x : x + side] for x in picked] for top in places[:2])
    covered = [(shape != BACKGROUND).any(axis=-1).mean() for shape in shapes]
    assert covered[0] > 0.95 and covered[0] > covered[1] > covered[2] > 0.1
    inside = np.repeat(np.repeat(mask > 0.5, ENLARGED, 0), ENLARGED, 1)
    contrast = [plane[inside].mean() - plane[~inside].mean() for plane in planes]
    assert contrast[2] > contrast[1] > 10 and abs(contrast[0]) < 5
    # With what it was drawn from, that comes first.
    section = Section(mask, mask * 0.6)
    with_picture = denoising_overview(replace(path, section=section))
    assert with_picture.shape[1] == page.shape[1] + side + GAP
    outlined = (with_picture == OUTLINE).all(axis=-1)
    assert all(outlined[:, x : x + side].any() for x in (*places, places[-1] + side + GAP))
