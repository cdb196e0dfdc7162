"""What a ranking gains: worths that can be computed by hand, and of an evaluation."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from support.geometry import ball

from napari_dispr.cells.folders import CellFile, DatasetNotes, write_dataset
from napari_dispr.commands.cli import main
from napari_dispr.evaluation.ranking_worth import worth_of


def test_worth_of_known_errors() -> None:
    errors = np.arange(1.0, 11.0)
    worth = worth_of(errors, errors**2)
    assert worth["error"] == 5.5
    assert worth["correlation"] == pytest.approx(1)
    left = {share: (45, 36, 15)[place] / 10 for place, share in enumerate(("0.1", "0.2", "0.5"))}
    for share, one in worth["shares"].items():
        assert one["ranked"] == one["best"] == pytest.approx(left[share])
        assert one["random"] == pytest.approx(5.5 * (1 - float(share)))
        assert one["random_interval"][0] < one["random"] < one["random_interval"][1]
    assert worth["shares"]["0.5"]["p"] < 0.02
    worst = worth_of(errors, -errors)
    assert worst["shares"]["0.5"]["ranked"] == pytest.approx(4)
    assert worst["shares"]["0.5"]["p"] == 1
    # Gains that say nothing are as good as chance would be: ties stand in the order of the cells.
    assert np.isnan(worth_of(errors, np.ones(10))["correlation"])


def test_worth_of_an_evaluation(tmp_path, capsys) -> None:
    truths = {"a_1": 16.0, "a_2": 16.0, "a_3": 18.0, "a_4": 20.0, "a_5": 22.0}
    drawn = {"a_1": (16, 16), "a_2": (18, 22), "a_3": (18, 18), "a_4": (20, 20), "a_5": (22, 22)}
    cells = []
    for name, radius in truths.items():
        obj = np.rint(255 * np.clip(ball(radius) + 0.5, 0, 1)).astype(np.uint8)
        mask = obj[32].astype(np.float32) / 255
        cells.append(CellFile(name, mask, mask * np.linspace(0.3, 1, 64, dtype=np.float32), obj))
    write_dataset(tmp_path / "cells", cells, DatasetNotes())
    place = tmp_path / "evaluation" / "shapes" / "model"
    place.mkdir(parents=True)
    (place.parent / "fit").mkdir()
    for name, radii in drawn.items():
        members = np.stack([ball(radius) > 0 for radius in radii]).astype(np.uint8)
        tifffile.imwrite(place / f"{name}.tif", members)
        tifffile.imwrite(place.parent / "fit" / f"{name}.tif", members[:1])
    shutil.copytree(place, place.parent / "knowing")
    methods = ("model", "knowing", "fit")
    known = [f"{name},{method},{int(method == 'knowing')}" for name in drawn for method in methods]
    (tmp_path / "evaluation" / "cells.csv").write_text("\n".join(["cell,method,trained_on", *known, ""]))
    command = ["rank", str(tmp_path / "cells"), "--worth", str(tmp_path / "evaluation")]
    assert main([*command, "--out", str(tmp_path / "worth")]) == 0
    assert "20 % (1 of 5)" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "worth" / "worth.csv").set_index("cell")
    # A fit has no ensemble, and no order; what a method was trained on tells nothing.
    assert set(table["method"]) == {"model"}
    assert table["error"].drop("a_2").max() < 0.02
    assert table.loc["a_2", "error"] == pytest.approx((18**3 + 22**3) / 2 / 16**3 - 1, abs=0.02)
    assert table["expected_gain"].idxmax() == "a_2"
    units = pd.read_csv(tmp_path / "worth" / "worth.columns.csv").set_index("column")["unit"]
    assert units["true"] == units["estimate"] == "voxel^3" and units["error"] == "no unit"
    assert (tmp_path / "worth" / "worth.png").stat().st_size > 1000
    shutil.copytree(place, place.parent / "before")
    assert main([*command, "--out", str(tmp_path / "worth")]) == 2
    assert "shapes of before" in (said := capsys.readouterr().err) and said.count("\n") == 1
