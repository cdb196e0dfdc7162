"""Simulated stacks: the requested number of nuclei, most of them whole, light blurred more along z."""

import numpy as np
import pytest
from scipy.ndimage import find_objects, label

from napari_dispr.errors import InputError
from napari_dispr.synthesis.stacks import CUT, simulate_stack


@pytest.fixture(scope="module")
def stack():
    return simulate_stack(18, (30, 220, 240), (1.0, 0.3, 0.3), seed=4)


def test_nuclei_are_all_there_and_the_promised_ones_whole(stack) -> None:
    assert stack.image is not None and stack.image.dtype == np.uint16
    assert stack.image.shape == stack.labels.shape == (30, 220, 240)
    assert stack.spacing == (1.0, 0.3, 0.3) and stack.unit == "micrometer"
    cut = []
    for number, box in enumerate(find_objects(stack.labels), start=1):
        assert box is not None
        sides = zip(box, stack.labels.shape, strict=True)
        cut.append(any(side.start == 0 or side.stop == length for side, length in sides))
        parts, _ = label(stack.labels[box] == number, np.ones((3, 3, 3)))
        assert cut[-1] or np.bincount(parts.ravel())[1:].max() > 0.98 * (parts > 0).sum()
    assert cut == [number % CUT == 0 for number in range(1, 19)]


def test_light_is_where_the_nuclei_are(stack) -> None:
    inside = stack.labels > 0
    dark, bright = stack.image[~inside], stack.image[inside]
    assert np.median(bright) > np.percentile(dark, 97)
    assert dark.std() > 3  # noise


def test_light_is_blurred_more_along_z() -> None:
    stack = simulate_stack(6, (60, 140, 140), (0.3, 0.3, 0.3), seed=1)
    assert stack.image is not None
    inside = np.asarray(stack.labels > 0)
    steps = []
    for axis in (0, 1):
        edge = np.diff(inside.astype(np.int8), axis=axis) != 0
        steps.append(np.abs(np.diff(stack.image.astype(float), axis=axis))[edge].mean())
    assert steps[0] < 0.75 * steps[1]


def test_same_seed_same_stack(stack) -> None:
    again = simulate_stack(18, (30, 220, 240), (1.0, 0.3, 0.3), seed=4)
    np.testing.assert_array_equal(again.image, stack.image)
    other = simulate_stack(18, (30, 220, 240), (1.0, 0.3, 0.3), seed=5)
    assert (other.labels != stack.labels).any()


def test_too_many_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        simulate_stack(30, (20, 60, 60))
