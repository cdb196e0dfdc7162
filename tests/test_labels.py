"""Labels: which arrays are segmentations, and which are refused as pictures."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk

from napari_dispr.errors import InputError
from napari_dispr.labels import cell_boxes, separate_parts, split_parts, whole_numbers


def discs(radius: int, step: int) -> np.ndarray:
    """Labels in rows, from 1."""
    labels = np.zeros((160, 160), np.uint16)
    centres = np.stack(np.mgrid[step // 2 : 160 : step, step // 2 : 160 : step], -1).reshape(-1, 2)
    for label, centre in enumerate(centres, start=1):
        labels[disk(centre, radius, shape=labels.shape)] = label
    return labels


@pytest.mark.parametrize("labels", [discs(30, 70), discs(2, 4), discs(8, 10), discs(30, 70) > 0])
def test_segmentations_are_labels(labels: np.ndarray) -> None:
    assert (whole_numbers(labels) == labels).all()
    assert whole_numbers(np.stack([labels] * 3)).shape == (3, 160, 160)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("labels", [discs(30, 70), 255 * (discs(70, 160) > 0)])
def test_interpolated_labels_are_refused(labels: np.ndarray, order: int) -> None:
    larger = np.rint(ndimage.zoom(labels.astype(float), 2, order=order)).clip(0)
    with pytest.raises(InputError, match="without interpolation"):
        whole_numbers(larger, "cells.tif")


def test_pictures_are_refused() -> None:
    noise = np.random.default_rng(0).normal(20, 3, (160, 160))
    picture = (noise + 100 * ndimage.gaussian_filter((discs(30, 70) > 0) * 1.0, 2)).astype(np.uint8)
    for labels in (picture, np.stack([picture] * 30)):
        with pytest.raises(InputError, match=r"labels of a\.tif look like a picture"):
            whole_numbers(labels, "a.tif")


def test_parts_of_a_binary_mask_become_cells() -> None:
    mask = 255 * (discs(30, 70) > 0)
    assert separate_parts(mask) == separate_parts(mask > 0) == 4
    assert separate_parts(discs(30, 70)) == separate_parts(discs(70, 160)) == 1
    assert sorted(cell_boxes(split_parts(mask))) == [1, 2, 3, 4]


def test_labels_above_all_numbers_are_refused() -> None:
    for labels in (np.full((3, 3), 2**63, np.uint64), np.full((3, 3), 2.0**63)):
        with pytest.raises(InputError, match=r"2\^63 and more: number the cells from 1"):
            whole_numbers(labels)


@pytest.mark.parametrize("kind", ["f2", "f4", ">f8", "u8", "i1"])
def test_labels_of_every_type_of_number(kind: str) -> None:
    found = whole_numbers((discs(30, 70) > 0).astype(kind))
    assert found.dtype.kind in "ui" and set(np.unique(found)) == {0, 1}
