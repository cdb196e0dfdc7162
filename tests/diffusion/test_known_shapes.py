"""Known shapes: kept as cosines, found by their section, turned to the cell, and used as a start."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from napari_dispr import grid, signed_distance
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.cosines import coefficients_of, mirrored, volume_of
from napari_dispr.diffusion.known_shapes import START, KnownShapes, long_axis, look_of
from napari_dispr.diffusion.starts import Sections, Start, from_noise, off_centre
from napari_dispr.models.library import load_model
from napari_dispr.models.method import Members, Task
from napari_dispr.models.sampling import as_method
from napari_dispr.planes import KnownPlane
from napari_dispr.settings import PredictSettings

Z, Y, X = (np.indices(grid.SHAPE) - np.reshape(grid.MIDDLE, (3, 1, 1, 1))).astype(np.float32)


def pear(angle: float, tall: float = 9.0, long: float = 20.0) -> np.ndarray:
    """Signed distance / 8 of a body that is thicker at one end of its long axis, which lies at ``angle``."""
    along, across = np.cos(angle) * X + np.sin(angle) * Y, np.cos(angle) * Y - np.sin(angle) * X
    wide = 9 + 0.15 * along
    level = 0.5 + 8 * (1 - np.sqrt((along / long) ** 2 + (across / wide) ** 2 + (Z / tall) ** 2))
    return np.clip(signed_distance.from_level(level) / 8, -1, 1)


def section(shape: np.ndarray, depth: float = 0.0) -> np.ndarray:
    return np.clip(8 * grid.section(shape, depth) + 0.5, 0, 1).astype(np.float32)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    one, other = first > 0, second > 0
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.fixture(scope="module")
def known() -> KnownShapes:
    """Long and short, tall and flat bodies."""
    shapes, looks, groups = [], [], []
    for number in range(24):
        angle = number * 0.7
        shape = pear(angle, tall=6 + number % 4 * 3, long=16 + number // 4 * 2)
        look = look_of(section(shape), section(shape) * (0.3 + 0.02 * number * (X[0] + 40) / 80))
        shapes.append(coefficients_of(shape, look.angle))
        looks.append(look)
        groups.append(number)
    return KnownShapes.of(np.stack(shapes), looks, np.ones(24), groups)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.3, -1.1])
def test_long_axis_is_found(angle: float):
    assert np.sin(long_axis(section(pear(angle))) - angle) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("angle", [0.0, 0.6, -1.2])
def test_a_shape_comes_back_where_it_was(angle: float):
    shape = pear(angle)
    axis = long_axis(section(shape))
    assert iou(volume_of(coefficients_of(shape, axis), axis), shape) > 0.95


def test_a_look_does_not_depend_on_the_direction_of_the_cell():
    one, other = look_of(section(pear(0.3)), None), look_of(section(pear(1.2)), None)
    apart = min(np.abs(mirrored(other.mask, way) - one.mask).max() for way in range(4))
    assert apart < 0.05 * np.abs(one.mask).max()


def test_mirrors_are_those_of_the_picture():
    shape = pear(0.5)
    for way, axes in ((1, [2]), (2, [1]), (3, [1, 2])):
        assert iou(volume_of(mirrored(coefficients_of(shape, 0.0), way), 0.0), np.flip(shape, axes)) > 0.95


def start_of(known: KnownShapes, mask: np.ndarray, image: np.ndarray | None = None, planes=()) -> Start:
    start = Start.of(known, mask, image, planes, sized=True, truncation=8.0)
    assert start is not None
    return start


def test_likely_shapes_have_the_section_of_the_cell(known: KnownShapes):
    start = start_of(known, section(pear(-0.9, tall=9, long=24)))
    likely = start.likely
    assert likely.probability.sum() == pytest.approx(1)
    # Cells 16 to 19 are this long.
    long = likely.numbers >= 12
    assert likely.probability[long].sum() > 4 * likely.probability[~long].sum()
    drawn = [start.shape(seed) for seed in range(6)]
    np.testing.assert_array_equal(start.shape(3), drawn[3])
    assert len({one.tobytes() for one in drawn}) > 1


def spiculed(turned: float, spicules: int = 12) -> np.ndarray:
    """Signed distance / 8 of a ball with a ring of bumps around the imaged plane."""
    around, up = np.arctan2(Y, X) - turned, np.arctan2(Z, np.hypot(X, Y))
    bumps = 3 * np.maximum(np.sin(spicules * around) * np.cos(2 * up), 0)
    return np.clip((16 + bumps - np.sqrt(X**2 + Y**2 + Z**2)) / 8, -1, 1)


@pytest.fixture(scope="module")
def bumpy_and_smooth() -> KnownShapes:
    """Of equal size: 12 shapes with spicules, then 12 without."""
    shapes = [spiculed(0.1 * n) if n < 12 else spiculed(0, 0) * (1 + 0.002 * n) - 0.05 for n in range(24)]
    looks = [look_of(section(shape), None) for shape in shapes]
    kept = [coefficients_of(shape, look.angle) for shape, look in zip(shapes, looks, strict=True)]
    return KnownShapes.of(np.stack(kept), looks, np.ones(24), range(24))


def test_cells_with_spicules_start_from_shapes_with_spicules_wherever_these_are(
    bumpy_and_smooth: KnownShapes,
):
    for cell, with_spicules in ((spiculed(0.05), True), (spiculed(0, 0) - 0.02, False)):
        likely = start_of(bumpy_and_smooth, section(cell)).likely
        share = likely.probability[likely.numbers < 12].sum()
        assert share > 0.9 if with_spicules else share < 0.1


def test_a_network_moves_the_surface_of_a_known_shape_and_keeps_its_details(bumpy_and_smooth: KnownShapes):
    start = start_of(bumpy_and_smooth, section(spiculed(0.3)))
    known = spiculed(0.3)
    np.testing.assert_allclose(start.adjusted(known + 0.2, known) - known, 0.2, atol=1e-4)
    fine = 0.4 * np.sin(2 * X)
    assert np.abs(start.adjusted(known + fine, known) - known).max() < 0.05, "no new details"


def test_known_shapes_of_earlier_versions_are_read(known: KnownShapes):
    """They also hold what the network made of noise, by which cells were compared then."""
    earlier = {"answers": np.zeros((24, 5), np.int8), "answer_unit": np.ones(5, np.float32)}
    again = KnownShapes.of_arrays({**known.arrays(), **earlier}).arrays()
    assert again.keys() == known.arrays().keys()
    for name, array in known.arrays().items():
        np.testing.assert_array_equal(again[name], array)


def test_five_consecutive_seeds_take_shapes_of_all_sizes(known: KnownShapes):
    """Their mean size varies far less than that of five random ones, and is the same on average."""
    start = start_of(known, section(pear(-0.9, tall=9, long=22)))
    sizes = np.array([np.count_nonzero(start.shape(seed) > 0) for seed in range(1000, 1200)])
    random = [
        np.count_nonzero(start.shape(int(seed)) > 0)
        for seed in np.random.default_rng(0).integers(2**62, size=200)
    ]
    error = np.std(random) / 5**0.5
    assert sizes.reshape(-1, 5).mean(axis=1).std() < 0.6 * error
    assert sizes.mean() == pytest.approx(np.mean(random), abs=error)


def test_the_first_five_members_represent_all_likely_shapes(known: KnownShapes):
    """Their mean is more like that of many than the mean of five random ones is."""
    start = start_of(known, section(pear(-0.9, tall=9, long=22)))
    rng = np.random.default_rng(0)
    many = np.stack([start.shape(int(seed)) > 0 for seed in rng.integers(2**62, size=200)])
    usual = many.mean(axis=0)
    random = [np.abs(rng.permutation(many)[:5].mean(axis=0) - usual).sum() for _ in range(40)]
    for first in (0, 50, 5000):
        chosen = np.stack([start.shape(first + number) > 0 for number in range(5)])
        assert np.abs(chosen.mean(axis=0) - usual).sum() < 0.8 * np.mean(random)


def test_differences_of_known_shapes_have_the_order_of_those_of_their_voxels(known: KnownShapes):
    places = np.arange(0, 24, 2)
    scores = (known.shapes[places] * known.shape_unit).astype(np.float32)
    volumes = [volume_of(known.coefficients(one), 0.0) for one in scores]
    expected = np.array([[1 - iou(first, second) for second in volumes] for first in volumes])
    found = known.unlike(scores)
    pairs = np.triu_indices(len(places), 1)
    assert spearmanr(found[pairs], expected[pairs]).statistic > 0.97
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-5)
    # The mean lies outside everywhere: shapes without a voxel.
    empty = replace(known, mean=np.where(np.arange(4096) == 0, np.float32(-512), np.float32(0)))
    assert np.isfinite(empty.unlike(np.zeros_like(scores[:2]))).all()


def test_of_several_planes_the_three_known_shapes_of_five_are_the_first_candidates(known: KnownShapes):
    shape = pear(-0.9, tall=9, long=22)
    start = start_of(known, section(shape), None, [KnownPlane(5.5, section(shape, 5.5))])
    seeds = [seed for seed in range(10) if not from_noise([KnownPlane(5.5, section(shape))], seed)]
    assert seeds == [0, 2, 4, 5, 7, 9]
    taken = [start.shape(seed).tobytes() for seed in seeds]
    # Members from noise take no candidate: a seed of theirs gives the shape of the next one.
    assert start.shape(1).tobytes() == taken[1] and start.shape(3).tobytes() == taken[2]


def test_starts_fit_the_section_of_a_cell_between_the_known_ones(known: KnownShapes):
    """None is 19 voxels long, and none has the section exactly; the shape stays as tall as a known one."""
    shape = pear(-0.9, tall=12, long=19)
    for image in (None, section(shape) * 0.5):
        start = start_of(known, section(shape), image)
        for one in (start.shape(seed) for seed in range(4)):
            assert iou(one[grid.IMAGED_PLANE], shape[grid.IMAGED_PLANE]) > 0.93
            assert 5 < np.count_nonzero(one.max(axis=(1, 2)) > 0) / 2 < 18


def test_a_regression_finds_how_tall_cells_are_from_their_picture():
    """Brighter cells are taller; the picture of the cell lies between those that are known."""
    talls = np.linspace(6, 15, 16)
    looks, shapes = [], []
    for tall in talls:
        shape = pear(0.0, tall)
        looks.append(look_of(section(shape), section(shape) * picture_of(tall)))
        shapes.append(coefficients_of(shape, looks[-1].angle))
    known = KnownShapes.of(np.stack(shapes), looks, np.ones(16), ["cell"] * 16)
    found = []
    for tall in (8.0, 13.0):
        start = start_of(known, section(pear(0.0, tall)), section(pear(0.0, tall)) * picture_of(tall))
        found.append(np.mean([np.count_nonzero(start.shape(seed) > 0) for seed in range(8)]))
    true = [np.count_nonzero(pear(0.0, tall) > 0) for tall in (8.0, 13.0)]
    assert found == pytest.approx(true, rel=0.12)


def picture_of(tall: float) -> np.ndarray:
    """A ramp that is steeper in tall cells, where it is scaled to [0, 1] at its ends."""
    return ((X[0] + 40) / 80) ** (tall / 8)


def test_further_sections_choose_the_shape_and_bend_it(known: KnownShapes):
    """Bodies with this section are 6 to 15 voxels tall; none is 7."""
    shape = pear(-0.9, tall=7, long=22)
    planes = [KnownPlane(depth, section(shape, depth)) for depth in (-4.0, 5.5, 9.0)]
    assert not planes[-1].mask.any()
    found = {}
    for count in (0, 1, 3):
        drawn = [start_of(known, section(shape), None, planes[:count]).shape(seed) for seed in range(5)]
        found[count] = np.mean([iou(one, shape) for one in drawn])
    assert found[0] < 0.75 < 0.83 < found[1] < found[3], found


def test_known_shapes_are_moved_if_the_imaged_plane_is_not_the_middle(known: KnownShapes):
    """The known cells were cut in their middle; this one 8 voxels above it."""
    shape = np.roll(pear(-0.9, tall=13, long=22), -8, axis=0)
    planes = [KnownPlane(depth, section(shape, depth)) for depth in (-16.0, 7.0)]
    assert not planes[-1].mask.any()
    start = start_of(known, section(shape), None, planes)
    assert start.shift == pytest.approx(-8, abs=2)
    drawn = [start.shape(seed) for seed in range(5)]
    assert min(iou(one, shape) for one in drawn) > 0.75, "in each the body is where it belongs"
    fitted = start.fitted(np.roll(pear(-0.9, tall=10, long=18), -8, axis=0))
    assert iou(fitted, shape) > 0.85 and not (fitted[-8:] > 0).any()
    assert off_centre(section(shape), planes[:0]) == 0, "one plane does not say where the middle is"
    above = [KnownPlane(4.0, section(pear(-0.9, tall=13, long=22), 4.0))]
    assert off_centre(section(pear(-0.9)), above) == 0, "it may still be the middle"


def test_a_drawn_shape_gets_the_sections_of_the_cell_also_between_them(known: KnownShapes):
    shape, drawn = pear(-0.9, tall=7, long=22), pear(-0.9, tall=10, long=18)
    planes = [KnownPlane(depth, section(shape, depth)) for depth in (-6.0, 5.5)]
    start = start_of(known, section(shape), None, planes)
    fitted = start.fitted(drawn)
    for depth in (-6.0, 5.5):  # 24 shapes have no body exactly like it
        before, after = (iou(grid.section(one, depth), grid.section(shape, depth)) for one in (drawn, fitted))
        assert before + 0.1 < after > 0.75
    assert iou(fitted, shape) > 0.85 > 0.7 > iou(drawn, shape)
    np.testing.assert_allclose(start.fitted(fitted), fitted, atol=0.15)


def test_further_sections_are_compared_with_those_of_the_shapes(known: KnownShapes):
    sections, number = Sections(known, [-5.0, 7.5]), 6
    shape = volume_of(known.coefficients(known.shapes[number] * known.shape_unit), 0.0)
    own = np.stack([grid.section(shape, depth) for depth in (-5.0, 7.5)])
    apart = sections.apart(np.flip(own, -1))  # mirrored along x, which is way 1
    assert apart.argmin() == 1 * len(known.shapes) + number and apart.min() < 0.01 * np.median(apart)


def test_a_mirrored_shape_has_the_same_components_with_other_signs(known: KnownShapes):
    score = known.shapes[3] * known.shape_unit
    for way in range(4):
        np.testing.assert_allclose(
            known.coefficients(known.signs[way] * score), mirrored(known.coefficients(score), way), atol=1e-4
        )


def test_nothing_is_likely_for_cells_unlike_all_known_ones(known: KnownShapes):
    ring = np.hypot(Y[0], X[0])
    strange = np.clip(4 - np.abs(ring - 22), 0, 1).astype(np.float32)
    assert known.likely(look_of(strange, None), sized=True) is None
    assert known.likely(look_of(section(pear(0.0)), None), sized=False) is None, "none has a hidden size"


def test_files_hold_them_whole_and_wrong_ones_are_refused(known: KnownShapes):
    arrays = known.arrays()
    again = KnownShapes.of_arrays(arrays)
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(array, arrays[name])
    for wrong in (
        {"shapes": arrays["shapes"][:, :-1]},
        {"masks": arrays["masks"].astype(np.float32)},
        {"mean": np.full_like(arrays["mean"], np.nan)},
        {"sized": arrays["sized"][:0]},
        {"start": np.zeros(1, np.float32)},
    ):
        with pytest.raises(ValueError, match="known shapes"):
            KnownShapes.of_arrays({**arrays, **wrong})


def test_versions_of_one_cell_are_enough():
    looks = [look_of(section(pear(angle)), None) for angle in (0.0, 0.5)]
    shapes = [coefficients_of(pear(angle), look.angle) for angle, look in zip((0.0, 0.5), looks, strict=True)]
    one = KnownShapes.of(np.stack(shapes), looks, [True, True], ["cell", "cell"])
    assert one.likely(looks[0], sized=True) is not None


def crop(label: int, mask: np.ndarray) -> Crop:
    return Crop(label=label, mask=mask, image=None, grid_to_pixel=np.eye(4), zoom=1.0, known_scale=1.0)


def test_members_start_from_known_shapes_whatever_else_is_drawn(known: KnownShapes, tmp_path):
    """Cells with and without known shapes, in any order and company, get the same members."""
    shipped = load_model("red-blood-cell")
    model = replace(shipped, known=known)
    model.save(tmp_path / "model.safetensors", torch.float16)
    model = type(model).load(tmp_path / "model.safetensors")
    assert model.known is not None and model.hash != replace(shipped, known=None).hash
    ring = np.clip(4 - np.abs(np.hypot(Y[0], X[0]) - 22), 0, 1).astype(np.float32)
    further = (KnownPlane(5.0, section(pear(1.0), 5.0)),)
    crops = [crop(1, section(pear(0.2))), crop(2, ring), *(crop(i, section(pear(1.0))) for i in (3, 4))]
    crops[2:] = [replace(one, planes=further) for one in crops[2:]]
    assert [model.start(one) is not None for one in crops] == [True, False, True, True]
    method = as_method(model, PredictSettings(steps=1, device="cpu"))
    tasks = [Task(one, [10 * one.label, 10 * one.label + 1]) for one in crops]
    assert [from_noise(further, seed) for seed in tasks[2].seeds] == [False, True], "both kinds of members"
    together = [event for event in method.draw(tasks) if isinstance(event, Members)]
    assert [drawn.crop.label for drawn in together] == [1, 2, 3, 4]
    for task, drawn in zip(tasks, together, strict=True):
        (alone,) = (event for event in method.draw([task]) if isinstance(event, Members))
        np.testing.assert_array_equal(alone.signed_distance, drawn.signed_distance)
    without = as_method(replace(model, known=None), PredictSettings(steps=1, device="cpu"))
    (other,) = (event for event in without.draw(tasks[:1]) if isinstance(event, Members))
    assert not np.array_equal(other.signed_distance, together[0].signed_distance)


def test_sampling_from_a_known_shape_visits_only_late_times():
    model = load_model("red-blood-cell")
    times = model.process.times(3, START)
    assert times[0] == pytest.approx(START) and times[-1] == 0
    assert model.process.times(4)[1:] == pytest.approx(model.process.times(3, model.process.times(4)[1]))
