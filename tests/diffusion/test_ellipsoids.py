"""Ellipsoids with the sections of a cell of a coarse stack."""

import numpy as np
import pytest

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.ellipsoids import Ellipsoids
from napari_dispr.models.library import load_model
from napari_dispr.models.method import Members, Task
from napari_dispr.models.sampling import as_method
from napari_dispr.planes import WIDEST, KnownPlane
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.scores import iou
from napari_dispr.signed_distance import crossings
from napari_dispr.stereology import Sizes

Z, Y, X = np.indices(grid.SHAPE) - np.array([grid.IMAGED_PLANE, 31.5, 31.5])[:, None, None, None]
TRUNCATION = 8.0


def disc(radius: float, stretched: float = 1.0) -> np.ndarray:
    """A mask; none for a radius of 0."""
    return np.clip(radius + 0.5 - np.hypot(Y[0], X[0] / stretched), 0, 1).astype(np.float32) * (radius > 0)


def planes_of(radii: dict[float, float]) -> tuple[np.ndarray, list[KnownPlane]]:
    """The imaged plane and the others, from radii by depth."""
    return disc(radii[0]), [KnownPlane(depth, disc(radius)) for depth, radius in radii.items() if depth]


def ellipsoids(radii: dict[float, float]) -> Ellipsoids | None:
    return Ellipsoids.of(*planes_of(radii), TRUNCATION)


@pytest.mark.parametrize(
    ("radii", "coarse"),
    [
        ({0: 15}, False),
        ({0: 15, 20: 0}, False),
        ({0: 15, 20: 0, -20: 0}, True),
        ({0: 15, 8: 12}, False),
        ({0: 15, WIDEST: 12}, False),
        ({0: 15, 18: 12}, True),
        ({0: 15, 18: 12, 36: 0, -18: 0}, True),
        ({0: 15, 18: 12, 9: 0}, False),
        ({0: 15, 18: 12, -18: 8}, False),
        ({0: 0, 18: 0, -18: 0}, False),
    ],
)
def test_cells_of_coarse_stacks_have_one_or_two_sections(radii, coarse):
    assert (ellipsoids(radii) is not None) == coarse


@pytest.mark.parametrize(
    "radii", [{0: 14, 24: 0, -24: 0}, {0: 15, 18: 12}, {0: 15, -20: 8, 20: 0}, {0: 15, 18: 15, 20: 0, -2: 0}]
)
def test_they_have_the_sections_and_end_before_empty_planes(radii):
    drawn = [ellipsoids(radii).shape(seed) for seed in range(10)]
    assert len({one.tobytes() for one in drawn}) > 7
    for one in drawn:
        assert one.shape == grid.SHAPE and one.dtype == np.float32 and np.abs(one).max() <= 1
        for depth, radius in radii.items():
            section = grid.section(one, depth) > 0
            assert iou(section, disc(radius) > 0.5) > 0.97 if radius else not section.any()
        areas = np.count_nonzero(one > 0, axis=(1, 2))
        rise = np.diff(areas) * np.where(np.arange(63) < areas.argmax(), 1, -1)
        assert rise.min() >= -0.02 * areas.max(), "there is no waist"


def test_long_sections_stay_long():
    mask = disc(10, stretched=1.6)
    start = Ellipsoids.of(mask, [KnownPlane(depth, disc(0)) for depth in (-22.0, 22.0)], TRUNCATION)
    for one in (start.shape(seed) for seed in range(5)):
        assert iou(one[grid.IMAGED_PLANE] > 0, mask > 0.5) > 0.97


def test_steps_of_pixels_are_no_grooves_along_the_cell():
    """The section of a picture with large pixels has steps, which the shape keeps only there."""
    pixel = 2.0
    y, x = ((np.round((axis - grid.CENTRE) / pixel) * pixel) for axis in np.ogrid[:64, :64])
    mask = (np.hypot(y, x) < 20).astype(np.float32)
    start = Ellipsoids.of(mask, [KnownPlane(depth, disc(0)) for depth in (-28.0, 28.0)], TRUNCATION)

    def unevenness(section: np.ndarray) -> float:
        places = crossings(section.astype(np.float32), 0.0)
        down, across = (places - places.mean(axis=0)).T
        return float(np.std(np.diff(np.hypot(down, across)[np.argsort(np.arctan2(down, across))])))

    own = unevenness(mask - 0.5)
    for one in (start.shape(seed) for seed in range(5)):
        assert iou(one[grid.IMAGED_PLANE] > 0, mask > 0.5) > 0.99
        assert unevenness(one[grid.IMAGED_PLANE]) > 0.5 * own
        near = max(one[grid.IMAGED_PLANE + 5], one[grid.IMAGED_PLANE - 5], key=np.sum)  # some end before
        assert unevenness(near) < 0.25 * own


def cut_at_random(rng: np.random.Generator) -> tuple[dict[float, float], float]:
    """Radii by depth of an ellipsoid in a stack with planes 14 voxels apart, and its volume."""
    radius, tall = np.exp(rng.uniform(np.log(4), np.log(28))), np.exp(0.4 * rng.standard_normal())
    centre = rng.uniform(-7, 7)

    def section(depth: float) -> float:
        return float(np.sqrt(max(radius**2 - ((depth - centre) / tall) ** 2, 0)))

    found = {14.0 * k: section(14.0 * k) for k in range(-3, 4)}
    first = min((depth for depth, one in found.items() if one), default=0.0)
    moved = {depth - first: one for depth, one in found.items() if abs(depth - first) <= 28}
    return moved, 4 / 3 * np.pi * radius**3 * tall


@pytest.mark.parametrize("sections", [1, 2])
def test_volumes_are_unbiased_for_cells_that_planes_hit_at_random(sections):
    """In a stack, tall cells are hit more often, and one section is rarely the largest."""
    rng, ranks = np.random.default_rng(0), []
    while len(ranks) < 60:
        radii, volume = cut_at_random(rng)
        inside = [one for one in radii.values() if one]
        if len(inside) != sections or min(inside) < 6 or max(inside) > 16:
            continue
        start = ellipsoids(radii)
        seeds = int(rng.integers(2**40)) + np.arange(5)
        drawn = [np.count_nonzero(start.shape(seed) > 0) for seed in seeds.tolist()]
        ranks.append(np.mean(np.array(drawn) < volume))
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("tall", [0.7, 1.0, 1.4])
def test_members_have_the_sizes_of_the_other_cells_of_the_stack(tall):
    """Unless what is known of the cell says otherwise: no member reaches an empty plane."""
    sizes = Sizes(np.log(14), 0.05, np.log(tall), 0.1)
    start = Ellipsoids.of(*planes_of({0: 13, 30: 0, -30: 0}), TRUNCATION, sizes)
    drawn = [np.count_nonzero(start.shape(seed) > 0) for seed in range(10**6, 10**6 + 10)]
    assert np.mean(drawn) == pytest.approx(4 / 3 * np.pi * 14**3 * tall, rel=0.12)
    assert np.std(drawn) < 0.2 * np.mean(drawn)
    start = Ellipsoids.of(*planes_of({0: 13, 9: 0, -9: 0}), TRUNCATION, sizes)
    assert not (start.shape(3)[[grid.IMAGED_PLANE - 9, grid.IMAGED_PLANE + 9]] > 0).any()


@pytest.mark.parametrize("radii", [{0: 13}, {0: 13, 20: 0}])
def test_a_section_at_the_end_of_a_stack_is_enough_if_sizes_are_known(radii):
    """Members go on beyond it on either side, unless there is an empty plane."""
    sizes = Sizes(np.log(15), 0.05, 0.0, 0.1)
    start = Ellipsoids.of(*planes_of(radii), TRUNCATION, sizes)
    depths = [grid.depths_inside(start.shape(seed) > 0) for seed in range(20)]
    assert min(depth[0] for depth in depths) < -18 and max(depth[-1] for depth in depths) > 15
    assert (max(depth[-1] for depth in depths) < 20) == (20 in radii)


def test_members_of_a_coarse_stack_start_from_them_whatever_else_is_drawn():
    """In a model whose cells are about ellipsoids."""
    cells = [{0: 14, 24: 0, -24: 0}, {0: 15}, {0: 15, 18: 12}]
    crops = []
    for label, radii in enumerate(cells, start=1):
        mask, planes = planes_of(radii)
        crops.append(Crop(label, mask, None, 1.0, np.eye(4), planes=tuple(planes)))
    model, other = load_model("generic"), load_model("red-blood-cell")
    assert [isinstance(model.start(crop), Ellipsoids) for crop in crops] == [True, False, True]
    assert not any(isinstance(other.start(crop), Ellipsoids) for crop in crops)
    method = as_method(model, PredictSettings(quality="fast", device="cpu"))
    tasks = [Task(crop, [5 * crop.label, 5 * crop.label + 1]) for crop in crops]
    together = [event for event in method.draw(tasks) if isinstance(event, Members)]
    for task, radii, drawn in zip(tasks, cells, together, strict=True):
        (alone,) = (event for event in method.draw([task]) if isinstance(event, Members))
        np.testing.assert_array_equal(alone.signed_distance, drawn.signed_distance)
        for shape in drawn.signed_distance:
            for depth, radius in radii.items():
                section = grid.section(shape, depth) > 0
                assert iou(section, disc(radius) > 0.5) > 0.97 if radius else not section.any()
