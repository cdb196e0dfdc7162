"""Saved predictions open as the layers they were; layers go out with their scale, place and provenance."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import napari_builtins
import numpy as np
import pandas as pd
import pytest
import tifffile
import trimesh
from napari.components import ViewerModel
from napari.layers import Image, Labels, Surface
from napari.utils.notifications import NotificationSeverity, notification_manager
from npe2 import PluginManager, PluginManifest, _pytest_plugin
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QTimer
from support.layers import add_layers_of
from support.predictions import FRAMES, balls, discs
from support.windows import drop_on

import napari_dispr
from napari_dispr.errors import InputError
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure
from napari_dispr.viewer.content import METADATA_KEY, origin_of
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.files import ensemble_reader, write_measures, write_surfaces, write_volumes
from napari_dispr.viewer.layers import ResultLayers
from napari_dispr.viewer.opening import add_layers
from napari_dispr.viewer.saved import open_saved
from napari_dispr.viewer.world import layer_to_world

SOURCE = Path(napari_dispr.__file__).parent


@pytest.fixture
def plugins(npe2pm: _pytest_plugin.TestPluginManager) -> Iterator[PluginManager]:
    """Ours and napari's own, as in napari."""
    manifests = [Path(napari_builtins.__file__).parent / "builtins.yaml", SOURCE / "napari.yaml"]
    builtins, ours = map(PluginManifest.from_file, manifests)
    with npe2pm.tmp_plugin(manifest=builtins), npe2pm.tmp_plugin(manifest=ours):
        yield npe2pm


def predicted(viewer: ViewerModel, frame: dict[str, Any]) -> tuple[Prediction, ResultLayers]:
    """A prediction in a frame, as the widget makes it, and its layers."""
    image = viewer.add_image(discs().astype(float), name="picture", **frame)
    labels = viewer.add_labels(discs(), name="cells", **frame)
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world)
    unit = str(plane.unit)
    for ensemble in prediction.values():
        object.__setattr__(ensemble, "unit", unit)
    prediction = Prediction(
        prediction.ensembles,
        provenance={**prediction.provenance, **origin_of(plane), "labels": "cells"},
        image_to_world=plane.to_world,
        unit=unit,
        notes=(Note("general", None, "One cell is odd."),),
    )
    return prediction, add_layers_of(viewer, labels, prediction, plane, measure(prediction))


@pytest.mark.parametrize("frame", ["scaled", "turned", "sheared"])
def test_folder_opens_as_the_layers_it_was(plugins: PluginManager, tmp_path: Path, frame: str) -> None:
    viewer, other = ViewerModel(), ViewerModel()
    prediction, shown = predicted(viewer, FRAMES[frame])
    prediction.save(tmp_path / "run")
    opened = other.open(str(tmp_path / "run"), plugin="napari-dispr")
    assert len(opened) == len(shown.layers) == 2
    for before, after in zip(shown.layers, opened, strict=True):
        assert isinstance(after, Labels)
        assert (after.name, after.visible, after.units) == (before.name, before.visible, before.units)
        np.testing.assert_array_equal(after.data, before.data)
        np.testing.assert_allclose(layer_to_world(after), layer_to_world(before), rtol=1e-12)
        pd.testing.assert_frame_equal(after.features, before.features)
        made = dict(after.metadata[METADATA_KEY])
        assert made.pop("folder") == str(tmp_path / "run")
        assert made == before.metadata[METADATA_KEY]
        np.testing.assert_array_equal(after.get_color(5), before.get_color(5))
    assert "One cell is odd." in [str(one.message) for one in notification_manager.records]


def test_a_plane_of_a_stack_is_where_it_was(plugins: PluginManager, tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([discs()] * 5), scale=(2.0, 0.5, 0.5), name="stack")
    viewer.dims.set_point(0, 6.0)
    plane = displayed_plane(image, viewer.dims)
    prediction = balls(discs(), plane.to_world)
    prediction = Prediction(prediction.ensembles, provenance=origin_of(plane), image_to_world=plane.to_world)
    prediction.save(tmp_path / "run")
    opened = ViewerModel().open(str(tmp_path / "run"), plugin="napari-dispr")
    assert opened[0].extent.world.mean(axis=0)[0] == pytest.approx(6.0, abs=0.5)
    assert opened[0].name == "run: member 1"
    assert opened[0].metadata[METADATA_KEY]["plane"] == [3]


def test_prediction_json_opens_too_without_a_named_plugin(plugins: PluginManager, tmp_path: Path) -> None:
    prediction, _ = predicted(ViewerModel(), {})
    prediction.save(tmp_path)
    assert len(ViewerModel().open(str(tmp_path / "prediction.json"), plugin=None)) == 2


def test_other_folders_are_left_to_other_readers(plugins: PluginManager, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    assert ensemble_reader(str(tmp_path)) is None
    (tmp_path / "prediction.json").write_text('{"prediction": "of the weather"}')
    (tmp_path / "batch.json").write_text('{"batch": "of jobs"}')
    assert ensemble_reader(str(tmp_path)) is None
    assert ensemble_reader([str(tmp_path), str(tmp_path)]) is None
    assert ensemble_reader(str(tmp_path / "nowhere")) is None
    for name in ("prediction.json", "batch.json"):
        (tmp_path / name).unlink()
    (layer,) = ViewerModel().open(str(tmp_path), plugin="napari")
    assert layer.data.shape[-2:] == (4, 5)


@pytest.mark.parametrize("damage", ["json", "npz", "missing", "empty", "no json", "cells"])
def test_damaged_folder_is_one_sentence(plugins: PluginManager, tmp_path: Path, damage: str) -> None:
    prediction, _ = predicted(ViewerModel(), {})
    folder = tmp_path / "run"
    prediction.save(folder)
    if damage == "json":
        (folder / "prediction.json").write_text('{"cells": {"2"')
    elif damage == "npz":
        (folder / "cells" / "2.npz").write_bytes(b"no archive")
    elif damage == "missing":
        (folder / "cells" / "5.npz").unlink()
    elif damage == "no json":
        (folder / "prediction.json").unlink()
    elif damage == "cells":
        folder = folder / "cells"
    else:
        content = json.loads((folder / "prediction.json").read_text())
        (folder / "prediction.json").write_text(json.dumps({**content, "cells": {}}))
    notification_manager.records.clear()
    assert ViewerModel().open(str(folder), plugin="napari-dispr") == []
    (error,) = [one for one in notification_manager.records if one.severity == NotificationSeverity.ERROR]
    assert str(error.message).startswith(folder.name) and re.search(r": \w.*\.$", str(error.message))


def test_tables_are_read_and_not_measured_again(
    plugins: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction, _ = predicted(ViewerModel(), {})
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    prediction.save(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("napari_dispr.shapes.morphometry.measure_members", lambda _: pytest.fail("measured"))
        opened = ViewerModel().open(str(tmp_path / "run"), plugin="napari-dispr")
    (tmp_path / "run" / "morphometry.csv").unlink()
    again = ViewerModel().open(str(tmp_path / "run"), plugin="napari-dispr")
    pd.testing.assert_frame_equal(opened[1].features, again[1].features)


def test_members_open_with_naparis_own_reader(plugins: PluginManager, tmp_path: Path) -> None:
    prediction, _ = predicted(ViewerModel(), {})
    prediction.save(tmp_path)
    (layer,) = ViewerModel().open(str(tmp_path / "cells" / "2.ome.tif"), plugin="napari")
    np.testing.assert_array_equal(np.asarray(layer.data), prediction[2].members)


# --- writing --------------------------------------------------------------------------------------------


def ome(path: Path) -> tuple[list[str], list[np.ndarray], list[dict[str, Any]]]:
    """The axes, pixels and metadata of each image of a file."""
    with tifffile.TiffFile(path) as file:
        images = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        axes, arrays = zip(*((series.axes, series.asarray()) for series in file.series), strict=True)
    return list(axes), list(arrays), images if isinstance(images, list) else [images]


def test_members_become_one_ome_tiff(plugins: PluginManager, tmp_path: Path) -> None:
    viewer = ViewerModel()
    _, shown = predicted(viewer, {**FRAMES["scaled"], "translate": (3.0, -7.0)})
    viewer.layers.selection = set(shown.layers)
    (path,) = viewer.layers.save(str(tmp_path / "m.ome.tif"), selected=True)
    axes, (array,), (image,) = ome(Path(path))
    assert axes == ["TZYX"]
    np.testing.assert_array_equal(array, [layer.data for layer in shown.layers])
    pixels = image["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "XYZ"] == pytest.approx([0.1] * 3)
    assert pixels["PhysicalSizeXUnit"] == "µm" and pixels["SizeT"] == 2
    first = pixels["Plane"][0]
    corner = shown.layers[0].data_to_world((0, 0, 0))
    assert [first[f"Position{axis}"] for axis in "ZYX"] == pytest.approx(corner)
    made = json.loads(image["Description"])
    assert made["model"] == "balls" and made["layers"] == ["cells: member 1", "cells: member 2"]
    np.testing.assert_allclose(made["index_to_world"], layer_to_world(shown.layers[0]))


def test_one_layer_and_layers_that_differ(plugins: PluginManager, tmp_path: Path) -> None:
    viewer = ViewerModel()
    _, shown = predicted(viewer, FRAMES["turned"])
    (path,) = shown.layers[1].save(str(tmp_path / "one.ome.tif"))
    axes, _, (image,) = ome(Path(path))
    assert axes == ["ZYX"] and image["Name"] == "cells: member 2"
    assert json.loads(image["Description"])["member"] == 1
    (path,) = viewer.layers.save(str(tmp_path / "all.ome.tif"))
    _, arrays, images = ome(Path(path))
    assert [image["Name"] for image in images] == [layer.name for layer in viewer.layers]
    for array, layer in zip(arrays, viewer.layers, strict=True):
        np.testing.assert_array_equal(array, layer.data)


@pytest.mark.parametrize(
    ("units", "sizes", "names"),
    [
        (("pixel", "micrometer", "micrometer"), (2, 0.1, 0.1), ("pixel", "µm", "µm")),
        (("micrometer", "nanometer", "nanometer"), (2000, 0.1, 0.1), ("nm", "nm", "nm")),
        (("micrometer", "micrometer", "pixel"), (2, 0.1, 0.1), ("µm", "µm", "pixel")),
    ],
)
def test_each_axis_keeps_its_size_and_unit(
    units: tuple[str, ...], sizes: tuple[float, ...], names: tuple[str, ...], tmp_path: Path
) -> None:
    layer = Labels(np.ones((2, 3, 4), np.uint8), scale=(2, 0.1, 0.1), units=units)
    (path,) = write_volumes(str(tmp_path / "mixed.ome.tif"), [layer.as_layer_data_tuple()])
    pixels = ome(Path(path))[2][0]["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == pytest.approx(sizes)
    assert tuple(pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX") == names


def test_numbers_that_ome_does_not_know(tmp_path: Path) -> None:
    small = Labels(np.arange(8, dtype=np.int64).reshape(2, 2, 2), name="small")
    (path,) = write_volumes(str(tmp_path / "small"), [small.as_layer_data_tuple()])
    assert path.endswith("small.ome.tif") and tifffile.imread(path).dtype == np.uint8
    large = Labels(np.full((2, 2, 2), 2**40), name="large")
    with pytest.raises(InputError, match="large"):
        write_volumes(str(tmp_path / "large.ome.tif"), [large.as_layer_data_tuple()])
    colours = Image(np.zeros((4, 4, 3)), name="colours", rgb=True)
    with pytest.raises(InputError, match="RGB"):
        write_volumes(str(tmp_path / "colours.ome.tif"), [colours.as_layer_data_tuple()])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.ome.tif"]


@pytest.mark.parametrize("suffix", ["stl", "ply", "obj", "glb"])
@pytest.mark.parametrize("frame", ["turned", "mirrored"])
def test_cells_become_meshes_where_they_stand(
    plugins: PluginManager, tmp_path: Path, suffix: str, frame: str
) -> None:
    viewer = ViewerModel()
    _, shown = predicted(viewer, FRAMES[frame])
    layer = shown.layers[0]
    paths = layer.save(str(tmp_path / f"cells.{suffix}"))
    if suffix in ("stl", "ply"):
        assert [Path(path).name for path in paths] == [f"cells_2.{suffix}", f"cells_5.{suffix}"]
        meshes = [trimesh.load_mesh(path) for path in paths]
    else:
        (path,) = paths
        meshes = trimesh.load_mesh(path).split()
    assert len(meshes) == 2
    voxel = abs(np.linalg.det(layer_to_world(layer)[:3, :3]))
    centres = []
    for label in (2, 5):
        voxels = np.argwhere(layer.data == label)
        centres.append(np.mean([layer.data_to_world(voxel) for voxel in voxels[::50]], axis=0)[::-1])
    for mesh in meshes:
        label = (2, 5)[int(np.argmin([np.linalg.norm(mesh.center_mass - centre) for centre in centres]))]
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert mesh.volume == pytest.approx((layer.data == label).sum() * voxel, rel=0.02)
        voxels = np.argwhere(layer.data == label)
        world = np.array([layer.data_to_world(voxel) for voxel in voxels])[:, ::-1]
        size = voxel ** (1 / 3)
        np.testing.assert_allclose(mesh.center_mass, world.mean(axis=0), atol=0.1 * size)
        np.testing.assert_allclose(mesh.bounds, [world.min(axis=0), world.max(axis=0)], atol=1.5 * size)


def test_surface_layers_and_several_layers(plugins: PluginManager, tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(radius=2.0)
    # A sphere looks the same turned over: its triangles do not.
    surface = Surface(
        (ball.vertices, ball.faces[:, ::-1]), name="consensus", scale=(0.5, 0.1, 0.1), translate=(9, 5, 1)
    )
    (path,) = surface.save(str(tmp_path / "s.ply"))
    mesh = trimesh.load_mesh(path)
    assert mesh.volume == pytest.approx(-ball.volume * 0.005, rel=1e-5)  # as it was: not turned over
    np.testing.assert_allclose(mesh.centroid, (1, 5, 9), atol=1e-6)
    _, shown = predicted(ViewerModel(), {})
    tuples = [layer.as_layer_data_tuple() for layer in shown.layers]
    paths = write_surfaces(str(tmp_path / "all"), tuples)
    assert [Path(path).name for path in paths] == [
        f"all_cells_member_{member}_{label}.stl" for member in (1, 2) for label in (2, 5)
    ]
    (path,) = write_surfaces(str(tmp_path / "all.glb"), tuples)
    assert set(trimesh.load(path).geometry) == {
        f"cells: member {m} {label}" for m in (1, 2) for label in (2, 5)
    }


def test_meshes_of_one_file_are_in_one_unit(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(radius=2.0)
    data = (ball.vertices, ball.faces)
    layers = [
        Surface(data, name="one", scale=(0.5,) * 3, units=("um",) * 3),
        Surface(data, name="other", scale=(500,) * 3, units=("nm",) * 3),
    ]
    (path,) = write_surfaces(str(tmp_path / "both.glb"), [layer.as_layer_data_tuple() for layer in layers])
    one, other = trimesh.load(path).geometry.values()
    np.testing.assert_allclose(one.extents, other.extents, rtol=1e-5)


def test_surfaces_with_similar_names_do_not_replace_one_another(tmp_path: Path) -> None:
    balls = [trimesh.creation.icosphere(radius=radius) for radius in (1.0, 2.0, 3.0)]
    names = ("a b", "a_b", "A b")
    layers = [
        Surface((ball.vertices, ball.faces), name=name).as_layer_data_tuple()
        for ball, name in zip(balls, names, strict=True)
    ]
    paths = write_surfaces(str(tmp_path / "all.stl"), layers)
    assert [Path(path).name for path in paths] == ["all_a_b.stl", "all_a_b_2.stl", "all_A_b_3.stl"]
    for path, ball in zip(paths, balls, strict=True):
        np.testing.assert_allclose(trimesh.load_mesh(path).extents, ball.extents, rtol=1e-5)
    cell = np.zeros((9, 9, 9), np.uint8)
    cell[2:7, 2:7, 2:7] = 1
    layers = [Labels(cell, name="a").as_layer_data_tuple(), (*layers[0][:1], {"name": "a 1"}, "surface")]
    (path,) = write_surfaces(str(tmp_path / "all.glb"), layers)
    assert len(trimesh.load(path).geometry) == 2


def test_flat_and_empty_labels_have_no_surface(tmp_path: Path) -> None:
    flat = Labels(discs(), name="flat").as_layer_data_tuple()
    with pytest.raises(InputError, match='"flat" has 2 axes'):
        write_surfaces(str(tmp_path / "a.stl"), [flat])
    empty = Labels(np.zeros((3, 4, 5), int), name="empty").as_layer_data_tuple()
    with pytest.raises(InputError, match="empty"):
        write_surfaces(str(tmp_path / "a.stl"), [empty])
    assert not list(tmp_path.iterdir())


def test_measures_become_a_table_with_its_columns(plugins: PluginManager, tmp_path: Path) -> None:
    viewer = ViewerModel()
    prediction, shown = predicted(viewer, FRAMES["scaled"])
    viewer.layers.selection = set(shown.layers)
    paths = viewer.layers.save(str(tmp_path / "t.csv"), selected=True)
    assert [Path(path).name for path in paths] == ["t.csv", "t.columns.csv"]
    table = pd.read_csv(paths[0]).drop(columns="layer")
    truth = measure(prediction).sort_values(["member", "label"], ignore_index=True)
    assert {"label", "member", "volume", "sphericity"} <= set(table.columns)
    pd.testing.assert_frame_equal(table, truth[list(table.columns)], check_dtype=False)
    columns = pd.read_csv(paths[1]).set_index("column")
    assert columns.loc["volume", "unit"] == "micrometer^3"
    assert set(columns.index) == {"layer", *table.columns} and not columns.isna().any(axis=None)
    own = Labels(discs(), features=pd.DataFrame({"area": [np.nan, np.nan, 5.0, np.nan, np.nan, 7.0]}))
    path, _ = write_measures(str(tmp_path / "own.csv"), [own.as_layer_data_tuple()])
    assert pd.read_csv(path).to_dict("list") == {"label": [2, 5], "area": [5, 7]}, "napari: row n is label n"
    own.features = own.features.assign(index=range(6), label=range(6))
    (path, _) = write_measures(str(tmp_path / "twice.csv"), [own.as_layer_data_tuple()] * 2)
    assert list(pd.read_csv(path)) == ["layer", "area", "label"], "one column of labels"
    with pytest.raises(InputError, match="no measures"):
        write_measures(str(tmp_path / "n.csv"), [Labels(discs()).as_layer_data_tuple()])


# --- in the window --------------------------------------------------------------------------------------


def test_dropped_on_the_window_it_opens_in_a_thread(
    plugins: PluginManager, make_napari_viewer, qtbot: QtBot, tmp_path: Path
) -> None:
    prediction, shown = predicted(ViewerModel(), FRAMES["turned"])
    prediction.save(tmp_path / "run")
    viewer = make_napari_viewer()
    there_at_once: list[int] = []

    def drop() -> None:  # from the event loop, as a user's drop comes
        drop_on(viewer.window._qt_viewer, tmp_path / "run" / "prediction.json")
        there_at_once.append(len(viewer.layers))

    QTimer.singleShot(0, drop)
    qtbot.waitUntil(lambda: bool(there_at_once) and len(viewer.layers) == 2)
    assert there_at_once == [0]
    assert [layer.name for layer in viewer.layers] == [layer.name for layer in shown.layers]
    assert [layer.visible for layer in viewer.layers] == [True, False]
    np.testing.assert_array_equal(viewer.layers[1].data, shown.layers[1].data)


def test_a_second_prediction_of_one_name_is_named_with_its_folder(
    make_napari_viewer, qtbot: QtBot, tmp_path: Path
) -> None:
    viewer, done = make_napari_viewer(), []
    for folder in ("first", "second"):
        prediction, _ = predicted(ViewerModel(), FRAMES["turned"])
        prediction.save(tmp_path / folder)
        for name in ("picture.tif", "segmentation.tif"):
            tifffile.imwrite(tmp_path / folder / name, np.zeros(prediction.image_shape, np.uint8))
        add_layers(viewer, open_saved(tmp_path / folder)[1], done=lambda: done.append("all"))
        qtbot.waitUntil(lambda: done.pop() == "all" if done else False)
    own = [f"{name}{words}" for name in ("cells", "cells (second)")
           for words in (": picture", "", ": member 1", ": member 2")]  # fmt: skip
    assert [layer.name for layer in viewer.layers] == own


def test_layers_are_added_while_another_window_is_used(make_napari_viewer, qtbot: QtBot) -> None:
    viewer, other = make_napari_viewer(), make_napari_viewer()
    layers, done = [(discs(), {"name": name}, "labels") for name in "ab"], []
    add_layers(viewer, layers, done=lambda: done.append("all"))
    qtbot.waitUntil(lambda: done == ["all"])
    assert [layer.name for layer in viewer.layers] == ["a", "b"] and not other.layers
    add_layers(viewer, layers, lambda layer: viewer.close(), lambda: done.append("also after closing"))
    QTimer.singleShot(0, lambda: done.append("later"))
    qtbot.waitUntil(lambda: len(done) > 1)
    assert done == ["all", "later"]
