"""Simulated cells to train ``generic`` with: whole, on the grid, unlike one another, with a picture."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter, label
from scipy.spatial import ConvexHull
from support.geometry import check_antialiased

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.synthesis.bodies import star
from napari_dispr.synthesis.generic import KINDS, UNSEEN_KINDS, generic_training_cells, simulated_cell
from napari_dispr.synthesis.microscopy import picture

Cell = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]
EACH = 4


@pytest.fixture(scope="module")
def cells() -> dict[str, list[Cell]]:
    drawn = {}
    for kind in KINDS + UNSEEN_KINDS:
        rng = np.random.default_rng(11)
        drawn[kind] = [simulated_cell(kind, rng) for _ in range(EACH)]
    return drawn


every_kind = pytest.mark.parametrize("kind", KINDS + UNSEEN_KINDS)


def box(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    where = np.argwhere(inside)
    return where.min(axis=0), where.max(axis=0)


def test_kinds_to_test_with_are_not_trained_with() -> None:
    assert not set(KINDS) & set(UNSEEN_KINDS)
    assert len(KINDS) >= 8 and len(UNSEEN_KINDS) >= 4


@every_kind
def test_cells_are_whole_and_on_the_grid(kind: str, cells: dict[str, list[Cell]]) -> None:
    for obj, _, _ in cells[kind]:
        assert obj.shape == grid.SHAPE and obj.dtype == np.uint8
        assert obj[1:-1, 1:-1, 1:-1].sum() == obj.sum()
        inside = obj > 127.5
        assert inside.sum() > 3000
        sizes = np.bincount(label(inside)[0].ravel())[1:]
        assert sizes.max() > 0.99 * sizes.sum() or kind == "biconcave"
        np.testing.assert_array_equal(binary_fill_holes(inside), inside)


@every_kind
def test_section_is_the_mask_of_the_size_that_crops_have(kind: str, cells: dict[str, list[Cell]]) -> None:
    for obj, mask, image in cells[kind]:
        assert mask.shape == image.shape == (64, 64) and mask.dtype == image.dtype == np.float32
        np.testing.assert_allclose(mask, obj[grid.IMAGED_PLANE] / 255, atol=1e-6)
        low, high = box(mask > 0.5)
        assert 18 <= (high - low + 1).max() <= 57
        assert np.abs((low + high) / 2 - grid.CENTRE).max() <= 1.5
        bottom, top = box(obj > 127.5)[0][0], box(obj > 127.5)[1][0]
        assert top - bottom + 1 >= 10
        # Within the middle half of the cell.
        assert abs((bottom + top) / 2 - grid.IMAGED_PLANE) <= 0.3 * (top - bottom) + 1


@every_kind
def test_edges_are_antialiased_by_a_voxel(kind: str, cells: dict[str, list[Cell]]) -> None:
    obj = cells[kind][0][0]
    check_antialiased(obj)


def test_the_seed_decides_and_no_two_are_alike() -> None:
    for kind in KINDS + UNSEEN_KINDS:
        rng = np.random.default_rng(3)
        first, second, again = (simulated_cell(kind, r) for r in (rng, rng, np.random.default_rng(3)))
        for one, same in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, same)
        a, b = first[0] > 127, second[0] > 127
        assert (a & b).sum() / (a | b).sum() < 0.97


def test_kinds_differ_in_roughness(cells: dict[str, list[Cell]]) -> None:
    def unevenness(kind: str) -> float:
        """Share of the convex hull that the cell leaves empty."""
        filled = [(obj > 127).sum() / ConvexHull(np.argwhere(obj > 127)).volume for obj, _, _ in cells[kind]]
        return 1 - float(np.mean(filled))

    uneven = {kind: unevenness(kind) for kind in ("ellipsoid", "smooth", "bumpy", "rough", "lobed")}
    assert uneven["ellipsoid"] < uneven["smooth"] < uneven["bumpy"] < uneven["rough"]
    assert min(uneven["rough"], uneven["lobed"]) > uneven["ellipsoid"] + 0.03


def test_star_has_the_requested_amplitude() -> None:
    direction = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=0)
    shape = star(np.random.default_rng(1), (2, 8), 1.0, 0.1, np.ones(3, np.float32))
    bulge = shape(direction)  # the surface's height above the unit sphere
    assert bulge.std() == pytest.approx(0.1, rel=0.1)
    assert abs(bulge.mean()) < 0.02  # degrees from 2: neither larger ...
    assert np.abs((direction * bulge).mean(axis=1)).max() < 0.01  # ... nor moved


def test_pressed_cells_have_a_flat_side(cells: dict[str, list[Cell]]) -> None:
    """Adherent cells stand on their last planes: these are nearly as wide as the cell."""

    def foot(kind: str) -> float:
        shares = []
        for obj, _, _ in cells[kind]:
            areas = (obj > 127).sum(axis=(1, 2))
            areas = areas[areas > 0]
            shares.append(max(areas[2], areas[-3]) / areas.max())
        return float(np.mean(shares))

    assert foot("adherent") > foot("smooth") + 0.1
    assert foot("dome") > foot("smooth") + 0.02


def test_pictures_show_the_cell_and_differ(cells: dict[str, list[Cell]]) -> None:
    for drawn in cells.values():
        for _, mask, image in drawn:
            assert image.min() >= 0 and image.max() <= 1
            # Brighter than what is far from it, but for another cell there.
            assert np.median(image[mask > 0.5]) > np.quantile(image[mask == 0], 0.25) + 0.05
    obj, mask, _ = cells["smooth"][0]
    rng = np.random.default_rng(8)
    pictures = [picture(obj, rng) for _ in range(24)]
    # Dye in the rim in some and throughout in others, and more or less noise.
    inner = mask * (gaussian_filter(mask, 4) > 0.9)
    rim = (mask > 0.5) & (inner < 0.5)
    contrast = [p[rim].mean() / p[inner > 0.5].mean() for p in pictures]
    assert max(contrast) > 1.2 and min(contrast) < 0.9
    grain = [(p - gaussian_filter(p, 1))[inner > 0.5].std() / p[inner > 0.5].mean() for p in pictures]
    assert max(grain) > 3 * min(grain)


def test_training_cells_are_drawn_by_seed_and_number() -> None:
    one, two = generic_training_cells(2, seed=5)
    (again,) = generic_training_cells(1, seed=5)
    (other,) = generic_training_cells(1, seed=6)
    assert (one.name, two.name) == ("generic-000000", "generic-000001")
    np.testing.assert_array_equal(one.signed_distance, again.signed_distance)
    np.testing.assert_array_equal(one.image, again.image)
    assert not np.array_equal(one.signed_distance, two.signed_distance)
    assert not np.array_equal(one.signed_distance, other.signed_distance)
    assert one.signed_distance.dtype == np.float16
    np.testing.assert_array_equal(one.signed_distance[grid.IMAGED_PLANE] > 0, one.mask > 0.5)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"'cube'.*ellipsoid.*spindle"):
        simulated_cell("cube", np.random.default_rng(0))
