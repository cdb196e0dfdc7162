"""The manifest: its entries stand where users look, and lead to what they say."""

from pathlib import Path

import napari_builtins
import numpy as np
import pytest
from npe2 import PluginManifest, _pytest_plugin

import napari_dispr
import napari_dispr.prediction.predict  # before a thread does: rewriting of modules is not thread-safe
from napari_dispr.cells.cropping import check_fields, cut_by_border
from napari_dispr.cells.stacks import Stack, cut_stacks
from napari_dispr.labels import cell_boxes
from napari_dispr.synthesis.phantoms import FIELD_PIXEL_SIZE, simulate_field
from napari_dispr.synthesis.stacks import simulate_stack
from napari_dispr.viewer.samples import (
    simulated_nuclei_3d,
    simulated_red_blood_cells,
    simulated_red_blood_cells_3d,
)

SOURCE = Path(napari_dispr.__file__).parent


@pytest.fixture
def manifest() -> PluginManifest:
    return PluginManifest.from_file(SOURCE / "napari.yaml")


def test_names_that_users_read(manifest: PluginManifest) -> None:
    assert manifest.display_name == "napari DISPR"
    assert [widget.display_name for widget in manifest.contributions.widgets] == [
        "Predict 3D shapes",
        "Compare members",
        "Morphometry",
        "Train a shape model",
        "Balance classes",
        "Synthesise annotated images",
    ]
    samples = [sample.display_name for sample in manifest.contributions.sample_data]
    assert samples == [
        "Simulated red blood cells",
        "Simulated red blood cells and their true shapes",
        "Simulated nuclei in 3D",
    ]


def test_menus_are_open_to_plugins(manifest: PluginManifest) -> None:
    from napari._app_model.constants._menus import MenuId, is_menu_contributable

    assert "napari/layers/segment" in manifest.contributions.menus
    for menu in manifest.contributions.menus:
        assert menu in list(MenuId)
        assert is_menu_contributable(menu)


def test_sample_is_a_picture_with_whole_cells() -> None:
    (image, image_meta, kind), (labels, labels_meta, labels_kind) = simulated_red_blood_cells()
    assert (kind, labels_kind) == ("image", "labels")
    assert image_meta["scale"] == labels_meta["scale"] == (FIELD_PIXEL_SIZE,) * 2
    assert image_meta["units"] == ("micrometer", "micrometer")
    check_fields(image, labels)
    boxes = cell_boxes(labels)
    assert len(boxes) == 9
    assert not any(cut_by_border(labels, cell, box) for cell, box in boxes.items())
    inside, outside = image[labels > 0], image[labels == 0]
    assert np.median(inside) > np.percentile(outside, 90)


def test_sample_is_what_its_script_simulates() -> None:
    (image, _, _), (labels, _, _) = simulated_red_blood_cells()
    script = (SOURCE.parent.parent / "docs" / "make_sample.py").read_text("utf-8")
    settings = next(line for line in script.splitlines() if line.startswith("CELLS, SHAPE, SEED = "))
    cells, shape, seed = eval(settings.partition(" = ")[2])
    field = simulate_field(cells=cells, shape=shape, seed=seed)
    # Other versions of NumPy may draw other noise, not other cells.
    assert np.mean(field.labels == labels) > 0.99
    assert np.corrcoef(field.image.ravel(), image.ravel())[0, 1] > 0.95


def test_true_shapes_stand_on_their_sections() -> None:
    (shapes, place, _), _, (labels, labels_meta, _) = simulated_red_blood_cells_3d()
    affine = np.diag([*place["scale"], 1.0])
    affine[:3, 3] = place["translate"]
    z, y, x = (np.linalg.inv(affine) @ [0, 0, 0, 1])[:3]
    assert z == pytest.approx(round(z)), "the picture lies in a plane of voxels"
    across = np.rint(np.array([y, x])).astype(int)
    section = np.zeros_like(labels)
    plane = shapes[round(z)]
    section[-across[0] : -across[0] + plane.shape[0], -across[1] : -across[1] + plane.shape[1]] = plane
    for label in range(1, 10):
        mine, theirs = section == label, labels == label
        assert (mine & theirs).sum() / (mine | theirs).sum() > 0.93
    assert labels_meta["scale"][0] == place["scale"][1]


def test_stack_is_one_to_train_on() -> None:
    (image, image_meta, kind), (labels, labels_meta, labels_kind) = simulated_nuclei_3d()
    assert (kind, labels_kind) == ("image", "labels") and image.dtype == np.uint8
    assert image_meta["scale"] == labels_meta["scale"] and image_meta["scale"][0] > image_meta["scale"][1]
    assert image_meta["units"] == ("micrometer",) * 3
    cut = cut_stacks([Stack("nuclei", image, labels, image_meta["scale"], "micrometer")])
    assert len(cut.cells) >= 30
    assert (SOURCE / "samples" / "nuclei_3d.npz").stat().st_size < 1.5e6


def test_stack_is_what_its_script_simulates() -> None:
    (image, meta, _), (labels, _, _) = simulated_nuclei_3d()
    script = (SOURCE.parent.parent / "docs" / "make_sample.py").read_text("utf-8")
    settings = next(line for line in script.splitlines() if line.startswith("NUCLEI, STACK, "))
    stack = simulate_stack(*eval(settings.partition(" = ")[2]))
    assert stack.image is not None and stack.spacing == meta["scale"]
    assert np.mean(stack.labels == labels) > 0.99
    assert np.corrcoef(stack.image.ravel(), image.ravel())[0, 1] > 0.95


def test_from_the_menus_of_napari(
    make_napari_viewer, npe2pm: _pytest_plugin.TestPluginManager, manifest: PluginManifest
) -> None:
    builtins = PluginManifest.from_file(Path(napari_builtins.__file__).parent / "builtins.yaml")
    with npe2pm.tmp_plugin(manifest=manifest), npe2pm.tmp_plugin(manifest=builtins):
        viewer = make_napari_viewer()
        viewer.open_sample("napari-dispr", "simulated_red_blood_cells")
        assert [layer.name for layer in viewer.layers] == ["red blood cells", "segmentation"]
        _, widget = viewer.window.add_plugin_dock_widget("napari-dispr", "Predict 3D shapes")
        assert widget.image_choice.layer is viewer.layers["red blood cells"]
        assert widget.labels_choice.layer is viewer.layers["segmentation"]
        assert widget.predict_button.text() == "Predict"
        viewer.open_sample("napari-dispr", "simulated_nuclei_3d")
        stack = viewer.layers["nuclei segmentation"]
        assert stack.ndim == 3 and [str(unit) for unit in stack.units] == ["micrometer"] * 3
