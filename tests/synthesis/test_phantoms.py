"""Simulated cells: shapes of the right size and kind, and a field whose labels and truth agree."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label
from scipy.spatial import ConvexHull
from support.geometry import check_antialiased

from napari_dispr import grid
from napari_dispr.cells.cropping import crop_cell, cut_by_border
from napari_dispr.errors import InputError
from napari_dispr.labels import cell_boxes
from napari_dispr.shapes.morphometry import iou
from napari_dispr.synthesis.phantoms import KINDS, Field, phantom, simulate_field
from napari_dispr.synthesis.red_cell_crops import membrane_picture


@pytest.fixture(scope="module")
def field() -> Field:
    return simulate_field(cells=10, seed=4)


@pytest.mark.parametrize("kind", KINDS)
def test_phantoms_have_the_size_of_real_cells(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        obj = phantom(kind, rng)
        assert obj.shape == grid.SHAPE and obj.dtype == np.uint8
        inside = obj > 127
        where = np.argwhere(inside)
        low, high = where.min(axis=0), where.max(axis=0)
        assert (high - low + 1).max() <= 62
        assert low.min() >= 1 and high.max() <= 62
        assert high[0] - low[0] + 1 >= 14
        assert abs((low[0] + high[0]) / 2 - grid.IMAGED_PLANE) < 2
        section = np.argwhere(inside[grid.IMAGED_PLANE])
        assert 20 <= np.ptp(section, axis=0).max() + 1 <= 62
        assert np.abs((section.min(axis=0) + section.max(axis=0)) / 2 - grid.CENTRE).max() <= 1.5
        sizes = np.sort(np.bincount(label(inside)[0].ravel())[1:])
        assert sizes[-1] == sizes.sum() or kind == "cluster"


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_antialiased_by_a_voxel(kind: str) -> None:
    obj = phantom(kind, np.random.default_rng(2))
    check_antialiased(obj)


def test_no_two_are_alike_and_the_seed_decides() -> None:
    for kind in ("discocyte", "echinocyte III", "acanthocyte", "keratocyte"):
        rng = np.random.default_rng(3)
        first, second = phantom(kind, rng), phantom(kind, rng)
        assert iou(first > 127, second > 127) < 0.97
        np.testing.assert_array_equal(phantom(kind, np.random.default_rng(3)), first)


def test_kinds_have_their_marks() -> None:
    """Convex or not, as the kind says: the share of the convex hull that the cell fills."""

    def solidity(kind: str) -> float:
        rng = np.random.default_rng(5)
        cells = [phantom(kind, rng) > 127 for _ in range(2)]
        return float(np.mean([cell.sum() / ConvexHull(np.argwhere(cell)).volume for cell in cells]))

    kinds = ("spherocyte", "discocyte", "stomatocyte II", "echinocyte III", "knizocyte", "cluster")
    solid = {kind: solidity(kind) for kind in kinds}
    assert solid["spherocyte"] > 0.9
    assert all(solid[kind] < solid["spherocyte"] - 0.01 for kind in kinds if kind != "spherocyte")
    assert max(solid["cluster"], solid["knizocyte"], solid["stomatocyte II"]) < solid["spherocyte"] - 0.1


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"'lymphocyte'.*discocyte"):
        phantom("lymphocyte", np.random.default_rng(0))


def test_picture_shows_the_plane_it_was_taken_in() -> None:
    rng = np.random.default_rng(6)
    obj = phantom("stomatocyte", rng)
    picture = membrane_picture(obj, rng)
    assert picture.shape == (64, 64) and picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 1
    section = obj[grid.IMAGED_PLANE] > 127
    far = ~binary_dilation(section, iterations=8)
    assert picture[section].mean() > 4 * picture[far].mean()
    assert picture[far].std() > 0.002
    empty = membrane_picture(obj, np.random.default_rng(6), plane=0)
    assert empty.mean() < 0.3 * picture.mean()


def test_labels_are_the_sections_of_the_truth(field: Field) -> None:
    assert field.image.dtype == field.labels.dtype == np.uint16
    assert field.image.shape == field.labels.shape == (512, 512)
    cells = sorted(cell_boxes(field.labels))
    assert cells == list(range(1, 11)) == sorted(field.objects) == sorted(field.kinds)
    assert set(field.kinds.values()) == set(KINDS[:10])
    for cell in cells:
        assert not cut_by_border(field.labels, cell)
        crop = crop_cell(field.image, field.labels, cell, zoom=field.zoom)
        np.testing.assert_allclose(crop.grid_to_pixel, grid.grid_to_pixel(field.zoom, field.centres[cell]))
        assert iou(crop.mask > 0.5, field.objects[cell][grid.IMAGED_PLANE] > 127) > 0.96


def test_cells_touch_and_the_picture_shows_them(field: Field) -> None:
    touching = {
        (cell, int(other))
        for cell in cell_boxes(field.labels)
        for other in np.unique(field.labels[binary_dilation(field.labels == cell)])
        if other not in (0, cell)
    }
    assert len(touching) >= 4  # two pairs, each seen from either side
    background = ~binary_dilation(field.labels > 0, iterations=10)
    dim = field.image[background].mean()
    for cell in cell_boxes(field.labels):
        assert field.image[field.labels == cell].mean() > 2 * dim


def test_the_seed_decides_the_field(field: Field) -> None:
    again, other = simulate_field(cells=10, seed=4), simulate_field(cells=10, seed=5)
    np.testing.assert_array_equal(again.image, field.image)
    np.testing.assert_array_equal(again.labels, field.labels)
    assert (other.labels != field.labels).any()


def test_fields_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="use fewer cells"):
        simulate_field(cells=12, shape=(160, 160))
    with pytest.raises(InputError, match="too small for a cell"):
        simulate_field(cells=1, shape=(40, 200))
