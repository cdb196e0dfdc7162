"""Exported meshes: closed, where napari shows the shape, of the volume of its voxels, in every format."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import trimesh
from support.predictions import ball, prediction_of, rotated

from napari_dispr.commands import cli
from napari_dispr.errors import InputError
from napari_dispr.export.meshes import export_meshes
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import load_prediction
from napari_dispr.shapes.mesh_files import FORMATS, meshes_of_labels, write_mesh
from napari_dispr.shapes.meshes import surface_mesh

#: Micrometers: pixels of 0.1, turned by 30 degrees, far from the origin.
TO_WORLD = rotated(30, 0.1, (500.0, -300.0))


@pytest.fixture
def prediction() -> Prediction:
    cells = (
        ball(4, (50, 60), [20, 18.5, 19], to_world=TO_WORLD),
        ball(9, (150, 60), [12, 14, 9], to_world=TO_WORLD),
    )
    return prediction_of(*cells, to_world=TO_WORLD, provenance={"model": "m"}, names={9: "nine"})


@pytest.mark.parametrize("suffix", FORMATS)
def test_meshes_stand_in_the_world_of_the_image(tmp_path: Path, prediction: Prediction, suffix: str) -> None:
    paths = export_meshes(prediction, tmp_path, suffix)
    assert [path.name for path in paths] == [
        f"{cell}_{shape}.{suffix}"
        for cell in ("4", "nine")
        for shape in ("member-0", "member-1", "member-2", "consensus")
    ]
    table = pd.read_csv(tmp_path / "meshes.csv")
    assert list(table["file"]) == [path.name for path in paths]
    for _, row in table.iterrows():
        mesh = trimesh.load_mesh(tmp_path / row["file"])
        ensemble = prediction[row["label"]]
        consensus = row["shape"] == "consensus"
        voxels = ensemble.consensus if consensus else ensemble.members[int(row["member"])]
        size = ensemble.spacing[0]
        assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
        assert mesh.volume == pytest.approx(voxels.sum() * size**3, rel=0.02)
        assert (row["volume"], row["surface_area"]) == pytest.approx((mesh.volume, mesh.area), rel=1e-3)
        index = np.argwhere(voxels)
        world = (np.c_[index, np.ones(len(index))] @ ensemble.grid_to_world.T)[:, 2::-1]
        np.testing.assert_allclose(mesh.center_mass, world.mean(axis=0), atol=0.1 * size)
        np.testing.assert_allclose(mesh.bounds, [world.min(axis=0), world.max(axis=0)], atol=1.5 * size)
    columns = pd.read_csv(tmp_path / "meshes.columns.csv").set_index("column")
    assert columns.loc["volume", "unit"] == "micrometer^3" and list(columns.index) == list(table.columns)
    made = json.loads((tmp_path / "meshes.json").read_text())
    assert (made["model"], made["unit"], made["axes"]) == ("m", "micrometer", "x, y, z")


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_name_their_unit(tmp_path: Path, prediction: Prediction, suffix: str) -> None:
    (path,) = export_meshes(prediction, tmp_path, suffix, cells=[4], members=[], consensus=True)
    assert b"x, y, z in micrometer" in path.read_bytes()


def test_what_is_chosen_and_what_is_empty(tmp_path: Path) -> None:
    prediction = prediction_of(ball(1, (30, 30), [0, 10]), ball(2, (90, 30), [8, 8]))
    seen: list[tuple[int, int]] = []
    paths = export_meshes(
        prediction,
        tmp_path,
        ".PLY",
        cells=[1],
        members=[1, 0, 1],
        consensus=False,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [path.name for path in paths] == ["1_member-1.ply"] and seen == [(1, 2), (2, 2)]
    table = pd.read_csv(tmp_path / "meshes.csv", keep_default_na=False)
    assert list(table["file"]) == ["1_member-1.ply", ""] and table["volume"][1] == 0
    assert not (tmp_path / "1_member-0.ply").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "step"}, "'step'.*stl, ply, obj, glb"),
        ({"cells": [3, 4]}, "no cell 3 .*: it holds 4, 9"),
        ({"members": [7]}, "no member 7"),
        ({"cells": "49"}, "cells are '49': give them as a list of whole numbers"),
        ({"members": [0.5]}, "members are .* whole numbers"),
        ({"members": b"0"}, "members are .* whole numbers"),
        ({"members": [], "consensus": False}, "no mesh"),
        ({"cells": []}, "no mesh"),
        ({"kept": True}, "No shape was kept"),
    ],
)
def test_wrong_requests_are_one_sentence(
    tmp_path: Path, prediction: Prediction, options: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        export_meshes(prediction, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_changes_nothing(tmp_path: Path, prediction: Prediction) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_meshes(prediction, tmp_path / "out", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path, prediction: Prediction, capsys: pytest.CaptureFixture[str]) -> None:
    prediction.save(tmp_path / "run")
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    given = ["--format", "obj", "--cells", "9", "--members", "0,2", "--no-consensus"]
    assert cli.main(["export", run, "--out", out, *given]) == 0
    assert "2 meshes, in micrometer" in capsys.readouterr().out
    assert sorted(path.name for path in Path(out).glob("*.obj")) == ["nine_member-0.obj", "nine_member-2.obj"]
    for wrong in (["--members", "x"], ["--format", "step"], ["--cells", "1"]):
        assert cli.main(["export", run, "--out", out, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["export", str(tmp_path), "--out", out]) == 2
    assert "no prediction.json" in capsys.readouterr().err


def test_consensus_surface_encloses_the_consensus() -> None:
    for radii in ([20, 10, 15], [20, 10, 15, 12], [14]):
        ensemble = ball(1, (40, 40), radii)
        np.testing.assert_array_equal(ensemble.consensus_distance > 0, ensemble.consensus)


def test_thin_and_tiny_labels_keep_their_volume() -> None:
    z, y, x = np.indices((30, 40, 50))
    labels = np.zeros(z.shape, np.int64)
    labels[(np.abs(z - 15) <= 1) & ((y - 20) ** 2 + (x - 20) ** 2 < 150)] = 2**40
    labels[5, 35, 45] = 3
    labels[0:6, 0:9, 40:50] = 8  # at the border
    affine = np.array([[0.3, 0, 0, 5], [0, 0.08, -0.05, -3], [0, 0.05, 0.08, 100], [0, 0, 0, 1.0]])
    meshes = meshes_of_labels(labels, affine)
    assert set(meshes) == {3, 8, 2**40}
    for label, mesh in meshes.items():
        voxels = np.argwhere(labels == label)
        assert mesh.is_watertight and mesh.volume == pytest.approx(
            len(voxels) * np.linalg.det(affine[:3, :3]), rel=0.005
        )
        np.testing.assert_allclose(mesh.center_mass, (affine @ [*voxels.mean(axis=0), 1])[:3], atol=0.02)


def test_smooth_surface_of_voxels_is_that_of_a_ball() -> None:
    z, y, x = np.indices((50, 50, 50))
    mesh = meshes_of_labels((z - 25) ** 2 + (y - 25) ** 2 + (x - 25) ** 2 < 18**2, np.eye(4))[1]
    area = (36 * np.pi * mesh.volume**2) ** (1 / 3)
    assert mesh.area == pytest.approx(area, rel=0.01)  # stairs would have half as much again


def test_meshes_keep_their_names_in_one_file(tmp_path: Path) -> None:
    meshes = {name: surface_mesh(ball(1, (30, 30), [8]).signed_distance[0]) for name in ("one", "two")}
    write_mesh(tmp_path / "a.glb", meshes, "µ")
    assert set(trimesh.load(tmp_path / "a.glb").geometry) == {"one", "two"}
    write_mesh(tmp_path / "a.obj", meshes)
    assert [line for line in (tmp_path / "a.obj").read_text().splitlines() if line.startswith("o ")] == [
        "o one",
        "o two",
    ]
    with pytest.raises(InputError, match="empty"):
        write_mesh(tmp_path / "b.stl", {"nothing": trimesh.Trimesh()})


def test_files_of_a_plane_in_a_stack_lie_at_its_depth(tmp_path: Path, prediction: Prediction) -> None:
    deep = replace(prediction, provenance={**prediction.provenance, "depth": 7.5})
    for one, folder in ((prediction, "flat"), (deep, "deep")):
        one.save(tmp_path / folder)
        export_meshes(one, tmp_path / folder, "stl", cells=[4], members=[0], consensus=False)
    meshes = [trimesh.load_mesh(tmp_path / folder / "4_member-0.stl") for folder in ("flat", "deep")]
    np.testing.assert_allclose(meshes[1].bounds - meshes[0].bounds, [[0, 0, 7.5]] * 2, atol=1e-3)
    made = [json.loads((tmp_path / folder / "prediction.json").read_text()) for folder in ("flat", "deep")]
    affines = [np.array(one["cells"]["4"]["grid_to_world"]) for one in made]
    np.testing.assert_allclose(affines[1] - affines[0], np.pad([[7.5]], ((0, 3), (3, 0))))
    planes = []
    for folder in ("flat", "deep"):
        with tifffile.TiffFile(tmp_path / folder / "cells" / "4.ome.tif") as file:
            planes.append(float(re.search(r'PositionZ="([^"]+)"', file.ome_metadata or "")[1]))  # type: ignore[index]
    assert planes[1] - planes[0] == pytest.approx(7.5)
    again = load_prediction(tmp_path / "deep")
    np.testing.assert_array_equal(again[4].grid_to_world, prediction[4].grid_to_world)
    np.testing.assert_allclose(again.grid_to_world(4), affines[1])
