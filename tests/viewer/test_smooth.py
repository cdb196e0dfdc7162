"""Smooth surfaces of result layers: they lie where the shapes do, in their colours, and leave no trace."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer, Surface
from napari.utils.colormaps import DirectLabelColormap
from support.layers import add_layers_of
from support.predictions import CENTRES, FRAMES, RADIUS, balls, discs

from napari_dispr import grid
from napari_dispr.viewer.completed import add_completed, completed_layers
from napari_dispr.viewer.content import LayerStyle
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import ResultLayers, add_surfaces, handle_of, is_seen, surface_layers
from napari_dispr.viewer.smooth import SmoothLayers, smooth_shapes


def shown(viewer: ViewerModel, frame: str = "plain", style: LayerStyle | None = None) -> ResultLayers:
    """Result layers of two balls in a frame."""
    image = viewer.add_image(discs().astype(float), name="picture", **FRAMES[frame])
    labels = viewer.add_labels(discs(), name="cells", **FRAMES[frame])
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world).keep(5, 1)
    return add_layers_of(viewer, labels, prediction, plane, style=style)


@pytest.mark.parametrize("frame", ["scaled", "turned", "mirrored"])
def test_surfaces_lie_where_the_shapes_do(frame: str) -> None:
    viewer = ViewerModel()
    result = shown(viewer, frame)
    pixel = grid.in_plane_scale(displayed_plane(viewer.layers["picture"], viewer.dims).to_world)
    ((layer, shape),) = smooth_shapes(result.layers[:1])
    assert layer is result.layers[0]
    for label, centre in CENTRES.items():
        own = shape.vertices[shape.cells == label]
        away = own - np.array([0.0, *viewer.layers["cells"].data_to_world(centre)])
        np.testing.assert_allclose(np.linalg.norm(away, axis=1), RADIUS * pixel, rtol=0.03)
    assert shape.faces.min() == 0 and shape.faces.max() == len(shape.vertices) - 1


def test_a_surface_stands_in_for_the_layer_on_screen() -> None:
    viewer = ViewerModel()
    result = shown(viewer, style=LayerStyle(consensus=True))
    smooth = SmoothLayers(viewer)
    first, second, _consensus, kept = result.layers
    assert smooth.missing(result.layers) == [first]
    assert [set(shape.cells.tolist()) for _, shape in smooth_shapes([first, kept])] == [{2, 5}, {5}]
    for made in smooth_shapes([first]):
        smooth.replace(*made)
    surface = viewer.layers["cells: member 1 (smooth)"]
    assert isinstance(surface, Surface) and surface.visible and not first.visible
    assert is_seen(first) and not is_seen(second) and not smooth.missing(result.layers)
    colours = {2: np.array([0.5, 0, 0, 1]), 5: np.array([0, 1, 0, 0.5]), None: np.zeros(4)}
    first.colormap = DirectLabelColormap(color_dict=colours)
    np.testing.assert_allclose(
        np.unique(surface.vertex_colors, axis=0),
        [[0, 1, 0, 0.5], [1, 0, 0, 1]],
        err_msg="as bright as can be",
    )
    second.visible = True
    for made in smooth_shapes(smooth.missing(result.layers)):
        smooth.replace(*made)
    surface.visible = False
    assert not is_seen(first) and is_seen(second)
    smooth.remove()
    assert [layer.visible for layer in (first, second)] == [False, True], "as their surfaces were"
    assert not any(isinstance(layer, Surface) for layer in viewer.layers)


def test_surfaces_follow_the_newest_state_of_the_prediction() -> None:
    viewer = ViewerModel()
    (first, _, _) = result = shown(viewer).layers
    smooth = SmoothLayers(viewer)
    (before,) = smooth_shapes([first])
    handle = handle_of(first)
    handle.newest = handle.newest.changed_to(handle.newest.prediction.reject(2, 0))
    smooth.replace(*before)
    assert first.visible, "the shape of an earlier state is not shown"
    for made in smooth_shapes(smooth.missing(result)):
        smooth.replace(*made)
    assert not first.visible and not smooth.missing(result)
    handle.newest = handle.newest.changed_to(handle.newest.prediction.keep(2, 1))
    assert smooth.missing(result) == [first]


def test_surfaces_of_one_cell_hide_those_of_all_cells() -> None:
    viewer = ViewerModel()
    first = shown(viewer).layers[0]
    smooth = SmoothLayers(viewer)
    for made in smooth_shapes([first]):
        smooth.replace(*made)
    handle = handle_of(first)
    add_surfaces(viewer, [Layer.create(*one) for one in surface_layers(handle.newest, 2)], handle)
    assert not is_seen(first) and viewer.layers["cell 2: member 1"].visible
    other = handle.newest.changed_to(balls(discs(), np.eye(3), members=3).reject(2, 0))
    visible = [settings["name"] for _, settings, _ in surface_layers(other, 2) if settings["visible"]]
    assert visible == ["cell 2: member 2"], "the first that is left"


def test_layers_with_a_slider_for_the_members_stay_voxels() -> None:
    viewer = ViewerModel()
    result = shown(viewer, style=LayerStyle(stacked=True))
    assert not list(smooth_shapes(result.layers[:1]))


def test_a_completed_stack_hides_the_members_and_their_surfaces() -> None:
    """Both would be seen in one place."""
    viewer = ViewerModel()
    first, *_ = shown(viewer).layers
    smooth = SmoothLayers(viewer)
    for made in smooth_shapes([first]):
        smooth.replace(*made)
    assert is_seen(first)
    opened = handle_of(first).newest
    add_completed(viewer, opened, [Layer.create(*made) for made in completed_layers(opened)])
    assert not is_seen(first) and viewer.layers["cells: completed"].visible
