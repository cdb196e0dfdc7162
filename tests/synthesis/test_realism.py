"""How similar cells are: the kernel distance and the features."""

from pathlib import Path

import numpy as np
import pytest
from support.balls import balls

from napari_dispr.synthesis import realism
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.populations import make_population
from napari_dispr.synthesis.realism import (
    FEATURES,
    cell_features,
    kernel_distances,
    save_panels,
    squared_discrepancy,
)
from napari_dispr.synthesis.settings import PopulationSettings


def image(seed: int, grain: float = 10.0) -> Annotated:
    settings = PopulationSettings(size=(160, 160), cells=20, clustering=0, cut="none")
    population = make_population(balls(2), settings, seed)
    noise = np.random.default_rng(seed).normal(0, grain, population.image.shape)
    return Annotated(f"image {seed}", population.image + noise, population.labels, (0.5, 0.5), "micrometer")


def test_the_discrepancy_is_unbiased_and_grows_with_the_shift() -> None:
    rng = np.random.default_rng(0)
    same = [squared_discrepancy(*rng.normal(size=(2, 12, 3))) for _ in range(400)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 20  # the mean of 400 has a standard error of sd / 20
    one, other = rng.normal(size=(2, 60, 3))
    assert squared_discrepancy(one, other + 0.5) < squared_discrepancy(one, other + 1.5)


def test_features_are_named_and_physical() -> None:
    one = image(0)
    table = cell_features([one])
    assert list(table.columns) == ["image", "label", *FEATURES]
    at_border = np.unique([one.labels[[0, -1]], one.labels[:, [0, -1]].T])
    large = np.flatnonzero(np.bincount(one.labels.ravel()) >= 30)
    assert set(table["label"]) == {*large[1:].tolist()} - {*at_border.tolist()}
    assert not table.isna().any().any()
    areas = np.bincount(one.labels.ravel())[table["label"]] * 0.25
    np.testing.assert_allclose(np.exp(table["area"]), areas, rtol=0.1)
    assert (table["contrast"] > 0.3).all()


def test_other_noise_is_further_away_than_the_other_half(tmp_path: Path) -> None:
    real = cell_features([image(0), image(1)])
    similar, unlike = cell_features([image(2)]), cell_features([image(2, grain=120.0)])
    halves, near = kernel_distances(real, similar)
    assert halves.cells == near.cells and 16 <= near.cells <= 20
    assert abs(near.mean) < 4 * (halves.sd + near.sd)
    assert kernel_distances(real, unlike)[1].mean > 10 * max(near.mean, halves.sd)
    few = kernel_distances(real, similar.iloc[:2])[1]
    assert few.cells == 2 and np.isnan(few.mean)
    save_panels(tmp_path / "panels.png", {"real": real, "synthetic": unlike}, "micrometer")
    assert (tmp_path / "panels.png").stat().st_size > 5000


def test_at_most_some_cells_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism, "_MOST", 3)
    assert len(cell_features([image(0)])) == 3


def test_cells_of_single_annotated_slices_are_compared_with_sections_like_theirs() -> None:
    """The largest section of a ball is 1.8 times as large as its sections are in the (geometric) mean."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((25, 29, 29)) - np.array([12, 14, 14]).reshape(3, 1, 1, 1)
    cell = (np.sqrt(z**2 + y**2 + x**2) < 11).astype(int)
    whole, sparse = [], []
    for number in range(40):
        image = 100 + 50 * cell + rng.normal(0, 5, cell.shape)
        kept = cell * (np.arange(25) == rng.integers(3, 22)).reshape(-1, 1, 1)
        for images, labels in ((whole, cell), (sparse, kept)):
            images.append(Annotated(f"{number}", image, labels, (1.0, 1.0, 1.0)))
    areas = [cell_features(images)["area"].mean() for images in (whole, sparse)]
    assert areas[0] == pytest.approx(areas[1], abs=0.25)
    assert areas[0] < np.log(np.pi * 11**2) - 0.3
