"""Simulated cells as sources: nuclei and blood, in 2D and 3D."""

from itertools import islice

import numpy as np
import pytest

from napari_dispr.errors import InputError
from napari_dispr.synthesis.populations import make_population
from napari_dispr.synthesis.settings import PopulationSettings
from napari_dispr.synthesis.simulated_sources import BLOOD, SDE, blood_shares
from napari_dispr.synthesis.sources import cell_source


@pytest.mark.parametrize(
    ("name", "spacing"),
    [("nuclei", (1.2, 0.6, 0.6)), ("nuclei", (0.5, 0.5)), ("healthy blood", (0.6, 0.3, 0.3)),
     ("hereditary spherocytosis", (0.3, 0.3))],
)  # fmt: skip
def test_cells_are_bright_inside_and_dark_around(name: str, spacing: tuple[float, ...]) -> None:
    source = cell_source(name, len(spacing), spacing)
    for cell in islice(source.draw(np.random.default_rng(0), 3), 3):
        assert cell.mask.ndim == len(spacing) and cell.mask.any()
        assert not any(
            cell.mask.take(end, axis=axis).any() for axis in range(cell.mask.ndim) for end in (0, -1)
        )
        outside = cell.image[~cell.mask]
        assert cell.image[cell.mask].mean() > 3 * outside.mean()


@pytest.mark.parametrize("name", list(BLOOD))
def test_blood_has_the_published_shares(name: str) -> None:
    for seed in range(20):
        shares = blood_shares(name, np.random.default_rng(seed))
        assert sum(shares.values()) == pytest.approx(1)
        # Both ends of the ranges cannot hold at once: then shares are scaled to a sum of 1.
        low, high = BLOOD[name]["SDE"]
        assert 0.93 * low <= sum(shares[kind] for kind in SDE) <= high
        assert shares["acanthocyte"] <= BLOOD[name]["acanthocyte"][1]


def test_a_population_of_nuclei_is_what_a_microscope_would_see() -> None:
    settings = PopulationSettings(size=(120, 120), cells=8, clustering=0.5)
    population = make_population(cell_source("nuclei", 2, (0.5, 0.5)), settings)
    inside = population.labels > 0
    assert population.image.dtype == np.uint16 and len(population.cells) == 8
    assert np.median(population.image[inside]) > 2 * np.median(population.image[~inside])
    assert {cell.source.split()[0] for cell in population.cells} == {"nucleus"}


def test_unknown_sources_are_named() -> None:
    with pytest.raises(InputError, match="no learned model lymphocytes"):
        cell_source("lymphocytes")
    with pytest.raises(InputError, match="2D images need 2"):
        cell_source("nuclei", 2, (1, 1, 1))
