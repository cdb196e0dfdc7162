"""What Compare shows of a cell: surfaces in the right place, the truth on them, what tiles hold."""

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from support.predictions import CENTRES, FRAMES, RADIUS, balls, discs

from napari_dispr import grid
from napari_dispr.planes import KnownPlane
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.section import Section
from napari_dispr.viewer.content import compose
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import transform_of
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.widgets.compare import canvas
from napari_dispr.widgets.compare.captions import words_above
from napari_dispr.widgets.compare.content import Truth, cell_shapes, modes_in_words
from napari_dispr.widgets.compare.tiles import Tile, View, arranged, mode_colour, tiles_of

MIDDLE = np.array(grid.MIDDLE)
Z, Y, X = np.indices(grid.SHAPE) - MIDDLE[:, None, None, None]


def opened_of(ensemble: Ensemble, **known) -> OpenPrediction:
    """One cell, without tables."""
    prediction = Prediction({ensemble.label: ensemble}, unit="micrometer")
    return OpenPrediction(object(), "cells", prediction, pd.DataFrame(), pd.DataFrame(), **known)


def ball_at(z: float, y: float, x: float, radius: float) -> np.ndarray:
    return (radius - np.sqrt((Z - z) ** 2 + (Y - y) ** 2 + (X - x) ** 2)).clip(-8, 8).astype(np.float32)


def ensemble_of(*shapes: np.ndarray, voxel: float = 0.5, **fields) -> Ensemble:
    return Ensemble(3, np.stack(shapes), np.diag([voxel, voxel, voxel, 1.0]), "micrometer", **fields)


def test_the_view_is_as_the_picture_and_z_comes_towards_the_viewer() -> None:
    # Deeper than the picture, further down and further right in it.
    cell = cell_shapes(opened_of(ensemble_of(ball_at(6, 4, 10, 8))), 3)
    surface = cell.members[0]
    np.testing.assert_allclose(surface.vertices.mean(axis=0), [5, -2, -3], atol=0.05)
    assert surface.volume == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.02), "triangles look outwards"
    coarse = cell.coarse[0]
    np.testing.assert_allclose(coarse.vertices.mean(axis=0), [5, -2, -3], atol=0.1)
    assert len(coarse.faces) < len(surface.faces) / 3
    z, y, x = np.argwhere(cell.occupancy > 0).mean(axis=0) * cell.voxel + cell.first[::-1]
    np.testing.assert_allclose([x, y, z], [5, -2, -3], atol=0.05)
    assert np.linalg.norm(surface.vertices, axis=1).max() <= cell.radius


@pytest.mark.parametrize("depth", [4.0, 12.0, 24.0])
def test_known_planes_stay_in_their_tile(depth: float) -> None:
    mask = (ball_at(0, 0, 0, 9)[grid.IMAGED_PLANE] > 0).astype(np.float32)
    empty = KnownPlane(depth, np.zeros_like(mask))
    ensemble = ensemble_of(ball_at(0, 0, 0, 9), section=Section(mask, planes=(empty,)))
    cell = cell_shapes(opened_of(ensemble), 3)
    slope = np.deg2rad(canvas._ELEVATION)
    assert len(cell.sheets) == 2
    for sheet in cell.sheets:
        drawn = np.ptp(np.flatnonzero(sheet.pixels[..., 3].any(axis=1))) / len(sheet.pixels)
        reach = abs(sheet.height) * np.cos(slope) + drawn * sheet.half * np.sin(slope)
        assert canvas._FILL * reach <= cell.radius


def test_consensus_is_coloured_by_how_far_the_surfaces_are_apart() -> None:
    same = cell_shapes(opened_of(ensemble_of(*[ball_at(0, 0, 0, 12)] * 3)), 3)
    assert same.consensus is not None and np.abs(same.consensus.values).max() < 1e-6
    radii = np.array([9.0, 12.0, 15.0])
    cell = cell_shapes(opened_of(ensemble_of(*(ball_at(0, 0, 0, r) for r in radii))), 3)
    np.testing.assert_allclose(cell.consensus.values, 0.5 * radii.std(ddof=1), rtol=0.02)
    assert cell.consensus.volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)


def test_a_cell_of_one_empty_member_has_no_surface_and_no_consensus() -> None:
    cell = cell_shapes(opened_of(ensemble_of(np.full(grid.SHAPE, -3, np.float32))), 3)
    assert cell.consensus is None and not len(cell.members[0].faces) and cell.radius > 0
    assert [tile.shape for tile in tiles_of(cell, View.SIDE_BY_SIDE)] == [0]


@pytest.mark.parametrize("frame", ["scaled", "turned", "mirrored"])
def test_the_truth_lies_on_the_shapes_whatever_the_frame(frame: str) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(discs().astype(float), **FRAMES[frame])
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world)
    volume, affine = prediction.label_volume(0)
    in_nanometers = np.diag([1000, 1000, 1000, 1]) if str(plane.unit) == "micrometer" else np.eye(4)
    units = ("nanometer" if in_nanometers[0, 0] == 1000 else "pixel",) * 3
    place = in_nanometers @ grid.translation((plane.depth, 0, 0)) @ affine
    truth = Labels(volume, units=units, **transform_of(place))
    opened = OpenPrediction(object(), "cells", prediction, pd.DataFrame(), pd.DataFrame(), plane, image)
    cell = cell_shapes(opened, 5, Truth.of(truth, opened))
    member = cell.members[0]
    for surface in (member, cell.truth):
        middle = (surface.vertices.min(axis=0) + surface.vertices.max(axis=0)) / 2
        np.testing.assert_allclose(middle, 0, atol=0.25 * cell.voxel)
    assert cell.truth.volume == pytest.approx(member.volume, rel=0.03)
    assert cell_shapes(opened, 2, Truth(np.zeros_like(volume), affine)).truth is None


def test_the_picture_lies_under_its_cell() -> None:
    viewer = ViewerModel()
    field = discs().astype(float)
    y, x = (int(value) for value in CENTRES[5])
    field[y - 2 : y + 3, x + 6 : x + 10] = 20  # to the right of the middle, within the cell
    image = viewer.add_image(field, scale=(0.1, 0.1))
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world)
    opened = OpenPrediction(object(), "cells", prediction, pd.DataFrame(), pd.DataFrame(), plane, image)
    cell = cell_shapes(opened, 5, contrast=(0, 20))
    (sheet,) = cell.sheets
    picture = sheet.pixels[..., 0]
    rows, columns = np.nonzero(picture > 0.9)
    pixel = 2 * sheet.half / len(picture)
    place = (np.array([columns.mean(), rows.mean()]) + 0.5) * pixel - sheet.half
    np.testing.assert_allclose(place, [0.1 * 7.5, 0.0], atol=0.06)
    edge = picture[len(picture) // 2] > 0.1
    assert edge.sum() * pixel == pytest.approx(2 * RADIUS * 0.1, rel=0.06)


def test_without_the_picture_what_the_model_saw_of_it_is_shown() -> None:
    mask = (np.hypot(Y[0], X[0]) < 12).astype(np.float32)
    image = np.where(X[0] > 0, 0.8, 0.2).astype(np.float32)
    ensemble = ensemble_of(ball_at(0, 0, 0, 12), section=Section(mask, image))
    (sheet,) = cell_shapes(opened_of(ensemble), 3).sheets
    half = len(sheet.pixels) // 2
    assert sheet.height == 0 and sheet.pixels[half, half + 20, 0] == 1.0
    assert sheet.pixels[half, half - 20, 0] == pytest.approx(0.25, abs=0.02)
    assert not cell_shapes(opened_of(ensemble_of(ball_at(0, 0, 0, 12))), 3).sheets


# --- tiles ----------------------------------------------------------------------------------------------


def two_kinds() -> Ensemble:
    """Two members above the picture, one below; the numbers of rejected ones are missing."""
    return ensemble_of(ball_at(5, 0, 0, 9), ball_at(-6, 0, 0, 7), ball_at(5, 1, 0, 9), numbers=(0, 2, 5))


@pytest.mark.parametrize(("room", "words"), [(30, "✓ kept, A: member 1"), (16, "✓ A: member 1")])
def test_a_narrow_tile_names_its_member_also_when_it_is_kept(room: int, words: str) -> None:
    assert words_above(Tile(0, "A: member 1", kept=True), lambda text: len(text) <= room) == words


def test_members_stand_by_their_kinds_and_are_captioned() -> None:
    cell = cell_shapes(opened_of(two_kinds()), 3)
    assert modes_in_words(cell.modes) == "2 kinds of shape fit: A 67 %, B 33 %"
    tiles = tiles_of(cell, View.SIDE_BY_SIDE, selected=5, kept="consensus", notes={5: "7 µm³"})
    assert [tile.caption for tile in tiles] == ["A: member 1", "A: member 6", "B: member 3", "consensus"]
    assert [tile.selected for tile in tiles] == [False, True, False, False]
    assert [tile.kept for tile in tiles] == [False, False, False, True]
    assert tiles[1].note == "7 µm³" and tiles[2].frame == mode_colour("B") != tiles[1].frame
    assert all(tile.surfaces[0].colour[3] == 1 for tile in tiles)


def test_overlaid_the_chosen_one_is_in_front_and_the_others_translucent() -> None:
    cell = cell_shapes(opened_of(two_kinds()), 3)
    (tile,) = tiles_of(cell, View.OVERLAY, selected=2)
    assert tile.surfaces[0].surface is cell.members[2] and len(tile.surfaces) == 3
    assert tile.surfaces[0].colour[3] == 1 > 2 * max(one.colour[3] for one in tile.surfaces[1:])
    (tile,) = tiles_of(cell, View.OVERLAY)
    assert len({one.colour[3] for one in tile.surfaces}) == 1
    coloured, volume = tiles_of(cell, View.DISAGREEMENT)
    assert coloured.surfaces[0].by_value and volume.volume and not volume.surfaces


def test_many_members_are_drawn_coarsely() -> None:
    many = cell_shapes(opened_of(ensemble_of(*[ball_at(0, 0, 0, 10)] * 20)), 3)
    tiles = tiles_of(many, View.SIDE_BY_SIDE)
    assert len(tiles) == 21 and tiles[0].surfaces[0].surface is many.coarse[0]
    (overlay,) = tiles_of(many, View.OVERLAY, selected=3)
    assert overlay.surfaces[0].surface is many.members[3] and overlay.surfaces[1].surface is many.coarse[0]
    assert modes_in_words(many.modes) == "one kind of shape fits"


@pytest.mark.parametrize(("tiles", "sides", "expected"), [
    (1, (300, 900), (1, 1)), (6, (900, 600), (3, 2)), (6, (400, 900), (2, 3)), (21, (700, 700), (5, 5)),
])  # fmt: skip
def test_tiles_are_as_large_as_they_can_be(tiles, sides, expected) -> None:
    assert arranged(tiles, *sides) == expected


def test_kept_shapes_and_steps_are_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept shapes are composed with the same affine as the members."""
    viewer = ViewerModel()
    plane = displayed_plane(viewer.add_image(discs().astype(float), **FRAMES["turned"]), viewer.dims)
    prediction = balls(discs(), plane.to_world).keep(2, 1).keep(5, "consensus")
    table = pd.DataFrame({"label": [2, 2, 5, 5], "member": [0, 1, 0, 1]}).assign(
        volume=1.0, surface_area=1.0, sphericity=1.0, roughness=0.0, curvature=1.0, equivalent_diameter=1.0
    )
    content = compose(prediction, table, plane)
    np.testing.assert_array_equal(content.kept.volume == 2, content.volumes[1] == 2)
    assert content.kept.features["kept"].tolist()[2::3] == ["member 2", "consensus"]
    again = compose(prediction.keep(2, None), table, plane, content)
    assert all(a is b for a, b in zip(again.volumes, content.volumes, strict=True)), "nothing else changed"
