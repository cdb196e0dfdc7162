"""The judge's segmenter: SEG, the watershed, training."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import distance_transform_edt

from napari_dispr.events import result_of
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.segmentation import (
    cells_from,
    examples_of,
    iter_train_segmenter,
    resized_for,
    seg_scores,
)
from napari_dispr.synthesis.settings import JudgeSettings


def discs(
    shape: tuple[int, ...], places: list[tuple[int, ...]], radius: float, squeeze: float = 1.0
) -> np.ndarray:
    labels = np.zeros(shape, np.uint16)
    index = np.indices(shape)
    for number, place in enumerate(places, start=1):
        scale = np.array([squeeze] * (len(shape) - 2) + [1.0, 1.0])
        far = sum(((i - p) * s) ** 2 for i, p, s in zip(index, place, scale, strict=True))
        labels[(far <= radius**2) & (labels == 0)] = number
    return labels


def test_seg_by_hand() -> None:
    truth = np.zeros((10, 10), int)
    truth[0:4, 0:4] = 1  # 16 pixels, found with 4 more: 16 / 20
    truth[0:4, 6:10] = 2  # half of it is found: no match, since more than half is needed
    truth[6:10, 0:4] = 3  # 12 of 16 are found: 12 / 16
    truth[6:10, 6:10] = 7  # not found
    found = np.zeros_like(truth)
    found[0:5, 0:4] = 5
    found[0:4, 6:8] = 6
    found[6:9, 0:4] = 2
    np.testing.assert_allclose(seg_scores(truth, found), [0.8, 0, 0.75, 0])
    assert seg_scores(truth, truth).mean() == 1


def test_seg_is_that_of_the_cell_tracking_challenge(tmp_path: Path) -> None:
    challenge = pytest.importorskip("ctc_metrics", reason="needs py-ctcmetrics, of the extra checks")
    from ctc_metrics.metrics.technical.seg import seg
    from ctc_metrics.utils.representations import match

    assert challenge is not None
    rng = np.random.default_rng(0)
    for number in range(4):
        places = [tuple(rng.integers(0, 60, 2)) for _ in range(12)]
        truth = discs((60, 60), places, 7)
        found = discs(
            (60, 60), [tuple(np.array(p) + rng.integers(-4, 5, 2)) for p in places], rng.uniform(5, 9)
        )
        paths = [tmp_path / f"{name}{number}.tif" for name in ("truth", "found")]
        for path, array in zip(paths, (truth, found), strict=True):
            tifffile.imwrite(path, array)
        labels, _, _, _, overlaps = match(*map(str, paths))
        assert seg_scores(truth, found).mean() == pytest.approx(seg([labels], [overlaps]))


@pytest.mark.parametrize(
    ("shape", "places", "squeeze"),
    [
        ((70, 80), [(20, 20), (20, 35), (50, 50)], 1.0),
        ((20, 60, 60), [(6, 20, 20), (6, 20, 36), (14, 40, 40)], 2.5),
    ],
)
def test_touching_cells_come_apart(
    shape: tuple[int, ...], places: list[tuple[int, ...]], squeeze: float
) -> None:
    truth = discs(shape, places, 9, squeeze)
    planes = np.atleast_3d(truth.T).T
    # What a perfect network predicts, slice by slice.
    distance = np.zeros(planes.shape, np.float32)
    for z, plane in enumerate(planes):
        for cell in np.unique(plane[plane > 0]):
            distance[z] += distance_transform_edt(plane == cell) / 9
    distance = np.where(planes > 0, distance, -1).astype(np.float32).reshape(shape)
    found = cells_from(truth > 0, distance, np.array([18 / squeeze, 18, 18])[-len(shape) :])
    assert found.max() == len(places)
    assert seg_scores(truth, found).min() > 0.75


def test_small_sections_near_the_ends_of_cells_are_found() -> None:
    """From what a perfect network predicts: sections of 6 and 12 % of the area of a typical cell."""
    labels = discs((80, 80), [(15, 15), (15, 45), (50, 15)], 9)
    labels[48:52, 43:47], labels[48:53, 63:69] = 4, 5
    one = Annotated("a slice", 100.0 + labels, labels, (1.0, 1.0))
    resized = resized_for([one], 18.0)
    cell, distance = examples_of([one], resized)[0].target
    found = cells_from(cell > 0.5, distance, np.full(2, resized.diameter))
    assert seg_scores(labels, found).min() == 1


def test_a_tall_cell_stays_one_cell() -> None:
    """Slices are predicted one by one: their distances differ a little, without a second cell."""
    truth = discs((30, 40, 40), [(15, 20, 20)], 9, squeeze=0.7)
    distance = np.stack([distance_transform_edt(plane) for plane in truth]) / 9
    distance[14:17] -= 0.15 * (truth[14:17] > 0)
    distance = np.where(truth > 0, distance, -1).astype(np.float32)
    found = cells_from(truth > 0, distance, np.array([8.0, 18.0, 18.0]))
    assert found.max() == 1 and seg_scores(truth, found).min() == 1


def field(seed: int) -> Annotated:
    rng = np.random.default_rng(seed)
    places = [tuple(rng.integers(8, 88, 2)) for _ in range(7)]
    labels = discs((96, 96), places, 8)
    image = 100 + 300.0 * (labels > 0) + rng.normal(0, 20, labels.shape)
    return Annotated(f"field {seed}", image, labels, (0.5, 0.5), "micrometer")


@pytest.mark.slow
def test_a_segmenter_learns_and_repeats_exactly() -> None:
    images = [field(0), field(1)]
    resized = resized_for(images, 12.0)
    assert resized.zoom((0.5, 0.5)) == pytest.approx(0.7, abs=0.15)
    examples = examples_of(images, resized)
    settings = JudgeSettings(steps=50, crop=32, batch=4)
    losses: list[float] = []
    segmenter = result_of(
        iter_train_segmenter([examples], resized, settings, 0), lambda event: losses.append(event.loss)
    )
    again = iter_train_segmenter([examples], resized, settings, 0)
    assert [next(again).loss for _ in range(2)] == losses[:2]
    assert len(losses) == 50 and np.mean(losses[-5:]) < 0.6 * losses[0]
    test = field(2)
    found = segmenter.cells(segmenter.maps(test.image, test.spacing), test.spacing)
    assert found.shape == test.labels.shape
    assert seg_scores(test.labels, found).mean() > 0.4
    spacing = (2.0, 0.5, 0.5)
    stack = segmenter.cells(segmenter.maps(np.stack([test.image] * 2), spacing), spacing)
    assert stack.shape == (2, 96, 96) and stack.max() > 0
