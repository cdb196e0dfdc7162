"""Populations: cells where there is room, labels to the last voxel, light and background."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from support.balls import BRIGHT, LEVEL, ball, balls

from napari_dispr.errors import InputError
from napari_dispr.settings import checked_settings
from napari_dispr.synthesis.background import Background, measure_background
from napari_dispr.synthesis.glow import GLOW_DEPTHS
from napari_dispr.synthesis.populations import Placed, iter_make_population, make_population
from napari_dispr.synthesis.settings import Microscope, PopulationSettings
from napari_dispr.synthesis.simulated_sources import simulated_source

FLAT = PopulationSettings(size=(90, 100), cells=20, clustering=0.2)
DEEP = PopulationSettings(size=(24, 64, 64), cells=10, clustering=0.5, cut="all")


@pytest.mark.parametrize(("ndim", "settings"), [(2, FLAT), (3, DEEP)])
def test_each_placed_voxel_belongs_to_its_cell(ndim: int, settings: PopulationSettings) -> None:
    source = balls(ndim)
    population = make_population(source, settings)
    assert population.labels.shape == population.image.shape == settings.size
    assert population.notes == () and len(population.cells) == settings.cells
    for cell in population.cells:
        where = np.argwhere(population.labels == cell.label)
        assert len(where) == cell.voxels
        np.testing.assert_allclose(where.mean(axis=0) * source.spacing, cell.centre, rtol=1e-4)
        voxels = int(ball(float(cell.source.split()[1]), ndim).mask.sum())
        assert cell.volume == pytest.approx(voxels * np.prod(source.spacing), rel=1e-5)
        assert cell.whole == (cell.voxels == voxels) and cell.voxels <= voxels
    assert not all(cell.whole for cell in population.cells)  # the border cuts some
    assert sum(cell.voxels for cell in population.cells) == np.count_nonzero(population.labels)


def test_the_light_of_a_cell_ends_where_its_label_ends() -> None:
    population = make_population(balls(2), FLAT)
    inside = population.labels > 0
    assert (population.image[inside] >= BRIGHT).all()  # light of neighbours is added
    assert np.median(population.image[inside]) == BRIGHT
    far = ~binary_dilation(inside, iterations=4)
    assert (population.image[far] == LEVEL).all()


@pytest.mark.parametrize("clustering", [0.0, 0.5, 1.0])
def test_clustering_is_the_share_of_cells_next_to_earlier_ones(clustering: float) -> None:
    settings = PopulationSettings(size=(600, 600), cells=60, clustering=clustering)
    population = make_population(balls(2), settings)
    marked = [cell.clustered for cell in population.cells]
    assert abs(np.mean(marked[1:]) - clustering) < 0.2
    near = []
    for cell in population.cells[1:]:
        around = binary_dilation(population.labels == cell.label, np.ones((3, 3)), iterations=3)
        near.append(bool(((population.labels[around] > 0) & (population.labels[around] < cell.label)).any()))
        assert near[-1] or not cell.clustered
    assert np.mean(near) <= clustering + 0.25


@pytest.mark.parametrize("cut", ["none", "sides", "all"])
def test_the_border_cuts_cells_where_it_may(cut: str) -> None:
    settings = PopulationSettings(size=(20, 48, 48), cells=16, clustering=0, cut=cut)
    population = make_population(balls(3), settings)
    labels = population.labels
    at_sides = set(np.unique([labels[:, (0, -1)], labels[:, :, (0, -1)].swapaxes(1, 2)]).tolist())
    cut_at_sides = [cell for cell in population.cells if not cell.whole and cell.label in at_sides]
    cut_above = [cell for cell in population.cells if not cell.whole and cell.label not in at_sides]
    assert bool(cut_at_sides) == (cut != "none") and bool(cut_above) == (cut == "all")


def test_a_full_image_says_that_not_all_cells_fit() -> None:
    population = make_population(balls(2), PopulationSettings(size=(40, 40), cells=500))
    count = len(population.cells)
    assert population.notes[0].startswith(f"Only {count} of 500 cells fit")
    assert population.labels.max() == count


def test_density_is_reached_or_missed_in_words() -> None:
    settings = PopulationSettings(size=(200, 200), density=0.2)
    population = make_population(balls(2), settings)
    assert (population.labels > 0).mean() == pytest.approx(0.2, abs=0.02)
    full = make_population(balls(2), settings.model_copy(update={"size": (60, 60), "density": 0.8}))
    assert "not 80%" in full.notes[0]


def test_a_large_image_is_searched_coarsely_and_cells_still_do_not_overlap() -> None:
    settings = PopulationSettings(size=(1300, 1301), cells=8, clustering=0.3)
    population = make_population(balls(2), settings)
    assert sum(cell.voxels for cell in population.cells) == np.count_nonzero(population.labels)


def test_an_image_depends_on_seed_and_number_alone() -> None:
    one, same, other, next_one = (
        make_population(balls(2, noise=True), FLAT, seed, number)
        for seed, number in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert np.array_equal(one.image, same.image) and one.cells == same.cells
    assert not np.array_equal(one.labels, other.labels)
    assert not np.array_equal(one.labels, next_one.labels)


def test_events_count_cells() -> None:
    events = list(iter_make_population(balls(2), FLAT))
    assert events == [Placed(i, 20) for i in range(1, 21)]


def test_a_microscope_blurs_sharp_cells_and_is_refused_for_blurred_ones() -> None:
    microscope = Microscope(blur=(0.5, 0.5), photons=1.0, read_noise=0)
    settings = FLAT.model_copy(update={"microscope": microscope})
    image = make_population(balls(2), settings).image
    assert len(np.unique(image)) > 50  # edges and shot noise between two grey values
    with pytest.raises(InputError, match="are blurred already"):
        make_population(
            balls(2, blurred="The textures were learned from images that are blurred already."), settings
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FLAT, "balls makes 3D cells: give the size as z,y,x"),
        (PopulationSettings(size=(4, 64, 64), cut="none"), "No cell of balls fits"),
    ],
)
def test_bad_input_is_named(settings: PopulationSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_population(balls(3), settings)


@pytest.mark.parametrize(("spacing", "word"), [((100.0,) * 2, "finer"), ((1e-3,) * 3, "coarser")])
def test_a_spacing_that_does_not_suit_the_cells_is_named(spacing: tuple[float, ...], word: str) -> None:
    with pytest.raises(InputError, match=f"The cells of nuclei have about .* give a {word} spacing"):
        make_population(simulated_source("nuclei", spacing), DEEP if len(spacing) == 3 else FLAT)


@pytest.mark.parametrize("size", [(4, 4), (16, 99_999, 64), (9,), (1024, 4096, 4096)])
def test_sizes_that_cannot_be_made_are_named(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"size cannot be .*: (give y,x or z,y,x|.* make smaller images)"):
        checked_settings(PopulationSettings, {"size": size})


@pytest.mark.parametrize("shape", [(300, 300), (12, 160, 160)])
def test_the_background_is_painted_as_it_was_measured(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    skewed = tuple(np.sort(rng.gamma(2, 6, 33) - 12))
    before = Background(level=200, unevenness=8, length=24, quantiles=skewed, grain=(0.5, 0.9, 0.9))
    slow, noise = before.paint(shape, (1.0,) * len(shape), rng)
    labels = np.zeros(shape, np.uint16)
    labels[..., 40:60, 40:60], labels[..., 90:100, 90:100] = 1, 2
    image = slow + noise + 2000 * (labels > 0)
    after = measure_background([(image, labels)])
    assert measure_background([(image, labels * np.int64(2_000_000))]) == after  # whatever the labels are
    assert after.level == pytest.approx(200, abs=6)
    again = after.paint(shape, (1.0,) * len(shape), rng)[1]
    assert again.std() == pytest.approx(noise.std(), rel=0.15)
    assert np.quantile(again, (0.01, 0.99)) == pytest.approx(np.quantile(noise, (0.01, 0.99)), abs=4)
    assert after.grain[1] == pytest.approx(0.9, abs=0.15) and after.grain[2] == pytest.approx(0.9, abs=0.15)
    assert 3 < after.unevenness < 14 and 14 < after.length < 40


def test_light_of_cells_above_and_below_is_background_that_is_bright_in_few_places() -> None:
    rng = np.random.default_rng(1)
    y, x = np.indices((200, 200))
    image = rng.normal(100, 5, (200, 200))
    for place in rng.uniform(0, 200, (6, 2)):  # blurred cells without a label
        image += 60 * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 2 / 9**2)
    labels = np.zeros((200, 200), int)
    labels[90:115, 90:115] = 1
    found = measure_background([(image + 200 * labels, labels)])
    slow, noise = found.paint((200, 200), (1.0, 1.0), rng)
    real = image[labels == 0]
    assert slow.mean() == pytest.approx(real.mean(), abs=5)
    assert np.quantile(slow, 0.99) - np.median(slow) == pytest.approx(
        np.quantile(real, 0.99) - np.median(real), rel=0.35
    )
    assert np.median(slow) - slow.min() < 0.4 * (slow.max() - np.median(slow))  # skewed, as the light is
    assert noise.std() == pytest.approx(5, rel=0.2)


def test_noise_is_stronger_where_the_background_is_bright() -> None:
    rng = np.random.default_rng(2)
    light = np.tile(100 + 80 * np.sin(np.arange(240) / 12) ** 8, (240, 1))
    labels = np.zeros(light.shape, int)
    labels[100:120, 100:120] = 1
    found = measure_background([(rng.normal(light, np.where(light > 140, 15, 3)) + 900 * labels, labels)])
    slow, noise = found.paint((240, 240), (1.0, 1.0), rng)
    dark, bright = (slow < np.median(slow)), slow > np.quantile(slow, 0.95)
    assert noise[bright].std() > 2.5 * noise[dark].std()


def test_no_grey_value_is_below_that_of_a_dark_camera() -> None:
    """The lowest percentile of an image becomes 0 in many programs: it decides how bright all else is."""
    rng = np.random.default_rng(3)
    labels = np.zeros((6, 120, 120), int)
    labels[:, 40:80, 40:80] = 1
    real = np.maximum(100 + rng.normal(3, 5, labels.shape), 100) + 80 * labels
    found = measure_background([(real, labels)])
    assert found.floor == 100
    source = replace(balls(3), background=found)
    made = make_population(source, PopulationSettings(size=(12, 64, 64), cells=8)).image
    assert made.min() == 100 and np.mean(made == 100) > 0.1


def test_a_background_that_cannot_be_seen_is_named() -> None:
    with pytest.raises(InputError, match="background cannot be measured"):
        measure_background([(np.ones((40, 40)), np.ones((40, 40), int))])


def test_light_above_and_below_a_cell_fades_with_the_distance() -> None:
    """A segmenter must learn that such light is no cell: it has no label, and noise as where light is."""
    shares = (0.4, 0.3, 0.2, 0.1, 0.05, 0.0)
    source = replace(balls(3), glow=shares)
    settings = PopulationSettings(size=(40, 32, 32), cells=1, cut="none")
    made, without = (make_population(one, settings) for one in (source, balls(3)))
    (cell,) = made.cells
    np.testing.assert_array_equal(made.labels, without.labels)
    filled = np.flatnonzero(made.labels.any(axis=(1, 2)))
    middle, half = filled.mean(), len(filled) / 2
    _, y, x = (round(c / step) for c, step in zip(cell.centre, made.spacing, strict=True))
    column = (made.image[:, y, x] - LEVEL) / (BRIGHT - LEVEL)
    depths = np.abs(np.arange(40) - middle) / half
    outside = depths > 1 + 3 / half  # beyond the margin, where the image of the cell ends
    expected = np.interp(depths, GLOW_DEPTHS, shares, right=0)
    assert outside.sum() > 10
    np.testing.assert_allclose(column[outside], expected[outside], atol=0.05)
    assert (without.image[:, y, x][outside] == LEVEL).all()


def test_low_stacks_show_the_light_of_cells_outside() -> None:
    settings = PopulationSettings(size=(6, 64, 64), cells=8, cut="all")
    bright = []
    for glow in ((), (0.4, 0.3, 0.2, 0.1, 0.05, 0.0)):
        made = make_population(replace(balls(3), glow=glow), settings)
        bright.append((made.image[~binary_dilation(made.labels > 0, iterations=4)] > LEVEL + 20).mean())
    assert bright[0] == 0 and bright[1] > 0.03


def test_the_background_without_glow_is_its_dark_half_mirrored() -> None:
    rng = np.random.default_rng(3)
    light = np.zeros((4, 120, 120))
    light[:, 20:50, 20:60] = 80  # a cell above
    image = 100 + light + rng.normal(0, 3, light.shape)
    labels = np.zeros(light.shape, int)
    labels[:, 90:105, 90:105] = 1
    found = measure_background([(image, labels)])
    dark = found.without_glow(900)
    assert found.level > 106 and dark.level == pytest.approx(100, abs=2)
    slow, noise = dark.paint((4, 60, 60), (1.0, 1.0, 1.0), rng)
    inverse = measure_background([(200 - image, labels)]).without_glow(-900)
    assert inverse.level == pytest.approx(200 - dark.level, abs=0.1)
    assert np.ptp(slow) < 15 and noise.std() == pytest.approx(3, rel=0.2)
    assert Background(level=5).without_glow(9) == Background(level=5)
