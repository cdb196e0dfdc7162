"""The request of Predict: the displayed plane, the chosen cells, each wrong input in one sentence."""

from dataclasses import replace
from pathlib import Path

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_dispr.errors import InputError
from napari_dispr.events import result_of
from napari_dispr.labels import cell_boxes
from napari_dispr.settings import PredictSettings
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.samples import simulated_red_blood_cells
from napari_dispr.viewer.world import position_in_layer
from napari_dispr.widgets.parts.threads import Cancelled, Progress
from napari_dispr.widgets.predict.fixes import ALIGN, SPLIT
from napari_dispr.widgets.predict.request import CellChoice, PredictRequest, inspect, make_request
from napari_dispr.widgets.predict.running import REFRESH, Results, run, summary

(IMAGE, _, _), (LABELS, _, _) = simulated_red_blood_cells()
QUICK = PredictSettings(members=2, quality="fast", device="cpu")


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def requested(
    viewer: ViewerModel,
    image: object = IMAGE,
    labels: object = LABELS,
    *,
    choice: CellChoice = CellChoice.CLICKED,
    cells: tuple[int, ...] = (1,),
    settings: PredictSettings = QUICK,
    **frame: object,
) -> PredictRequest:
    """The request of one picture and its labels."""
    picture = None if image is None else viewer.add_image(image, **frame)
    segmentation = None if labels is None else viewer.add_labels(labels, **frame)
    return make_request(picture, segmentation, viewer.dims, choice, cells, settings)


def with_cell(rows: slice, columns: slice) -> np.ndarray:
    labels = np.zeros_like(LABELS)
    labels[rows, columns] = 1
    return labels


def spoiled(value: float) -> np.ndarray:
    image = IMAGE.astype(np.float32)
    image[LABELS == 1] = value
    return image


WRONG_AT_A_GLANCE = {
    "no picture": ({"image": None}, "no picture"),
    "no labels": ({"labels": None}, "no label layer"),
    "shapes differ": ({"labels": LABELS[:-5]}, "440 x 440 pixels .* 435 x 440 pixels"),
    "RGB": ({"image": np.stack([IMAGE] * 3, -1).astype(np.uint8)}, "RGB"),
    "no cell clicked": ({"cells": ()}, "No cell is chosen"),
}
WRONG_PIXELS = {
    "empty labels": ({"labels": np.zeros_like(LABELS)}, "labels are empty"),
    "NaN": ({"image": spoiled(np.nan)}, "NaN"),
    "infinite": ({"image": spoiled(np.inf)}, "infinite"),
    "constant image": ({"image": np.full(LABELS.shape, 7)}, "same value everywhere"),
    "negative labels": ({"labels": -LABELS.astype(int)}, "negative"),
    "no such cell": ({"cells": (99,)}, "no cell 99"),
    "cut by the border": ({"labels": with_cell(slice(0, 40), slice(50, 90))}, "cut by the border"),
    "all cut by the border": (
        {"labels": with_cell(slice(0, 40), slice(50, 90)), "choice": CellChoice.ALL},
        "All cells are cut by the border",
    ),
    "larger than the grid": ({"settings": QUICK.model_copy(update={"scale": 1.0})}, "64 voxels of the grid"),
    "no pixel size": ({"settings": QUICK.model_copy(update={"scale": "physical"})}, "physical"),
    "no such model": ({"settings": QUICK.model_copy(update={"model": "white-blood-cell"})}, "no model"),
}


def one_sentence(error: pytest.ExceptionInfo[InputError]) -> None:
    text = str(error.value)
    assert text[0].isupper() or text[0] in '"/', "a sentence, or the name of what is wrong"
    assert text.endswith(".") and "\n" not in text
    assert "Traceback" not in text and "Error" not in text


@pytest.mark.parametrize(("inputs", "words"), WRONG_AT_A_GLANCE.values(), ids=WRONG_AT_A_GLANCE)
def test_wrong_at_a_glance(viewer: ViewerModel, inputs: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        requested(viewer, **inputs)
    one_sentence(error)


@pytest.mark.parametrize(("inputs", "words"), WRONG_PIXELS.values(), ids=WRONG_PIXELS)
def test_wrong_pixels(viewer: ViewerModel, inputs: dict, words: str) -> None:
    request = requested(viewer, **inputs)
    with pytest.raises(InputError, match=words) as error:
        inspect(request)
    one_sentence(error)


def test_a_model_file_that_is_none(viewer: ViewerModel, tmp_path: Path) -> None:
    file = tmp_path / "picture.safetensors"
    file.write_bytes(b"GIF89a" * 100)
    with pytest.raises(InputError, match="not a shape model") as error:
        inspect(requested(viewer, settings=QUICK.model_copy(update={"model": str(file)})))
    one_sentence(error)


def test_selected_label(viewer: ViewerModel) -> None:
    image, labels = viewer.add_image(IMAGE), viewer.add_labels(LABELS)
    labels.selected_label = 4
    request = make_request(image, labels, viewer.dims, CellChoice.SELECTED, (1, 2), QUICK)
    assert request.cells == (4,)
    labels.selected_label = 0
    with pytest.raises(InputError, match="background"):
        make_request(image, labels, viewer.dims, CellChoice.SELECTED, (), QUICK)


def test_all_cells_leave_out_those_cut_by_the_border(viewer: ViewerModel) -> None:
    labels = LABELS.copy()
    labels[:20, 5:30] = 77
    inspection = inspect(requested(viewer, labels=labels, choice=CellChoice.ALL))
    assert inspection.skipped == {"cut by the border": 1}
    assert inspection.text.endswith("Left out: 1 cut by the border.")
    assert [crop.label for crop in inspection.crops] == list(range(1, 10))


def test_a_doubtful_mask_is_named_before_and_after_predicting(viewer: ViewerModel) -> None:
    request = requested(viewer, labels=with_cell(slice(100, 103), slice(100, 130)))
    assert "Cell 1: the mask is at most 3 pixels wide" in inspect(request).text
    _, results = finished(request)
    assert any("at most 3 pixels wide" in text for text in results.warnings)
    assert "pixels wide" not in summary(results, finished=True, said=inspect(request).text)


def test_physical_scale_takes_the_size_of_a_pixel_from_the_layer(viewer: ViewerModel) -> None:
    request = requested(viewer, scale=(100, 100), units=("nm", "nm"))
    assert request.image.pixel_size("micrometer") == pytest.approx(0.1)
    plain = requested(ViewerModel())
    assert plain.image.pixel_size("micrometer") is None


def test_labels_apart_from_the_picture_have_a_note(viewer: ViewerModel) -> None:
    image, labels = viewer.add_image(IMAGE, scale=(0.1, 0.1)), viewer.add_labels(LABELS)
    request = make_request(image, labels, viewer.dims, CellChoice.CLICKED, (1,), QUICK)
    assert inspect(request).apart
    labels.scale = (0.1, 0.1)
    request = make_request(image, labels, viewer.dims, CellChoice.CLICKED, (1,), QUICK)
    assert not inspect(request, cell_boxes(LABELS)).apart


def test_layers_of_lower_resolution_are_announced(viewer: ViewerModel) -> None:
    few, many = (
        inspect(
            requested(viewer, choice=CellChoice.ALL, settings=QUICK.model_copy(update={"members": members}))
        )
        for members in (2, 100)
    )
    assert few.step == 1 and "resolution" not in few.text
    assert many.step == 2 and "Layers will have half resolution" in many.text


def test_a_mask_of_many_cells_is_split_in_each_plane(viewer: ViewerModel) -> None:
    mask = (LABELS > 0).astype(np.uint8)
    inspection = inspect(requested(viewer, labels=mask, choice=CellChoice.ALL))
    assert inspection.binary and "mask with one value" in inspection.text
    layer = viewer.add_labels(np.stack([mask, np.zeros_like(mask)]), scale=(3, 1, 1))
    data, settings, _ = SPLIT.fixed(viewer.layers[0], layer)
    assert data.shape == layer.data.shape and list(np.unique(data[0])) == list(range(7))
    assert not data[1].any() and tuple(settings["scale"]) == (3, 1, 1)


def test_labels_of_a_time_series_are_aligned_with_its_channels(viewer: ViewerModel) -> None:
    moving = np.stack([np.roll(LABELS, 5 * time, axis=0) for time in range(3)])
    image = viewer.add_image(np.stack([[IMAGE, IMAGE]] * 3), scale=(10, 1, 0.5, 0.5), translate=(0, 4, 0, 0))
    labels = viewer.add_labels(moving, scale=(10, 0.5, 0.5))
    with pytest.raises(InputError, match="align them"):
        make_request(image, labels, viewer.dims, CellChoice.ALL, (), QUICK)
    data, settings, _ = ALIGN.fixed(image, labels)
    aligned = viewer.add_labels(data, **settings)
    for time, channel in ((0, 0), (2, 1), (1, 0)):
        viewer.dims.set_point((0, 1), (10 * time, 4 + channel))
        request = make_request(image, aligned, viewer.dims, CellChoice.ALL, (), QUICK)
        np.testing.assert_array_equal(request.labels.array, moving[time])
        assert request.image.index == (time, channel)
        assert np.allclose(request.image.to_world, request.labels.to_world)
    assert np.shares_memory(aligned.data, moving), "painting it paints the user's labels"
    flat = viewer.add_labels(LABELS, scale=(0.5, 0.5))
    make_request(image, flat, viewer.dims, CellChoice.ALL, (), QUICK)


# --- the displayed plane -----------------------------------------------------------------------------


def test_time_and_channel_of_the_sliders(viewer: ViewerModel) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 2, 20, 30))
    image = viewer.add_image(stack, scale=(10, 1, 0.5, 0.5), translate=(100, 0, 0, 0))
    viewer.dims.set_point((0, 1), (120, 1))
    plane = displayed_plane(image, viewer.dims)
    assert plane.index == (2, 1)
    np.testing.assert_array_equal(plane.array, stack[2, 1])
    viewer.dims.ndisplay = 3
    np.testing.assert_array_equal(displayed_plane(image, viewer.dims).array, stack[2, 1])


def test_labels_of_one_plane_go_with_a_stack(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.stack([IMAGE, IMAGE[::-1]]))
    labels = viewer.add_labels(LABELS)
    viewer.dims.set_point(0, 1)
    request = make_request(image, labels, viewer.dims, CellChoice.CLICKED, (1,), QUICK)
    np.testing.assert_array_equal(request.image.array, IMAGE[::-1])
    np.testing.assert_array_equal(request.labels.array, LABELS)


def test_a_position_that_a_layer_has_not(viewer: ViewerModel) -> None:
    short = viewer.add_image(np.zeros((2, 20, 30)))
    viewer.add_image(np.zeros((9, 20, 30)))
    viewer.dims.set_point(0, 7)
    with pytest.raises(InputError, match="no plane at the position of the sliders"):
        displayed_plane(short, viewer.dims)


def test_finest_level_of_a_multiscale_layer(viewer: ViewerModel) -> None:
    image = viewer.add_image([IMAGE, IMAGE[::2, ::2]], multiscale=True)
    np.testing.assert_array_equal(displayed_plane(image, viewer.dims).array, IMAGE)


def test_lazy_arrays_are_read_by_the_inspection_alone(viewer: ViewerModel) -> None:
    read = []

    def block(block_info: dict) -> np.ndarray:
        read.append(block_info)
        return IMAGE[None]

    lazy = dask.array.map_blocks(block, chunks=((1,) * 3, (440,), (440,)), dtype=IMAGE.dtype, meta=IMAGE[:0])
    image, labels = (
        viewer.add_image(lazy, contrast_limits=(0, 1000), visible=False),
        viewer.add_labels(LABELS),
    )
    viewer.dims.set_point(0, 2)
    read.clear()
    request = make_request(image, labels, viewer.dims, CellChoice.CLICKED, (1,), QUICK)
    assert not read
    assert [crop.label for crop in inspect(request).crops] == [1]
    assert len(read) == 1


def test_axes_that_are_turned(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((5, 20, 30)))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(InputError, match="other axes"):
        displayed_plane(image, viewer.dims)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_a_stack_turned_out_of_its_plane(viewer: ViewerModel) -> None:
    turn = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])  # about z
    image = viewer.add_image(np.zeros((5, 20, 30)), rotate=turn[::-1, ::-1])
    with pytest.raises(InputError, match="turned out of its plane"):
        displayed_plane(image, viewer.dims)
    image.rotate = turn
    assert displayed_plane(image, viewer.dims).shape == (20, 30)


@pytest.mark.parametrize(
    ("frame", "apart"),
    [
        ({"scale": (100, 1e-4), "units": ("nm", "mm")}, False),
        ({"scale": (100, 100), "units": ("nm", "nm"), "translate": (0, 300)}, True),
        ({"scale": (0.1, 0.1)}, False),  # in pixels
    ],
    ids=["other units", "elsewhere", "no unit"],
)
def test_labels_in_other_units_than_the_picture(viewer: ViewerModel, frame: dict, apart: bool) -> None:
    image = viewer.add_image(IMAGE, scale=(0.1, 0.1), units=("um", "um"))
    labels = viewer.add_labels(LABELS, **frame)
    inspection = inspect(make_request(image, labels, viewer.dims, CellChoice.ALL, (), QUICK))
    assert inspection.apart is apart and ("lie elsewhere" in inspection.text) is apart
    image.units = ("um", "pixel")
    with pytest.raises(InputError, match="same unit"):
        displayed_plane(image, viewer.dims)


@pytest.mark.parametrize("flat", ["picture", "segmentation"])
def test_a_plane_of_one_stack_is_named_and_holds_the_shapes(viewer: ViewerModel, flat: str) -> None:
    stack = {"scale": (2, 0.1, 0.1), "translate": (5, 0, 0)}
    frames = {name: {"scale": (0.1, 0.1)} if name == flat else stack for name in ("picture", "segmentation")}
    arrays = {"picture": IMAGE, "segmentation": LABELS}
    arrays |= {name: np.stack([0 * array, array]) for name, array in arrays.items() if name != flat}
    image = viewer.add_image(arrays["picture"], name="picture", **frames["picture"])
    labels = viewer.add_labels(arrays["segmentation"], name="segmentation", **frames["segmentation"])
    viewer.dims.set_point(0, 7)
    request = make_request(image, labels, viewer.dims, CellChoice.ALL, (), QUICK)
    other = "segmentation" if flat == "picture" else "picture"
    words = f'"{flat}" is 2D: of "{other}" only the plane on screen is used (slider at 1)'
    assert words in inspect(request).text and request.origin.depth == 7


def test_positions_count_in_the_units_of_the_viewer(viewer: ViewerModel) -> None:
    fine = viewer.add_image(np.zeros((20, 30)), scale=(100, 100), units=("nm", "nm"))
    viewer.add_image(np.zeros((20, 30)), scale=(0.1, 0.1), units=("um", "um"))
    nanometer = str(viewer.layers.units[0]) == "nanometer"
    world = (1000, 2000) if nanometer else (1, 2)
    np.testing.assert_allclose(position_in_layer(fine, world, viewer.dims), (10, 20))


# --- one run -----------------------------------------------------------------------------------------


def finished(request: PredictRequest) -> tuple[list, Results]:
    events: list = []
    results = result_of(run(request), events.append)
    return events, results


def test_a_run_shows_its_progress_and_returns_all_cells(viewer: ViewerModel) -> None:
    events, last = finished(requested(viewer, cells=(3, 1)))
    progress = [event for event in events if isinstance(event, Progress)]
    assert [step.done for step in progress] == list(range(1, len(progress) + 1))
    assert progress[-1].done == progress[-1].total
    assert progress[0].text.startswith("cell 3 (1 of 2)")
    assert set(last.prediction) == {1, 3} and last.chosen == 2
    assert list(last.measures.columns[:2]) == ["label", "member"]
    assert len(last.measures) == 4
    assert len(last.content.volumes) == 2
    assert summary(last, finished=True, said="").startswith("2 cells predicted.")
    assert list(last.cells["label"]) == [3, 1] and {"volume_mean", "ambiguity", "warning"} <= {*last.cells}


def test_layers_of_half_the_resolution_are_mentioned(
    viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_dispr.shapes.placement.LARGEST_VOLUMES", 200_000)
    _, last = finished(requested(viewer, cells=(1,)))
    assert "Layers shown at half resolution" in last.warnings[-1]
    assert sum(volume.nbytes for volume in last.content.volumes) <= 200_000


def test_layers_are_updated_at_most_once_in_a_while(viewer: ViewerModel) -> None:
    now = [0.0]
    events = list(run(requested(viewer, cells=(1, 2, 3)), clock=lambda: now[0]))
    assert sum(isinstance(event, Results) for event in events) == 1, "of the first cell"
    for event in run(requested(viewer, cells=(1, 2, 3)), clock=lambda: now[0]):
        now[0] += REFRESH
        events.append(event)
    assert sum(isinstance(event, Results) for event in events) == 4


def test_a_cancelled_run_ends_within_a_step_and_keeps_finished_cells(viewer: ViewerModel) -> None:
    settings = QUICK.model_copy(update={"members": 5, "steps": 3})
    generator = run(requested(viewer, cells=(1, 2, 3), settings=settings))
    events = []
    while sum(isinstance(event, Progress) for event in events) < 4:  # the first cell takes three
        events.append(next(generator))
    last = next((event for event in events if isinstance(event, Results)), None)
    with pytest.raises(Cancelled):
        event = generator.throw(Cancelled())
        last = event
        next(generator)
    assert set(last.prediction) == {1}
    assert summary(last, finished=False, said="").startswith("1 of 3 cells finished.")


def test_cancelled_before_the_first_cell(viewer: ViewerModel) -> None:
    generator = run(requested(viewer))
    next(generator)
    with pytest.raises(Cancelled):
        generator.throw(Cancelled())


def test_a_wrong_input_ends_the_run_in_words(viewer: ViewerModel) -> None:
    with pytest.raises(InputError, match="no cell 99"):
        next(run(requested(viewer, cells=(99,))))


def test_the_run_takes_the_crops_of_the_inspection(viewer: ViewerModel) -> None:
    request = requested(viewer, cells=(2,))
    own = finished(request)[1].prediction[2].signed_distance
    inspection = inspect(request)
    broken = replace(request, labels=replace(request.labels, array=np.zeros((2, 2), int)))
    predicted = result_of(run(broken, inspection)).prediction
    np.testing.assert_array_equal(predicted[2].signed_distance, own)


def test_painting_during_a_run_changes_nothing(viewer: ViewerModel) -> None:
    request = requested(viewer, image=IMAGE.copy(), labels=LABELS.copy(), cells=(1, 2))
    _, untouched = finished(request)
    generator = run(request)
    next(generator)
    request.image.array[:] = 0
    request.labels.array[:] = 1
    painted = result_of(generator)
    for cell in (1, 2):
        np.testing.assert_array_equal(
            untouched.prediction[cell].signed_distance, painted.prediction[cell].signed_distance
        )
