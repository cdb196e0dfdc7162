"""Cells of which several planes are known: which plane is imaged, and where the others lie."""

from dataclasses import replace

import numpy as np
import pytest
from support.stacks import STEP, two_balls

from napari_dispr import grid
from napari_dispr.cells.cropping import Scaling, crop_cells
from napari_dispr.cells.planes import check_planes, crop_planes
from napari_dispr.errors import InputError
from napari_dispr.planes import LEAST_SPACING, KnownPlane, mean_gap, useful

IMAGE, LABELS = two_balls()
DEPTHS = [STEP * k for k in range(9)]


def cropped(image=IMAGE, labels=LABELS, depths=DEPTHS, cells=None, scale="auto", **how):
    return crop_planes(check_planes(image, labels, depths), cells, Scaling(scale, 44.0, **how))


def test_the_imaged_plane_is_cut_as_ever_and_the_others_lie_around_it():
    crops, imaged, left_out = cropped()
    assert imaged == {1: 4, 2: 3} and not left_out
    for crop in crops:
        k = imaged[crop.label]
        (alone,), _ = crop_cells(IMAGE[k], LABELS[k], [crop.label], Scaling(crop.zoom, 44.0))
        np.testing.assert_array_equal(crop.mask, alone.mask)
        np.testing.assert_array_equal(crop.image, alone.image)
        np.testing.assert_allclose(crop.grid_to_pixel[1:], alone.grid_to_pixel[1:])
        # The imaged plane lies at its own depth.
        assert (crop.grid_to_pixel @ [grid.IMAGED_PLANE, 0, 0, 1])[0] == pytest.approx(DEPTHS[k])
        for plane in crop.planes:
            i = k + round(plane.depth / crop.zoom / STEP)
            assert plane.depth == pytest.approx((i - k) * STEP * crop.zoom)
            (same,), _ = (
                crop_cells(IMAGE[i], LABELS[i], [crop.label], Scaling(crop.zoom, 44.0))
                if (LABELS[i] == crop.label).any()
                else ([None], {})
            )
            assert (same is None) == (not plane.mask.any()) == (plane.image is None)
            if same is not None:
                assert np.count_nonzero((plane.mask > 0.5) ^ (same.mask > 0.5)) <= 0.05 * same.mask.sum()


def test_a_plane_next_to_the_ends_of_a_cell_is_known_to_be_empty():
    _, crop = cropped()[0]
    depths = [round(plane.depth / crop.zoom / STEP) + 3 for plane in crop.planes if not plane.mask.any()]
    own = np.flatnonzero((LABELS == 2).any(axis=(1, 2)))
    assert depths == ([own[0] - 1] if own[0] else []) + [own[-1] + 1]
    # A plane between its sections in which it is missing is not: it may not be segmented there.
    gap = np.where((LABELS == 1) & (np.arange(9) == 6)[:, None, None], 0, LABELS)
    (first, _), _, _ = cropped(labels=gap)
    assert len(first.planes) == len(cropped()[0][0].planes) - 1


def test_planes_in_any_order_and_without_image():
    order = [5, 0, 7, 2, 8, 1, 3, 6, 4]
    crops, _, _ = cropped(IMAGE[order], LABELS[order], [DEPTHS[k] for k in order])
    for one, other in zip(crops, cropped()[0], strict=True):
        assert [plane.depth for plane in one.planes] == [plane.depth for plane in other.planes]
        np.testing.assert_array_equal(one.mask, other.mask)
    bare, _, _ = cropped(image=None)
    assert all(plane.image is None for crop in bare for plane in (crop, *crop.planes))


def test_a_tall_cell_gets_a_smaller_zoom_or_is_refused():
    tall = [12 * k for k in range(9)]
    (crop, _), _, _ = cropped(depths=tall)
    assert crop.zoom < cropped()[0][0].zoom
    # There is room for half a ball on the outermost sections, or up to the next plane, which is empty.
    areas = {0.0: crop.mask.sum()} | {plane.depth: plane.mask.sum() for plane in crop.planes}
    own = [depth for depth, area in areas.items() if area]
    ends = [abs(end) + min(np.sqrt(areas[end] / np.pi), 12 * crop.zoom) for end in (min(own), max(own))]
    assert max(ends) == pytest.approx(30, abs=0.3)
    with pytest.raises(InputError, match=r"cell 1 reach beyond the grid .* at most 0\.\d+"):
        cropped(depths=tall, cells=[1], scale=3.0)


@pytest.mark.parametrize(("apart", "room"), [(25, True), (60, False)])
def test_a_cell_with_one_section_gets_room_up_to_the_empty_planes(apart, room):
    """Unless it would be small on the grid, or the model knows how large cells are."""
    labels = np.zeros((3, 64, 64), int)
    labels[1] = np.hypot(*(np.indices((64, 64)) - 32)) < 15
    (crop,), _, _ = cropped(None, labels, [0, apart, 2 * apart])
    if room:
        assert [plane.depth for plane in crop.planes] == pytest.approx([-30, 30])
        assert not any(plane.mask.any() for plane in crop.planes)
    else:
        (alone,), _ = crop_cells(None, labels[1], [1], Scaling("auto", 44.0))
        assert crop.zoom == alone.zoom and not crop.planes
    (sized,), _, _ = cropped(None, labels, [0, apart, 2 * apart], voxel_size=0.14)
    assert sized.zoom > 1.4


def test_pixels_that_are_not_square():
    crops, _, _ = cropped(sides=(0.8, 1.2))
    assert crops
    for crop in crops:
        rows, columns = (np.flatnonzero(crop.mask.max(axis=a) > 0.5).size for a in (1, 0))
        assert columns > 1.3 * rows


#: Cell 1 has another number in a plane between its others.
RENAMED = np.where((np.arange(9)[:, None, None] == 5) & (LABELS == 1), 7, LABELS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depths": [0, 1]}, "The number of depths is 2, that of planes 9"),
        ({"depths": [0] * 9}, "depth 0 is given twice"),
        ({"depths": [np.nan] * 9}, "Depth number 1 is nan: give a number for each plane"),
        ({"depths": [0, "high", *range(2, 9)]}, "Depth number 2 is 'high'"),
        ({"depths": np.arange(9) * 900.0, "cells": [1]}, "check the depths, their unit"),
        ({"depths": np.arange(9) * 1e-3, "cells": [1]}, "within 1.5 voxels of its imaged plane"),
        ({"labels": RENAMED, "cells": [1]}, "Plane number 5 .* names cell 7 where the planes around it"),
        ({"labels": LABELS[4]}, r"not \(plane, y, x\)"),
        ({"labels": np.zeros_like(LABELS)}, "empty in all planes"),
        ({"image": IMAGE[:4]}, "one channel of the same planes"),
        ({"labels": np.where(LABELS, (LABELS + np.arange(9)[:, None, None]) % 9 + 1, 0)}, "different cells"),
        ({"cells": [7]}, "no cell 7"),
        (
            {"labels": np.concatenate([LABELS[:5], np.roll(LABELS[5:], 40, 2)]), "cells": [1]},
            "do not lie above",
        ),
        ({"labels": LABELS[:, 40:], "image": IMAGE[:, 40:], "cells": [1]}, "cut by the border"),
    ],
)
def test_wrong_input_is_said_in_words(change, words):
    with pytest.raises(InputError, match=words):
        cropped(**change)


def test_cells_that_cannot_be_cropped_are_left_out():
    labels = LABELS.copy()
    labels[5:] = np.where(labels[5:] == 1, 0, labels[5:])
    labels[6, 5:9, 100:110] = 1  # another cell
    crops, _, left_out = cropped(labels=labels)
    assert [crop.label for crop in crops] == [2] and "do not lie above" in str(left_out[1])


def test_planes_that_tell_nothing_new_are_left_out():
    mask = np.zeros((64, 64), np.float32)
    planes = [KnownPlane(depth, mask) for depth in (-40.0, -32.0, -3.0, -2.0, 0.5, 1.6, 31.0, 31.5, 33.0)]
    assert [plane.depth for plane in useful(planes)] == [-32.0, -2.0, 1.6, 31.0]
    kept = useful(replace(planes[0], depth=d) for d in np.arange(-5, 5, 0.25))
    assert np.diff([plane.depth for plane in kept]).min() >= LEAST_SPACING


def test_the_gap_between_planes_of_a_ball():
    y, x = np.ogrid[-32:32, -32:32]

    def section(depth):
        return ((y**2 + x**2 + depth**2) < 20**2).astype(np.float32)

    def gap(*depths):
        return mean_gap(section(0), [KnownPlane(depth, section(depth)) for depth in depths])

    assert gap() == pytest.approx(20 * 0.8 / 3, rel=0.02)  # of a cone of the area
    gaps = [gap(), gap(10), gap(-10, 10), gap(-20, -10, 10, 20), gap(*range(-20, 21, 4))]
    assert gaps == sorted(gaps, reverse=True) and 0.8 < gaps[-1] < 1.3
    assert gap(8, 30) < gap(8), "an empty plane says that the cell ends before it"
    empty = [KnownPlane(8, np.zeros((64, 64), np.float32)), KnownPlane(12, section(12))]
    # A plane between the sections in which the cell is missing counts, too (3.49 without it).
    assert mean_gap(section(0), empty) == pytest.approx(3.97, abs=0.02)


def test_cells_with_one_or_two_sections_know_the_sizes_of_all_cells_of_the_stack():
    """Whichever cells are chosen; 12 balls of radius 10, cut by planes 14 pixels apart."""
    z, y, x = np.ogrid[:5, :120, :160]
    labels = np.zeros((5, 120, 160), int)
    for k in range(12):
        height = 12 + 4 * k
        distance = np.hypot(z * 14 - height, np.hypot(y - 20 - 40 * (k // 4), x - 20 - 40 * (k % 4)))
        labels[distance < 10] = k + 1
    crops, _, _ = cropped(None, labels, 14.0 * np.arange(5))
    sections = [1 + sum(plane.mask.any() for plane in crop.planes) for crop in crops]
    assert set(sections) == {1, 2}
    for crop in crops:
        assert np.exp(crop.sizes.radius) / crop.zoom == pytest.approx(10, rel=0.06)
        assert np.exp(crop.sizes.tall) == pytest.approx(1, rel=0.1)
    (alone,), _, _ = cropped(None, labels, 14.0 * np.arange(5), cells=[3])
    assert alone.sizes == crops[2].sizes
    # A ball whose only section is in the last plane may have its middle above or below: both fit the grid.
    assert 24 < 2 * np.exp(crops[11].sizes.radius) < 30 and np.count_nonzero(labels[4] == 12) > 300
    # Two balls are too few; and cells with more sections need no sizes.
    assert all(crop.sizes is None for crop in cropped()[0])


def stack_of_discs(step: int, *, restart: bool = False) -> np.ndarray:
    """Balls of radius 10 in three layers that interlock, of which every ``step``-th plane is there.

    With ``restart`` the cells of each plane are numbered from 1 again.
    """
    z, y, x = np.ogrid[:60, :80, :80]
    labels = np.zeros((60, 80, 80), np.uint16)
    places = np.ndindex(3, 2, 3)
    centres = [(10 + 17 * k, 14 + 26 * i + 7 * k, 14 + 26 * j) for k, i, j in places]
    for label, (a, b, c) in enumerate(centres, start=1):
        labels[(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 < 100] = label
    planes = labels[5::step]
    if restart:
        shuffled = np.random.default_rng(1).permutation
        numbers = [np.concatenate([[0], 1 + shuffled(len(np.unique(plane)) - 1)]) for plane in planes]
        return np.stack(
            [own[np.searchsorted(np.unique(one), one)] for own, one in zip(numbers, planes, strict=True)]
        )
    return planes


@pytest.mark.parametrize("step", [2, 4, 8, 16, 20])
def test_planes_as_far_apart_as_cells_are_tall_are_taken(step: int) -> None:
    """Sections of different cells overlap there, but do not coincide."""
    planes = stack_of_discs(step)
    assert np.array_equal(check_planes(None, planes, range(len(planes))).labels, planes)


@pytest.mark.parametrize("step", [2, 4, 8])
def test_cells_with_other_numbers_in_each_plane_are_named(step: int) -> None:
    planes = stack_of_discs(step)
    unique = np.where(planes > 0, planes + 100 * np.arange(len(planes))[:, None, None], 0)
    with pytest.raises(InputError, match="name different cells"):
        check_planes(None, unique, range(len(planes)))


@pytest.mark.parametrize("step", [8, 16, 20])
def test_numbers_that_begin_again_in_each_plane_are_named(step: int) -> None:
    planes = stack_of_discs(step, restart=True)
    with pytest.raises(InputError, match="name different cells"):
        check_planes(None, planes, range(len(planes)))
