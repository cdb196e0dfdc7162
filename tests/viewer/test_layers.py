"""Result layers stand where the cells are, in every frame that a picture can have, and say what they are."""

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from support.layers import add_layers_of, handle_of_cells, update
from support.predictions import CENTRES, FRAMES, RADIUS, balls, discs, table

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.viewer.content import METADATA_KEY, LayerStyle, compose
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import ResultLayers, handle_of, key_of, transform_of
from napari_dispr.viewer.picking import outline
from napari_dispr.viewer.scene import Outlines, StepsView, View3D, camera_of
from napari_dispr.viewer.world import layer_to_world
from napari_dispr.widgets.compare.denoising import FRAMES as STEPS
from napari_dispr.widgets.compare.denoising import denoising_layer


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def shown(viewer: ViewerModel, frame: dict, cells: tuple[int, ...] = (2, 5)) -> ResultLayers:
    """A picture and labels in a frame, with the result layers of their cells."""
    image = viewer.add_image(discs().astype(float), name="picture", **frame)
    labels = viewer.add_labels(discs(), name="cells", **frame)
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world, cells)
    return add_layers_of(viewer, labels, prediction, plane, table(cells))


def prediction_consensus(prediction: Prediction) -> np.ndarray:
    """The labels of the consensus: those of the kept shapes, if it is kept of every cell."""
    for label in prediction:
        prediction = prediction.keep(label, "consensus")
    return prediction.kept_volume()[0]


def values_at(layer: Labels, world: np.ndarray) -> np.ndarray:
    """Values of a layer at points (n, 3) of the world, 0 outside."""
    index = np.rint([layer.world_to_data(point) for point in world]).astype(int)
    inside = ((index >= 0) & (index < layer.data.shape)).all(axis=1)
    values = np.zeros(len(world), int)
    values[inside] = layer.data[tuple(index[inside].T)]
    return values


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_shapes_stand_where_the_cells_are(viewer: ViewerModel, frame: dict) -> None:
    result = shown(viewer, frame)
    image = viewer.layers["picture"]
    pixels = np.argwhere(np.ones(image.data.shape))[::7]
    world = np.array([(0.0, *image.data_to_world(pixel)) for pixel in pixels])
    section = values_at(result.layers[0], world)
    truth = discs()[tuple(pixels.T)]
    assert ((section == truth) | (np.minimum(section, truth) == 0)).all(), "no cell in the place of another"
    assert np.mean(section == truth) > 0.99


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_shapes_are_as_high_as_wide(viewer: ViewerModel, frame: dict) -> None:
    layer = shown(viewer, frame, cells=(2,)).layers[0]
    voxels = np.argwhere(layer.data == 2)
    world = np.array([layer.data_to_world(voxel) for voxel in voxels])
    height = np.ptp(world[:, 0])
    pixel = grid.in_plane_scale(displayed_plane(viewer.layers["picture"], viewer.dims).to_world)
    assert height == pytest.approx(2 * RADIUS * pixel, rel=0.06)
    assert abs(world[:, 0].mean()) < 0.05 * height, "the imaged plane lies at z = 0"


def test_layers_keep_the_values_and_colours_of_the_labels(viewer: ViewerModel) -> None:
    viewer.add_labels(np.zeros((4, 4), int), name="other")
    result = shown(viewer, {})
    labels = viewer.layers["cells"]
    for layer in result.layers:
        assert set(np.unique(layer.data)) == {0, 2, 5}
        for label in (2, 5):
            np.testing.assert_array_equal(layer.get_color(label), labels.get_color(label))
    labels.show_selected_label = True
    assert not result.layers[0].colormap.use_selection, "the colours are a copy"


def test_one_layer_a_member_and_the_first_visible(viewer: ViewerModel) -> None:
    result = shown(viewer, {})
    assert [layer.name for layer in result.layers] == ["cells: member 1", "cells: member 2"]
    assert [layer.visible for layer in result.layers] == [True, False]
    assert (result.layers[0].data > 0).sum() > (result.layers[1].data > 0).sum()


def test_features_are_dense_and_tell_of_their_member(viewer: ViewerModel) -> None:
    result = shown(viewer, {})
    image = viewer.layers["picture"]
    prediction = balls(discs(), displayed_plane(image, viewer.dims).to_world)
    truth = measure(prediction).set_index(["label", "member"])
    for member, layer in enumerate(result.layers):
        assert list(layer.features["index"]) == list(range(6))
        assert layer.features.loc[3].drop("index").isna().all()
        for label in (2, 5):
            assert layer.features["volume"][label] == pytest.approx(truth["volume"][label, member])
    status = result.layers[0].get_status((0.0, *CENTRES[5]), world=True)
    assert "volume" in status["coordinates"], "napari finds the row of the label under the mouse"


def test_large_labels_take_no_dense_table(viewer: ViewerModel) -> None:
    labels = discs().astype(np.int32)
    labels[labels == 5] = 2_000_000_000
    plane = displayed_plane(viewer.add_image(labels.astype(float)), viewer.dims)
    prediction = balls(labels, plane.to_world, cells=(2, 2_000_000_000))
    content = compose(prediction, measure(prediction), plane)
    assert list(content.features[0]["index"]) == [0, 2, 2_000_000_000]


def test_metadata_says_how_it_was_made(viewer: ViewerModel) -> None:
    result = shown(viewer, {})
    for member, layer in enumerate(result.layers):
        made = json.loads(json.dumps(layer.metadata[METADATA_KEY]))
        assert made["model"] == "balls"
        assert made["settings"] == {"seed": 3}
        assert made["member"] == member
        assert (made["image"], made["plane"]) == ("picture", [])
        assert made["columns"]["volume"].startswith("pixel^3")


def test_units_are_carried_over(viewer: ViewerModel) -> None:
    result = shown(viewer, FRAMES["scaled"])
    assert [str(unit) for unit in result.layers[0].units] == ["micrometer"] * 3
    np.testing.assert_allclose(result.layers[0].scale, 0.1)


def test_more_cells_go_into_the_same_layers(viewer: ViewerModel) -> None:
    result = shown(viewer, FRAMES["turned"], cells=(2,))
    layers = list(result.layers)
    plane = displayed_plane(viewer.layers["picture"], viewer.dims)
    prediction = balls(discs(), plane.to_world)
    update(result, compose(prediction, table(), plane))
    assert result.layers == layers
    assert set(np.unique(layers[0].data)) == {0, 2, 5}
    world = np.array([(0.0, *viewer.layers["picture"].data_to_world(centre)) for centre in CENTRES.values()])
    assert list(values_at(layers[0], world)) == [2, 5]
    assert layers[0].features["volume"].notna().sum() == 2


def test_a_layer_that_was_removed_stays_away(viewer: ViewerModel) -> None:
    result = shown(viewer, {}, cells=(2,))
    viewer.layers.remove(result.layers[1])
    plane = displayed_plane(viewer.layers["picture"], viewer.dims)
    prediction = balls(discs(), plane.to_world)
    update(result, compose(prediction, table(), plane))
    assert "cells: member 2" not in viewer.layers
    assert set(np.unique(result.layers[0].data)) == {0, 2, 5}


def test_a_new_run_hides_the_one_before(viewer: ViewerModel) -> None:
    first = shown(viewer, {})
    plane = displayed_plane(viewer.layers["picture"], viewer.dims)
    prediction = balls(discs(), plane.to_world)
    second = add_layers_of(viewer, viewer.layers["cells"], prediction, plane)
    assert not any(layer.visible for layer in first.layers)
    assert second.layers[0].visible


def test_a_run_on_the_same_cells_takes_the_place_of_the_one_before(viewer: ViewerModel) -> None:
    first = shown(viewer, {})
    plane = displayed_plane(viewer.layers["picture"], viewer.dims)
    prediction = balls(discs(), plane.to_world)
    second = ResultLayers(viewer, viewer.layers["cells"], handle_of_cells(prediction))
    second.replaced.append(first)
    update(second, compose(prediction, table(), plane))
    assert not first.in_viewer
    names = [layer.name for layer in viewer.layers]
    assert names == ["picture", "cells", "cells: member 1", "cells: member 2"]


def test_one_layer_with_a_member_axis_and_the_consensus(viewer: ViewerModel) -> None:
    one_each = shown(viewer, FRAMES["turned"])
    image = viewer.layers["picture"]
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world)
    content = compose(prediction, table(), plane, style=LayerStyle(stacked=True, consensus=True))
    assert all(volume.base is content.stack for volume in content.volumes), "no second copy in memory"
    result = ResultLayers(viewer, viewer.layers["cells"], handle_of_cells(prediction))
    update(result, content)
    stack, consensus = result.layers
    assert [key_of(layer.metadata[METADATA_KEY]) for layer in result.layers] == ["members", "consensus"]
    assert (stack.visible, consensus.visible) == (True, False)
    np.testing.assert_array_equal(stack.data, [layer.data for layer in one_each.layers])
    np.testing.assert_allclose(layer_to_world(stack)[1:, 1:], layer_to_world(one_each.layers[0]), atol=1e-9)
    np.testing.assert_array_equal(consensus.data, prediction_consensus(prediction))
    mean = np.mean([layer.features["volume"][2] for layer in one_each.layers])
    assert stack.features["volume"][2] == pytest.approx(mean)
    again = compose(prediction, table(), plane, content)
    assert again.style == content.style, "a change in another window keeps the layers' kind"


def test_results_are_added_in_3d_before_the_pointer_was_over_the_canvas(viewer: ViewerModel) -> None:
    viewer.dims.ndisplay = 3
    result = shown(viewer, {})
    names = [layer.name for layer in viewer.layers]
    assert names == ["picture", "cells", "cells: member 1", "cells: member 2"]
    assert len(result.layers) == 2


def test_the_users_layer_stays_selected_and_the_slider_in_the_picture(viewer: ViewerModel) -> None:
    viewer.add_image(np.zeros((130, 170)), name="first")
    result = shown(viewer, {})
    assert viewer.layers.selection.active is viewer.layers["cells"]
    assert viewer.dims.ndim == 3
    assert viewer.dims.point[0] == 0.0
    assert result.layers[0].world_to_data(viewer.dims.point)[0] == pytest.approx(
        (result.layers[0].data.shape[0] - 1) / 2, abs=1.5
    )


def test_shapes_of_a_stack_lie_in_its_plane(viewer: ViewerModel) -> None:
    stack = np.stack([discs()] * 5).astype(float)
    image = viewer.add_image(stack, scale=(2.0, 0.5, 0.5), translate=(10, 0, 0))
    labels = viewer.add_labels(stack.astype(int), scale=(2.0, 0.5, 0.5), translate=(10, 0, 0))
    viewer.dims.set_point(0, 16.0)
    plane = displayed_plane(image, viewer.dims)
    assert (plane.index, plane.depth) == ((3,), 16.0)
    prediction = balls(discs(), plane.to_world)
    result = add_layers_of(viewer, labels, prediction, plane)
    world = np.array([(16.0, 0.5 * y, 0.5 * x) for y, x in CENTRES.values()])
    assert list(values_at(result.layers[0], world)) == [2, 5]
    z = np.argwhere(result.layers[0].data == 2)[:, 0]
    heights = result.layers[0].data_to_world((z.mean(), 0, 0))[0]
    assert heights == pytest.approx(16.0, abs=0.5)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("seed", range(8))
def test_any_affine_becomes_a_transform(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for ndim in (2, 3):
        affine = np.eye(ndim + 1)
        affine[:-1] = rng.normal(0, 3, (ndim, ndim + 1))
        data = np.zeros((2,) * ndim, int)
        np.testing.assert_allclose(layer_to_world(Labels(data, **transform_of(affine))), affine, atol=1e-9)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_outlines_lie_on_the_border_of_the_cell(viewer: ViewerModel, frame: dict) -> None:
    image = viewer.add_image(discs().astype(float), **frame)
    outlines = Outlines(viewer)
    box = (slice(20, 61), slice(30, 71))
    segments = outline(discs(), 2, box)
    outlines.show({2: segments}, displayed_plane(image, viewer.dims))
    layer = viewer.layers["chosen cells"]
    starts = np.array([image.world_to_data(layer.data_to_world(start)) for start in layer.data[:, 0]])
    radius = np.linalg.norm(starts - CENTRES[2], axis=1)
    assert np.abs(radius - RADIUS).max() < 1.0
    ends = layer.data[:, 0] + layer.data[:, 1]
    np.testing.assert_allclose(ends[:-1], layer.data[1:, 0], atol=1e-4)  # closed, without gaps
    outlines.show({}, displayed_plane(image, viewer.dims))
    assert "chosen cells" not in viewer.layers


def test_outlines_move_to_another_picture(viewer: ViewerModel) -> None:
    outlines, segments = Outlines(viewer), outline(discs(), 2, (slice(20, 61), slice(30, 71)))
    for frame in ({"scale": (-1, 1)}, *FRAMES.values(), {"scale": (2, -2)}, {}):
        plane = displayed_plane(viewer.add_image(discs().astype(float), **frame), viewer.dims)
        outlines.show({2: segments}, plane)
        layer = viewer.layers["chosen cells"]
        np.testing.assert_allclose(layer_to_world(layer), plane.to_world, atol=1e-9)
        assert set(layer.units) == {plane.unit}


def test_outline_follows_holes_and_parts() -> None:
    labels = np.zeros((40, 40), int)
    labels[5:15, 5:15] = 1
    labels[8:12, 8:12] = 2
    labels[25:30, 25:30] = 1
    segments = outline(labels, 1, (slice(5, 30), slice(5, 30)))
    length = np.linalg.norm(segments[:, 1], axis=1).sum()
    assert length == pytest.approx(4 * (10 + 4 + 5), rel=0.08)  # its corners are cut


def test_the_picture_cuts_the_shapes_in_3d(viewer: ViewerModel) -> None:
    frame = FRAMES["turned"]
    result = shown(viewer, frame)
    image, labels = viewer.layers["picture"], viewer.layers["cells"]
    labels.visible = False
    view = View3D(viewer)
    view.enter(image, labels, displayed_plane(image, viewer.dims), result.layers)
    assert viewer.dims.ndisplay == 3
    sheet = viewer.layers["picture: imaged plane"]
    assert sheet.visible and not image.visible
    np.testing.assert_allclose(
        sheet.colormap.map([0.0, 1.0])[:, 3], [0, 1], err_msg="a dark picture hides nothing"
    )
    for corner in ((0, 0), (129, 169)):
        np.testing.assert_allclose(sheet.data_to_world((0, *corner)), (0, *image.data_to_world(corner)))
    thickness = sheet.data_to_world((0.5, 0, 0))[0] - sheet.data_to_world((-0.5, 0, 0))[0]
    assert thickness == pytest.approx(0.1)
    view.leave()
    assert viewer.dims.ndisplay == 2
    assert "picture: imaged plane" not in viewer.layers
    assert image.visible and not labels.visible, "what was hidden before stays hidden"


def test_the_picture_is_seen_on_a_white_canvas(viewer: ViewerModel) -> None:
    viewer.theme = "light"
    result = shown(viewer, FRAMES["turned"])
    image = viewer.layers["picture"]
    View3D(viewer).enter(image, viewer.layers["cells"], displayed_plane(image, viewer.dims), result.layers)
    bright = viewer.layers["picture: imaged plane"].colormap.map([1.0])[0]
    assert bright[3] == 1 and max(bright[:3]) < 0.6


def test_the_sheet_of_a_large_picture_is_cut_around_the_cells(viewer: ViewerModel) -> None:
    image = Image(np.zeros((3000, 5000), np.uint8), scale=(0.1, 0.1))
    viewer.add_layer(image)
    labels = viewer.add_labels(np.pad(discs(), ((2800, 70), (4000, 830))), scale=(0.1, 0.1), name="cells")
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(np.asarray(labels.data), plane.to_world)
    result = add_layers_of(viewer, labels, prediction, plane)
    view = View3D(viewer)
    view.enter(image, labels, plane, result.layers)
    (sheet,) = [layer for layer in viewer.layers if layer.name.endswith("imaged plane")]
    assert max(sheet.data.shape) <= 2048
    cell = sheet.world_to_data((0, *labels.data_to_world((2840, 4050))))
    assert (cell >= 0).all() and (cell < sheet.data.shape).all()


@pytest.mark.parametrize("frame", ["plain", "scaled", "turned", "mirrored"])
def test_a_path_from_noise_to_shape_lies_where_its_cell_does(viewer: ViewerModel, frame: str) -> None:
    result = shown(viewer, FRAMES[frame], cells=(5,))
    image, opened = viewer.layers["picture"], handle_of(result.layers[0]).newest
    ensemble = opened.prediction[5]
    noise = np.random.default_rng(0).normal(0, 8, grid.SHAPE)
    frames = np.stack([noise, ensemble.signed_distance[1]])
    path = Denoising(5, 1, frames, frames, np.array([1, 0]), np.array([1, 0]), ensemble.grid_to_world)
    depth = 3.0 * grid.in_plane_scale(opened.prediction.image_to_world)
    data, settings, _ = denoising_layer(path, "cells", depth, image.units[0])
    layer = viewer.add_image(data, **settings)
    assert layer.name == "cells: cell 5, member 2, from noise to shape" and layer.metadata[METADATA_KEY]
    assert data.shape == (STEPS, *grid.SHAPE) and layer.axis_labels == ("step", "z", "y", "x")
    np.testing.assert_array_equal(data[-1], ensemble.signed_distance[1])
    assert viewer.dims.ndim == 4 and viewer.dims.range[0].stop == STEPS - 1
    # At the last step, in the plane of the picture, it is the cell's section.
    pixels = np.argwhere(np.ones(image.data.shape))[::7]
    world = [(STEPS - 1, depth, *image.data_to_world(pixel)) for pixel in pixels]
    index = np.rint([layer.world_to_data(point) for point in world]).astype(int)
    inside = ((index >= 0) & (index < data.shape)).all(axis=1)
    section = inside & (data[tuple(np.where(inside[:, None], index, 0).T)] > 0)
    truth = discs()[tuple(pixels.T)] == 5
    assert np.mean(section == truth) > 0.98 and not (section & ~truth).any()


def test_steps_are_shown_alone_and_the_view_comes_back_with_their_removal(viewer: ViewerModel) -> None:
    result = shown(viewer, FRAMES["scaled"])
    viewer.dims.set_point(0, 0.3)
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0.0, 3.0, 4.0), 7.0
    before = (camera.center, camera.zoom, viewer.dims.ndisplay, [layer.visible for layer in viewer.layers])
    point = viewer.dims.point
    steps = Image(np.random.default_rng(0).random((3, 8, 8, 8)), scale=(1, 0.1, 0.1, 0.1))
    view = StepsView(viewer)
    view.enter(steps)
    assert viewer.dims.ndisplay == 3 and viewer.dims.current_step[0] == 0
    assert [layer.name for layer in viewer.layers if layer.visible] == [steps.name]
    viewer.layers.remove(steps)
    after = (camera.center, camera.zoom, viewer.dims.ndisplay, [layer.visible for layer in viewer.layers])
    assert after == before
    assert viewer.dims.point == point and result.layers[0] in viewer.layers
