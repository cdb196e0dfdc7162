"""The volume of cells of one kind, from a few known ones."""

import numpy as np
import pytest

from napari_dispr.cells.heights import fit_line, known_volume
from napari_dispr.errors import InputError


def kind(rng, count, height=1.0, slope=1.5, error=0.0):
    """Areas, volumes as a model draws them, and true volumes of cells of one kind."""
    areas = np.exp(rng.normal(6.5, 0.3, count))
    usual = areas**slope * 600 ** (1.5 - slope)
    drawn = 0.75 * areas**1.5 * np.exp(error * rng.normal(size=count))
    return areas, drawn, 0.75 * height * usual


def errors(line, areas, drawn, volumes):
    found = [known_volume(line, *pair) for pair in zip(areas, drawn, strict=True)]
    return np.abs(np.array(found) / volumes - 1)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("height", [0.5, 1.0, 2.3])
def test_a_common_factor_of_the_heights_is_learned_from_five_cells(height, sized):
    rng = np.random.default_rng(0)
    line = fit_line(*kind(rng, 5, height, error=0.02), sized=sized)
    found = errors(line, *kind(rng, 40, height, error=0.02))
    assert np.median(found) < (0.25 if sized else 0.02)
    line = fit_line(*kind(rng, 20, height, error=0.02), sized=sized)
    assert np.median(errors(line, *kind(rng, 40, height, error=0.02))) < 0.06


def test_true_sizes_show_that_small_cells_are_as_tall_as_large_ones():
    """The heights are equal, so that the volume grows as the area."""
    rng = np.random.default_rng(1)
    known, others = (kind(rng, count, slope=1.0) for count in (8, 40))
    sized, unsized = (errors(fit_line(*known, sized=way), *others) for way in (True, False))
    assert np.median(sized) < 0.04 < np.median(unsized)


def test_without_true_sizes_a_larger_copy_has_the_same_height_for_its_width():
    areas, drawn, volumes = kind(np.random.default_rng(2), 8, 1.7, error=0.1)
    line = fit_line(areas, drawn, volumes, sized=False)
    one = known_volume(line, 500.0, 9000.0)
    assert known_volume(line, 500.0 * 4, 9000.0 * 8) == pytest.approx(8 * one)


def test_drawings_that_say_nothing_about_the_volume_count_less():
    rng = np.random.default_rng(3)
    informed = fit_line(*kind(rng, 20), sized=False)
    areas, _, volumes = kind(rng, 20)
    noise = np.exp(0.4 * rng.normal(size=20))
    assert fit_line(areas, volumes * noise, volumes, sized=False).own < informed.own - 0.1


@pytest.mark.parametrize(
    ("areas", "word"), [([500.0] * 3, "only 3 known cells"), ([500.0] * 7 + [0.0], "is 0")]
)
def test_wrong_cells_are_named(areas, word):
    with pytest.raises(InputError, match=word):
        fit_line(areas, [9e3] * len(areas), [8e3] * len(areas), sized=True)
