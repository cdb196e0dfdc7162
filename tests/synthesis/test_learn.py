"""Learning: examples from annotated images, a run that goes on exactly, and cells from what was learned."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from imageio.v3 import imread
from scipy.ndimage import zoom
from support.balls import balls
from support.learning import few_are_made  # noqa: F401

import napari_dispr as nd
from napari_dispr.errors import InputError
from napari_dispr.events import Step
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.annotated_cells import check_annotated
from napari_dispr.synthesis.cell_ends import inner_half, light_ends
from napari_dispr.synthesis.cells_made import iter_textured_cells
from napari_dispr.synthesis.examples import examples_of
from napari_dispr.synthesis.learn import folder_of, iter_learn_synthesis
from napari_dispr.synthesis.learned import LearnedSynthesis
from napari_dispr.synthesis.learned_card import LIGHT_RANKS
from napari_dispr.synthesis.populations import make_population
from napari_dispr.synthesis.settings import CellSettings, PopulationSettings
from napari_dispr.synthesis.sources import SAMPLE, learned_file
from napari_dispr.synthesis.stacks import simulate_stack

SPACING = (1.0, 0.5, 0.5)
QUICK = CellSettings(way="harmonics", texture_steps=1, device="cpu")


@pytest.fixture(scope="module")
def stack():
    return simulate_stack(14, (26, 120, 130), SPACING, seed=2)


@pytest.fixture(scope="module")
def field(stack):
    return Annotated("nuclei", stack.image, stack.labels, SPACING, "micrometer")


def sparse(field, *slices):
    labels = np.zeros_like(field.labels)
    labels[list(slices)] = field.labels[list(slices)]
    return Annotated("sparse", field.image, labels, SPACING, "micrometer")


# --- examples ----------------------------------------------------------------------------------------


def test_masks_have_the_size_of_the_cells(field) -> None:
    examples = examples_of([field])
    assert len({mask.cell for mask in examples.masks}) >= 10
    areas = [(mask.distance > 0).sum() * examples.mask_pixel**2 for mask in examples.masks]
    assert np.sqrt(np.median(areas) * 4 / np.pi) == pytest.approx(np.median(examples.diameters), rel=0.1)
    assert not any((mask.distance[edge] > 0).any() for mask in examples.masks for edge in (0, -1))
    assert np.median(examples.heights) == pytest.approx(1, abs=0.3)
    lit = [field.image[field.labels == label].mean() for label in np.unique(field.labels)[1:]]
    assert examples.light[0] == pytest.approx(np.mean(lit), rel=0.1)
    assert examples.beyond


def test_pictures_show_one_cell_each(field) -> None:
    examples = examples_of([field])
    level = examples.background.level
    empty = 0
    for picture in examples.pictures:
        assert picture.image.shape == picture.mask.shape == picture.known.shape
        assert picture.image.shape[0] % 16 == 0
        assert picture.known[picture.mask].all()
        assert len(picture.neighbours) <= (2 if picture.depth is None else 1)
        empty += not picture.mask.any()
        if picture.mask.sum() > 100:
            assert picture.image[picture.mask].mean() > level + 30
            assert picture.image[~picture.known].mean() < level + 15 if (~picture.known).any() else True
    assert empty > 0  # slices above and below cells
    followed = [picture for picture in examples.pictures if picture.neighbours and (picture.depth or 0) > 0.7]
    darker = [
        picture.image[picture.mask].mean() < picture.neighbours[0][picture.mask].mean()
        for picture in followed
        if picture.mask.any()
    ]
    assert len(darker) > 10 and np.mean(darker) > 0.9  # the neighbour is that nearer to the middle
    one = examples_of([Annotated("flat", field.image[12], field.labels[12], SPACING[1:], "micrometer")])
    assert {(picture.depth, len(picture.neighbours)) for picture in one.pictures} == {(None, 0)}


def test_two_annotated_slices_are_enough_and_caps_are_no_small_cells(field) -> None:
    examples = examples_of([sparse(field, 8, 16)])
    assert not examples.beyond
    assert len(examples.masks) < len(examples.pictures) + 1
    widths = [(mask.distance > 0).sum() for mask in examples.masks]
    assert min(widths) > 0.2 * max(widths)


def test_small_cells_of_one_image_are_no_caps_beside_large_ones_of_another(field) -> None:
    """Embryos of different ages: the cells of one are half as wide as those of another."""
    reduced = [zoom(array, 0.45, order=0) for array in (field.image, field.labels)]
    small = sparse(Annotated("small", *reduced, SPACING, "micrometer"), 4, 8)
    large = sparse(field, 8, 16)
    alone = [len(examples_of([one]).diameters) for one in (large, small)]
    assert min(alone) >= 5 and len(examples_of([large, small]).diameters) == sum(alone)


@pytest.mark.parametrize("slices", [(8, 16), (6, 20), (4, 12), (8, 12, 16)])
def test_cells_of_sparse_slices_are_as_large_as_those_of_all_slices(field, slices) -> None:
    """A slice cuts a cell anywhere: its light in the other slices says where, and how high it is."""
    full, few = examples_of([field]), examples_of([sparse(field, *slices)])
    sections = [np.bincount(field.labels[z].ravel())[1:] for z in slices]
    areas = np.concatenate([areas[areas > 0] for areas in sections]) * SPACING[1] ** 2
    assert 0.1 < full.glow[0] < 0.8 and full.glow[-1] < 0.1
    np.testing.assert_allclose(few.glow, full.glow, atol=0.16)
    assert np.quantile(few.lights, (0.25, 0.5, 0.75)) == pytest.approx(
        np.quantile(full.lights, (0.25, 0.5, 0.75)), rel=0.15
    )
    assert np.median(few.diameters) == pytest.approx(np.median(full.diameters), rel=0.06)
    assert np.median(few.heights) == pytest.approx(np.median(full.heights), rel=0.11)
    assert 2 * np.sqrt(np.median(areas) / np.pi) < 0.9 * np.median(full.diameters)  # as they are: too small
    whole = {cell.label: cell for cell in check_annotated([field])[1] if cell.whole}
    seen = [one for one in check_annotated([sparse(field, *slices)])[1] if one.label in whole and one.ends]
    depths = [
        (one.depth_at(part.z), whole[one.label].depth_at(part.z)) for one in seen for part in one.sections
    ]
    assert len(depths) >= 5 and np.ptp(depths) > 0.5
    assert np.median(np.abs(np.diff(depths))) < 0.1
    made = [2 * np.sqrt((mask.distance > 0).sum() / np.pi) * few.mask_pixel for mask in few.masks]
    assert np.median(made) == pytest.approx(np.median(few.diameters), rel=0.03)


def test_a_cell_as_bright_as_its_edge_does_not_end_where_it_is_seen() -> None:
    labels = np.zeros((6, 12, 12), np.uint8)
    labels[[1, 3], 3:9, 3:9] = 1
    image = np.ones(labels.shape, np.float32)
    image[labels > 0] = 3.0
    image[2:5, 3:9, 3:9] = 2.0
    image[[0, 5]] = 0.0
    annotated = labels.any(axis=(1, 2))
    found = light_ends(Annotated("flat", image, labels, SPACING), annotated, 1, 1, np.s_[3:9, 3:9], (1, 3))
    assert found == pytest.approx((2 / 3, 4.0))


def test_dark_cells_and_cells_without_light(field) -> None:
    """Cells may be darker than their surroundings. Of those not seen, sections are as deep as the median."""
    few = sparse(field, 8, 16)
    seen = examples_of([few])
    dark = examples_of([Annotated("dark", 255.0 - few.image, few.labels, SPACING, "micrometer")])
    assert np.allclose(dark.diameters, seen.diameters) and np.allclose(dark.heights, seen.heights)
    assert len(seen.glow) and np.allclose(dark.glow, seen.glow, atol=0.03)
    assert len(seen.lights) and np.allclose(-dark.lights, seen.lights, rtol=0.1)
    noise = np.random.default_rng(0).normal(100, 1, few.image.shape)
    grain = 10 * (-1) ** np.indices(noise.shape).sum(axis=0)  # as bright as around the cells
    grainy = noise + np.where(field.labels, grain, 0)
    unseen = examples_of([Annotated("grainy", grainy, few.labels, SPACING, "micrometer")])
    assert not len(unseen.heights) and not len(unseen.glow)
    assert {picture.depth for picture in unseen.pictures} == {None}
    assert np.median(unseen.diameters) == pytest.approx(np.median(seen.diameters), rel=0.1)


def test_slices_may_be_numbered_one_by_one(field) -> None:
    few = sparse(field, 8, 16)
    labels = np.zeros_like(few.labels)
    for z in (8, 16):
        labels[z] = np.unique(few.labels[z], return_inverse=True)[1].reshape(labels[z].shape)
    own = examples_of([Annotated("own", few.image, labels, SPACING, "micrometer")])
    assert np.allclose(np.sort(own.diameters), np.sort(examples_of([few]).diameters))


def test_clustering_is_that_of_the_images() -> None:
    """Cells placed with a probability are measured with about this probability."""
    for wanted in (0.0, 0.6):
        settings = PopulationSettings(size=(400, 400), cells=40, clustering=wanted, cut="none")
        made = [make_population(balls(2, noise=True), settings, 0, number) for number in range(2)]
        images = [Annotated("balls", one.image, one.labels, (1.0, 1.0)) for one in made]
        assert examples_of(images).clustering == pytest.approx(wanted, abs=0.15)


def test_an_exposure_that_cannot_be_seen_changes_nothing(field) -> None:
    rng = np.random.default_rng(0)
    noise = Annotated("noise", rng.normal(100, 5, field.image.shape), field.labels, SPACING, "micrometer")
    pictures = examples_of([field, noise]).pictures
    last = pictures[-1].image[pictures[-1].known]
    assert last.std() == pytest.approx(5, rel=0.2)


@pytest.mark.parametrize("gain", [0.5, 200])
def test_exposures_are_brought_together(field, gain) -> None:
    """Also images that were saved with 8 and with 16 bits."""
    other = (field.image.astype(np.uint32) * gain + 7).astype(np.uint32)
    other = Annotated("other", other, field.labels, SPACING, "micrometer")
    examples = examples_of([field, other])
    assert np.iinfo(examples.dtype).max >= other.image.max()
    shown = [picture for picture in examples.pictures if picture.mask.any()]
    bright = [float(picture.image[picture.mask].mean()) for picture in shown]
    half = len(bright) // 2
    assert bright[:half] == pytest.approx(bright[half:], rel=0.02)


def test_which_slices_are_annotated_does_not_change_the_exposure(field) -> None:
    """Two exposures of a stack: one is annotated where its cells are dim."""
    fading = field.image * np.linspace(1, 0.4, len(field.image), dtype=np.float32)[:, None, None]
    bright = sparse(Annotated("a", fading, field.labels, SPACING, "micrometer"), 6, 10)
    dim = sparse(Annotated("b", 0.5 * fading + 7, field.labels, SPACING, "micrometer"), 16, 20)
    assert examples_of([bright, dim]).limits == pytest.approx(examples_of([bright]).limits, rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: Annotated("a", f.image, np.zeros_like(f.labels), SPACING), "labels of a are empty"),
        (lambda f: Annotated("a", f.image[1:], f.labels, SPACING), "has the shape .* and its labels"),
        (lambda f: Annotated("a", f.image, np.where(f.labels == 3, 3, 0), SPACING), "hold only 1 cell "),
        (lambda f: Annotated("a", f.image[0, 0], f.labels[0, 0], SPACING), "1 axes"),
        (lambda f: Annotated("a", f.image, f.labels, (0.5, 0.5)), "has 2 numbers: give z,y,x"),
        (lambda f: Annotated("a", f.image * 0, f.labels, SPACING), "same value everywhere"),
        (lambda f: Annotated("a", wrapped(f), f.labels, SPACING), "image of a does not show its cells"),
        (lambda f: Annotated("a", f.image, f.labels[::-1, ::-1], SPACING), "does not show its cells"),
    ],
)
def test_wrong_input_is_named(field, change, message) -> None:
    with pytest.raises(InputError, match=message):
        examples_of([change(field)])


def test_images_of_different_microscopes_are_refused(field) -> None:
    other = Annotated("b", field.image, field.labels, (1.0, 0.2, 0.2), "micrometer")
    with pytest.raises(InputError, match="different spacings"):
        examples_of([field, other])


def wrapped(field):
    """Grey values of which only the last 8 bits were kept."""
    return np.rint(20 * field.image).astype(np.int64).astype(np.uint8)


def test_one_image_of_several_that_does_not_show_its_cells_is_named(field, few, tmp_path) -> None:
    other = Annotated("broken", wrapped(field), few.labels, SPACING, "micrometer")
    assert not examples_of([few]).warnings
    images, labels = [few.image, other.image.astype(np.float32)], [few.labels, other.labels]
    out = tmp_path / "a.safetensors"
    events = iter_learn_synthesis(images, labels, out, spacing=SPACING, steps=1, batch=2, device="cpu")
    (warning,) = next(events).warnings
    assert "does not show its cells" in warning and warning.endswith("or leave it out.")
    assert warning in json.loads((folder_of(out) / "log.jsonl").read_text("utf-8"))["warnings"]


def test_several_images_that_do_not_show_their_cells_are_one_sentence(field, few) -> None:
    others = [replace(few, name=name, image=wrapped(field)) for name in ("one", "two")]
    (warning,) = examples_of([few, few, few, *others]).warnings
    assert warning.startswith("The images of one and two do not show their cells")


# --- the run -----------------------------------------------------------------------------------------


def run(few, out, **options):
    return iter_learn_synthesis(
        few.image, few.labels, out, spacing=SPACING, unit="micrometer", batch=2, device="cpu", **options
    )


@pytest.fixture(scope="module")
def few(field):
    """Three annotated slices."""
    return sparse(field, 8, 12, 16)


@pytest.fixture(scope="module")
def learned(few, tmp_path_factory):
    out = tmp_path_factory.mktemp("learned") / "nuclei.safetensors"
    events = []
    nd.learn_synthesis(
        few.image,
        few.labels,
        out,
        spacing=SPACING,
        unit="micrometer",
        batch=2,
        steps=4,
        device="cpu",
        progress=events.append,
    )
    assert [event.done for event in events if hasattr(event, "done")] == [250, 500, 750, 1000]
    preview = imread(folder_of(out) / "preview.png")
    assert all((row[:, -8] == 0).any() for row in np.array_split(preview, 4)[:2])  # as wide as the page
    assert len((folder_of(out) / "log.jsonl").read_text("utf-8").splitlines()) >= 2
    return LearnedSynthesis.load(out)


def test_a_stopped_run_goes_on_exactly(few, learned, tmp_path) -> None:
    out, own = tmp_path / "nuclei.safetensors", torch.get_rng_state()
    events = run(few, out, steps=4)
    for event in events:
        if getattr(event, "step", 0) == 2:
            break
    with pytest.raises(InputError, match="Another process"):
        next(run(few, out, steps=4))
    events.close()
    assert not out.exists()
    with pytest.raises(InputError, match="another steps"):
        next(run(few, out, steps=5))
    for event in run(few, out, steps=4):
        assert getattr(event, "step", 3) >= 3
    assert LearnedSynthesis.load(out).hash == learned.hash
    assert torch.equal(torch.get_rng_state(), own), "the random numbers of the caller go on"
    with pytest.raises(InputError, match="already exists"):
        next(run(few, out, steps=4))


def test_a_loss_that_is_no_number_ends_the_run(few, tmp_path) -> None:
    out = tmp_path / "nuclei.safetensors"
    with pytest.raises(InputError, match="The loss is no longer finite"):
        list(run(few, out, steps=60, learning_rate=1e30, adam_learning_rate=1e30))
    assert not out.exists()


def test_learning_starts_from_the_sample_or_from_nothing(few, tmp_path) -> None:
    losses = []
    for number, start in enumerate((SAMPLE, "none")):
        out = tmp_path / f"{number}.safetensors"
        events = list(run(few, out, steps=1, start=start))
        losses.append(next(event for event in events if hasattr(event, "texture_loss")))
        assert LearnedSynthesis.load(out).card.training["settings"]["start"] == start
    assert losses[0].texture_loss < 0.6 * losses[1].texture_loss
    assert losses[0].mask_loss < 0.2 * losses[1].mask_loss
    with pytest.raises(InputError, match="There is no file"):
        next(run(few, tmp_path / "a.safetensors", steps=1, start="missing.safetensors"))


def test_images_without_their_labels_are_refused(few, tmp_path) -> None:
    out = tmp_path / "nuclei.safetensors"
    with pytest.raises(InputError, match="different kinds"):
        next(iter_learn_synthesis(few.image, None, out))
    with pytest.raises(InputError, match="The number of images is 2, that of labels 1"):
        next(iter_learn_synthesis([few.image] * 2, [few.labels], out))


def test_a_run_can_be_finished_early(few, tmp_path) -> None:
    out = tmp_path / "nuclei.safetensors"
    with pytest.raises(InputError, match="no saved run"):
        next(run(few, out, steps=4, finish=True))
    events = run(few, out, steps=4)
    next(events)
    events.close()
    assert list(run(few, out, steps=4, finish=True)) == []
    assert LearnedSynthesis.load(out).card.training["steps"] == 1


def test_a_folder_of_something_else_is_left_alone(few, tmp_path) -> None:
    (tmp_path / "mine.learning").mkdir()
    (tmp_path / "mine.learning" / "diary.txt").write_text("private", encoding="utf-8")
    with pytest.raises(InputError, match="something else"):
        next(run(few, tmp_path / "mine.safetensors", steps=4))


def test_a_run_that_was_killed_before_its_first_save_begins_again(few, tmp_path) -> None:
    (tmp_path / "mine.learning").mkdir()
    log = tmp_path / "mine.learning" / "log.jsonl"
    log.write_text('{"kind": "begin", "st', encoding="utf-8")
    log.with_name(".12ab34cd.checkpoint.pt").write_bytes(b"half")
    assert next(run(few, tmp_path / "mine.safetensors", steps=4)).step == 1
    assert json.loads(log.read_text("utf-8").splitlines()[1])["kind"] == "begin"


def test_another_file_is_no_learned_model(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="There is no file"):
        LearnedSynthesis.load(path)
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match="no learned model"):
        LearnedSynthesis.load(path)


# --- cells -------------------------------------------------------------------------------------------


def cells_of(learned, spacing, count=6):
    events = iter_textured_cells(learned, 7, spacing, count, QUICK)
    return list(islice((event for event in events if not isinstance(event, Step)), count))


@pytest.fixture(scope="module")
def sample():
    """The learned model in the package."""
    return LearnedSynthesis.load(learned_file(SAMPLE))


@pytest.mark.parametrize("spacing", [(0.29, 0.26, 0.26), (1.5, 0.4, 0.6), (0.5, 0.5)])
def test_cells_have_the_size_of_the_real_ones(sample, spacing) -> None:
    # Sizes differ, most where slices cut cells anywhere: the median of few cells says little.
    cells = cells_of(sample, spacing, 32 if len(spacing) == 2 else 16)
    for cell in cells:
        assert cell.mask.shape == cell.image.shape
        assert cell.mask.dtype == bool and cell.image.dtype == np.float32
        assert cell.mask.any() and np.isfinite(cell.image).all()
        assert not cell.mask[..., 0].any() and not cell.mask[..., -1, :].any()
    measure = [cell.mask.sum() * np.prod(spacing) for cell in cells]
    middle = sample.card.diameters[2]
    height = sample.card.heights[2]
    # Slices cut cells anywhere: the median of 1 - depth^2 is 3/4.
    usual = 3 / 4 * np.pi / 4 * middle**2 if len(spacing) == 2 else np.pi / 6 * middle**3 * height
    if spacing == (0.29, 0.26, 0.26):
        areas = [cell.mask.sum(axis=(1, 2)).max() * 0.26**2 for cell in cells]
        high = [0.29 * cell.mask.any(axis=(1, 2)).sum() for cell in cells]
        ratios = np.array(high) / np.sqrt(np.array(areas) * 4 / np.pi)
        assert np.median(ratios) == pytest.approx(height, rel=0.1)
    assert np.median(measure) == pytest.approx(usual, rel=0.4)
    if len(spacing) == 2:  # the light of a small section near an end is as wide as the cell
        areas, windows = (
            [array(cell) for cell in cells] for array in (lambda c: c.mask.sum(), lambda c: c.mask.size)
        )
        assert min(areas) < max(areas) / 4 and min(windows) > max(windows) / 2.5
    few, again = (cells_of(sample, spacing, 3) for _ in range(2))
    for one, other in zip(few, again, strict=True):
        assert one.source == other.source
        assert np.array_equal(one.mask, other.mask) and np.array_equal(one.image, other.image)


@pytest.mark.parametrize("spacing", [(0.29, 0.26, 0.26), (0.26, 0.26)])
def test_light_of_cells_is_spread_like_that_of_the_real_ones(sample, spacing) -> None:
    card = sample.card
    assert card.light is not None
    level = card.background.without_glow(card.light[0]).level
    wanted = tuple(5000.0 + 8000 * rank for rank in LIGHT_RANKS)
    own = card.model_copy(
        update={"lights": wanted, "dimensions": len(spacing), "spacing": card.spacing[-len(spacing) :]}
    )
    cells = cells_of(LearnedSynthesis(sample.masks, sample.textures, own), spacing, 12)
    lights = []
    for cell in cells:
        shown = cell.mask.any(axis=(-2, -1)).nonzero()[0] if cell.mask.ndim == 3 else None
        middle = ... if shown is None else (shown[0] + shown[-1]) // 2
        lights.append(cell.image[middle][inner_half(cell.mask[middle])].mean() - level)
    assert min(lights) > 5000 and max(lights) < 13000 and np.std(lights) > 1500


def test_cells_of_few_voxels_are_an_input_error(sample) -> None:
    with pytest.raises(InputError, match="finer spacing"):
        cells_of(sample, (90.0, 90.0))
