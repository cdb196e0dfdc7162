"""Evaluation: errors by hand, failures that count, files, seeds, cancelling."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from matplotlib.image import imread

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import (
    Evaluated,
    evaluate,
    iter_evaluate,
)
from napari_dispr.evaluation.summary import summary_table
from napari_dispr.evaluation.truth import member_columns
from napari_dispr.events import Step
from napari_dispr.models.fits import FITS
from napari_dispr.shapes.shapr_set import shapr_measures
from tests.support.methods import FunctionMethod

#: The definitions that take the least time, where these do not matter.
QUICK: dict = {"definitions": "ours"}

Z, Y, X = np.indices(grid.SHAPE, dtype=np.float32)
RADIUS = np.sqrt((Z - 32) ** 2 + (Y - 31.5) ** 2 + (X - 31.5) ** 2)


def ball_cell(name, radius=16):
    obj = (255 * np.clip(radius - RADIUS + 0.5, 0, 1)).astype(np.uint8)
    return CellFile(name, mask=obj[32] / np.float32(255), image=obj[32] / np.float32(255), obj=obj)


def balls(*radii, trained_on=()):
    """Method that draws balls of these radii, as signed distances."""

    def method(mask, image, members, seed):
        assert members == len(radii)
        return np.stack([radius - RADIUS for radius in radii])

    return FunctionMethod(method, trained_on)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_errors_are_those_of_each_member():
    summary = evaluate([ball_cell("a")], {"m": balls(16, 12)}, members=2)
    true, drawn = shapr_measures(RADIUS < 16), shapr_measures(RADIUS < 12)
    method = summary["methods"]["m"]
    assert method["n"] == 2 and method["failed"] == 0
    for name in true:
        error = abs(drawn[name] - true[name]) / true[name]  # the first member is exact
        assert method[name]["mean"] == pytest.approx(error / 2)
        assert method[name]["median"] == pytest.approx(error / 2)
        assert method[name]["percentile_90"] == pytest.approx(0.9 * error)
        assert method[name]["sd"] == pytest.approx(error / np.sqrt(2))
    shrunk = drawn["volume"] / true["volume"]
    assert shrunk < 1
    assert method["signed_volume_bias"] == pytest.approx((shrunk - 1) / 2)
    assert method["iou"]["mean"] == pytest.approx((1 + shrunk) / 2)
    plane = (RADIUS[32] < 12).sum() / (RADIUS[32] < 16).sum()
    assert method["imaged_plane_iou"]["mean"] == pytest.approx((1 + plane) / 2)


def test_imaged_plane_is_compared_with_the_mask_not_with_the_object():
    cell = ball_cell("a")
    cell.mask[:32] = 0
    summary = evaluate([cell], {"m": balls(16)}, members=1, **QUICK)
    assert summary["methods"]["m"]["iou"]["mean"] == 1
    assert summary["methods"]["m"]["imaged_plane_iou"]["mean"] == pytest.approx(0.5)


def test_what_fails_counts_as_error_1_for_every_member():
    def method(mask, image, members, seed):
        if mask.sum() < 400:
            raise InputError("The mask is too small.")
        return np.stack([16 - RADIUS, np.full(grid.SHAPE, -1.0)])  # the second member is empty

    cells = [ball_cell("good"), ball_cell("small", 8)]
    events = iter_evaluate(cells, {"m": FunctionMethod(method)}, members=2)
    failed = [event.failed for event in events]
    assert failed == ["Member 1 is empty.", "The mask is too small."]
    summary = evaluate(cells, {"m": FunctionMethod(method)}, members=2)["methods"]["m"]
    assert summary["n"] == 4 and summary["failed"] == 3
    assert summary["failed_cells"] == {"good": "Member 1 is empty.", "small": "The mask is too small."}
    for name in ("volume", "surface_mesh", "surface_voxel", "roughness_mesh", "roughness_voxel"):
        assert summary[name]["mean"] == 0.75 and summary[name]["median"] == 1
    assert summary["signed_volume_bias"] == -0.75
    assert summary["iou"]["mean"] == summary["imaged_plane_iou"]["mean"] == 0.25


def test_a_fit_that_fails_weighs_no_more_than_one_that_does_not():
    blank = ball_cell("blank")
    blank.mask[:] = 0
    summary = evaluate([ball_cell("ball"), blank], FITS, members=5, **QUICK)
    for name in FITS:
        assert summary["methods"][name]["n"] == 2
        assert list(summary["methods"][name]["failed_cells"]) == ["blank"]


def test_other_errors_are_not_hidden():
    def broken(mask, image, members, seed):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate([ball_cell("a")], {"m": FunctionMethod(broken)})
    with pytest.raises(ValueError, match="drew 1 members, not 3"):
        evaluate([ball_cell("a")], {"m": FunctionMethod(lambda *_: RADIUS[None] < 3)}, members=3)


def test_methods_may_yield_their_progress_and_events_count_up():
    def method(mask, image, members, seed):
        yield "half way"
        return (RADIUS < 16)[None]

    seen, step = [], Step(1, 1, 1, None)
    cells = [ball_cell("a"), ball_cell("b")]
    summary = evaluate(
        cells,
        {"m": FunctionMethod(method), "fit": FITS["cylinder"]},
        members=1,
        progress=seen.append,
        **QUICK,
    )
    assert [replace(one, seconds_left=None) if isinstance(one, Step) else one for one in seen] == [
        step,
        Evaluated("a", "m", 1, 4),
        step,
        Evaluated("a", "fit", 2, 4),
        step,
        Evaluated("b", "m", 3, 4),
        step,
        Evaluated("b", "fit", 4, 4),
    ]
    assert summary["methods"]["m"]["iou"]["mean"] == 1


def test_a_cell_s_seed_depends_on_its_name_and_the_seed_alone():
    def seeds_of(names, seed):
        seen = {}

        def method(mask, image, members, seed):
            seen[int(mask.sum())] = seed
            return (RADIUS < 9)[None]

        evaluate(
            [ball_cell(name, 10 + ord(name) % 7) for name in names],
            {"m": FunctionMethod(method)},
            members=1,
            seed=seed,
            **QUICK,
        )
        return list(seen.values())

    a, b = seeds_of("ab", 0)
    assert a != b
    assert seeds_of("ba", 0) == [b, a]
    assert seeds_of("b", 0) == [b]
    assert seeds_of("b", 1) != [b]


def test_files(tmp_path):
    cells = [ball_cell("one"), ball_cell("two", 20)]
    methods = {"red-blood-cell": balls(16, 12, 0), "cylinder": FITS["cylinder"]}
    summary = evaluate(cells, methods, members=3, seed=4, out=tmp_path / "new", save_shapes=True)
    out = tmp_path / "new"
    tables = ["cells.csv", "errors.csv", "errors.png", "evaluation.json"]
    assert sorted(path.name for path in out.iterdir()) == [*tables, "shapes", "summary.json", "table.md"]
    rows = rows_of(out / "errors.csv")
    assert list(rows[0]) == ["cell", "method", "member", "trained_on", "failed", *member_columns("both")]
    assert [(row["cell"], row["method"], row["member"]) for row in rows] == [
        *[("one", "red-blood-cell", m) for m in "012"],
        ("one", "cylinder", "0"),
        *[("two", "red-blood-cell", m) for m in "012"],
        ("two", "cylinder", "0"),
    ]
    assert rows[0]["iou"] == "1" and rows[0]["failed"] == ""
    assert rows[2]["iou"] == "0" and rows[2]["failed"] == "Member 2 is empty."
    stored = json.loads((out / "summary.json").read_text("utf-8"))
    assert stored == summary
    assert stored["cells"] == 2 and stored["members"] == 3 and stored["seed"] == 4
    column = [float(row["volume"]) for row in rows if row["method"] == "red-blood-cell"]
    assert stored["methods"]["red-blood-cell"]["volume"]["mean"] == pytest.approx(np.mean(column), rel=1e-4)
    drawn = tifffile.imread(out / "shapes" / "red-blood-cell" / "one.tif")
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, np.stack([RADIUS < 16, RADIUS < 12, RADIUS < 0]))
    fit = tifffile.imread(out / "shapes" / "cylinder" / "two.tif")
    assert fit.shape == (1, 64, 64, 64) and fit.max() == 1


def test_cells_that_a_method_was_trained_on_are_marked_and_left_out(tmp_path):
    cells = [ball_cell("seen"), ball_cell("new", 20)]
    method = balls(16, trained_on={cells[0].fingerprint})
    summary = evaluate(cells, {"model": method}, members=1, out=tmp_path, **QUICK)
    rows = rows_of(tmp_path / "errors.csv")
    assert [(row["cell"], row["trained_on"]) for row in rows] == [("seen", "1"), ("new", "0")]
    assert summary["methods"]["model"]["n"] == 1
    assert summary["methods"]["model"]["trained_on"] == ["seen"]
    assert summary["methods"]["model"]["volume"]["median"] == pytest.approx(
        float(rows[1]["volume"]), rel=1e-4
    )
    method = balls(16, trained_on={cell.fingerprint for cell in cells})
    summary = evaluate(cells, {"model": method}, members=1, **QUICK)
    assert summary["methods"]["model"]["n"] == 0
    assert summary["methods"]["model"]["volume"]["median"] is None
    assert "2 cells" in summary_table(summary)


def test_rows_are_on_disk_as_they_come_and_stay_there_when_cancelled(tmp_path):
    closed = []

    def method(mask, image, members, seed):
        try:
            yield "step"
            yield "step"
        except GeneratorExit:
            closed.append(True)
            raise
        return (RADIUS < 16)[None]

    events = iter_evaluate(
        [ball_cell("a"), ball_cell("b")], {"m": FunctionMethod(method)}, members=1, out=tmp_path, **QUICK
    )
    while not isinstance(next(events), Evaluated):
        pass
    assert isinstance(next(events), Step)  # within the second cell
    assert [row["cell"] for row in rows_of(tmp_path / "errors.partial.csv")] == ["a"]
    events.close()
    assert closed == [True]
    left = ["cells.partial.csv", "errors.partial.csv", "evaluation.partial.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_second_run_replaces_the_first_only_when_it_is_complete(tmp_path):
    evaluate([ball_cell("a")], {"m": balls(16)}, members=1, out=tmp_path, **QUICK)
    events = iter_evaluate(
        [ball_cell("b"), ball_cell("c")], {"m": balls(16)}, members=1, out=tmp_path, **QUICK
    )
    next(events)
    assert [row["cell"] for row in rows_of(tmp_path / "errors.csv")] == ["a"]
    for _ in events:
        pass
    assert [row["cell"] for row in rows_of(tmp_path / "errors.csv")] == ["b", "c"]
    assert not (tmp_path / "errors.partial.csv").exists()


def without_object(name):
    cell = ball_cell(name)
    return CellFile(name, cell.mask, cell.image, None)


def with_empty_object(name):
    cell = ball_cell(name)
    return CellFile(name, cell.mask, cell.image, np.zeros_like(cell.obj))


@pytest.mark.parametrize(
    ("cells", "methods", "options", "sentence"),
    [
        ([], {"m": balls(16)}, {}, "no cells"),
        ([ball_cell("a")], {}, {}, "no method"),
        ([ball_cell("a")], {"m": balls(16)}, {"members": 0}, "members cannot be 0"),
        ([ball_cell("a")], {"m": balls(16)}, {"save_shapes": True}, "folder"),
        ([ball_cell("a")], {"m": balls(16)}, {"definitions": "SHAPR"}, "should be 'ours', 'shapr' or 'both'"),
        ([ball_cell("a")], {"m": balls(16)}, {"member": 3}, "no setting 'member'"),
        ([ball_cell("a")], {"m": balls(16)}, {"voxel_size": 0.0}, "greater than 0"),
        ([ball_cell("a"), ball_cell("a")], {"m": balls(16)}, {}, "named a"),
        ([ball_cell("a")], {"../m": balls(16)}, {}, "'../m'"),
        ([without_object("a")], {"m": balls(16)}, {}, "obj/a.tif"),
        ([with_empty_object("a")], {"m": balls(16)}, {}, "obj/a.tif"),
    ],
)
def test_wrong_input_is_one_sentence(cells, methods, options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        evaluate(cells, methods, **{"members": 1, **options})
    assert "\n" not in str(caught.value)


def test_table_for_people_shows_every_method_measure_and_failure():
    blank = ball_cell("blank")
    blank.mask[:] = 0
    methods = {"mine": balls(16, 12), "cylinder": FITS["cylinder"]}
    summary = evaluate([ball_cell("a"), blank], methods, members=2)
    text = summary_table(summary)
    assert "mine: 4 members, 0 failed" in text
    assert "cylinder: 2 members, 1 failed" in text
    assert "failed: blank: The mask is empty" in text
    for measure in member_columns("both"):
        assert text.count(f"\n  {measure} ") == 2
    volume = summary["methods"]["mine"]["volume"]
    assert f"{volume['median']:8.3f}{volume['percentile_90']:8.3f}{volume['mean']:8.3f}" in text
    assert max(map(len, text.splitlines())) <= 100
    # One member has no standard deviation.
    assert "+-" not in summary_table(evaluate([ball_cell("a")], {"mine": balls(16)}, members=1))


def test_fits_of_real_cells(red_blood_cells, tmp_path):
    cells = read_dataset(red_blood_cells, need_objects=True)[::36]
    summary = evaluate(cells, FITS, out=tmp_path, save_shapes=True, **QUICK)
    assert summary["cells"] == 3
    for name in FITS:
        method = summary["methods"][name]
        assert method["n"] == 3 and method["failed"] == 0
        assert 0.3 < method["iou"]["mean"] < 0.7
        saved = sorted(path.stem for path in (tmp_path / "shapes" / name).iterdir())
        assert saved == [cell.name for cell in cells]
    for name in ("cylinder", "cylinder-code"):  # the mask itself
        assert summary["methods"][name]["imaged_plane_iou"]["mean"] == 1


def counted(calls, *radii):
    """Balls of these radii; notes each call, and draws step by step."""

    def method(mask, image, members, seed):
        calls.append(seed)
        yield "step"
        return np.stack([radius - RADIUS for radius in radii])

    return FunctionMethod(method)


def test_an_evaluation_that_was_interrupted_goes_on_where_it_was(tmp_path):
    cells = [ball_cell(name, radius) for name, radius in (("a", 12), ("b", 16), ("c", 20))]
    calls = []
    methods = {"m": counted(calls, 12.5, 15), "cylinder": FITS["cylinder"]}
    options = {"members": 2, "seed": 1, **QUICK}
    evaluate(cells, methods, out=tmp_path / "whole", **options)
    out, whole = tmp_path / "out", calls.copy()
    calls.clear()
    events = iter_evaluate(cells, methods, out=out, resume=True, **options)  # there is nothing to resume yet
    while next(events) != Evaluated("b", "m", 3, 6):
        pass
    events.close()
    # A crash may leave members of a cell whose own row was not written, and half a line.
    lines = (out / "errors.partial.csv").read_text("utf-8").splitlines()
    with (out / "errors.partial.csv").open("a", newline="", encoding="utf-8") as file:
        file.write(lines[-1].replace("b,m,", "b,cylinder,") + "\r\nc,m,0,0")
    for changes in ({"seed": 2}, {"definitions": "shapr"}, {"members": 3}, {"voxel_size": 2.0}):
        with pytest.raises(InputError, match=f"started with other {next(iter(changes)).replace('_', ' ')}"):
            evaluate(cells, methods, out=out, resume=True, **{**options, **changes})
    with pytest.raises(InputError, match="started with other cells"):
        evaluate([*cells[:2], ball_cell("c", 21)], methods, out=out, resume=True, **options)
    seen = []
    evaluate(cells, methods, out=out, resume=True, progress=seen.append, **options)
    assert calls == whole and sum(isinstance(one, Step) and one.total == 1 for one in seen) == 3
    assert seen[-1] == Evaluated("c", "cylinder", 6, 6)
    names = ("errors.csv", "cells.csv", "summary.json", "table.md")
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # What is complete is not drawn again, and stays what it is.
    evaluate(cells, methods, out=out, resume=True, **options)
    assert calls == whole
    assert (out / "cells.csv").read_bytes() == (tmp_path / "whole" / "cells.csv").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "errors.png", "evaluation.json"])


def test_rows_of_cells_have_the_estimate_and_the_members(tmp_path):
    cells = [ball_cell("a"), ball_cell("b", 20)]
    summary = evaluate(cells, {"m": balls(13, 18)}, members=2, out=tmp_path, **QUICK)
    rows, members = rows_of(tmp_path / "cells.csv"), rows_of(tmp_path / "errors.csv")
    true, *drawn = (np.count_nonzero(radius > RADIUS) for radius in (16, 13, 18))
    row = {
        name: value if name in ("cell", "method", "failed") else float(value)
        for name, value in rows[0].items()
    }
    assert (row["cell"], row["members"], row["true_volume"]) == ("a", 2, true)
    assert row["estimate_volume"] == np.mean(drawn)
    assert row["error_volume"] == pytest.approx(abs(np.mean(drawn) / true - 1))
    assert row["member_error_volume"] == pytest.approx(np.mean([abs(one / true - 1) for one in drawn]))
    assert row["iou"] == pytest.approx(np.mean([float(one["iou"]) for one in members[:2]]))
    found = summary["methods"]["m"]
    errors = [float(one["error_volume"]) for one in rows]
    assert found["estimate"]["volume"]["mean"] == pytest.approx(np.mean(errors))
    assert found["energy_score"]["mean"] == pytest.approx(
        np.mean([float(one["energy_score"]) for one in rows])
    )
    low, high = found["volume"]["median_interval"]
    assert low <= found["volume"]["median"] <= high
    assert "surface_mesh" not in rows_of(tmp_path / "errors.csv")[0]  # SHAPR's were not requested


def test_table_for_a_paper(tmp_path):
    cells = [ball_cell(f"c{i}", 10 + i) for i in range(4)]

    def near(mask, image, members, seed):
        """Right but for a voxel of radius, to either side."""
        radius = np.sqrt(mask.sum() / np.pi)
        return np.stack([radius + 1 - RADIUS, radius - 1 - RADIUS])

    methods = {"near": FunctionMethod(near), "ellipsoid-code": FITS["ellipsoid-code"]}
    summary = evaluate(cells, methods, members=2, out=tmp_path, voxel_size=0.5, unit="micrometer")
    text = (tmp_path / "table.md").read_text("utf-8")
    lines = {line.split("|")[1].strip(): line for line in reversed(text.splitlines()) if line.startswith("|")}
    for label in ("volume", "surface area", "roughness, mesh (SHAPR)", "curvature", "IoU", "Dice"):
        assert label in lines
    found = summary["methods"]["near"]["volume"]
    assert f"**{found['median']:.3f}** (**{found['mean']:.3f} ± {found['sd']:.3f}**)" in lines["volume"]
    # For errors without bound the table has only the median.
    wild = summary["methods"]["near"]["curvature_gaussian"]
    assert f"{wild['median']:.3f}" in lines["curvature (SHAPR notebooks)"].split("|")[2]
    assert "±" not in lines["curvature (SHAPR notebooks)"]
    assert "mean surface distance, micrometer" in lines and "## Relative errors of the estimates" in text
    test = next(one for one in summary["paired"] if one["measure"] == "volume")
    assert (test["first"], test["second"], test["n"]) == ("near", "ellipsoid-code", 4)
    assert test["mean"] < 0 and test["wilcoxon_p"] == pytest.approx(2 / 2**4)
    assert test["holm_p"] >= test["wilcoxon_p"] and "## Paired comparisons" in text
    assert "Comparison with the paper's Table 1" in text
    page = imread(tmp_path / "errors.png")
    assert min(page.shape[:2]) > 800 and page[..., :3].min() < 0.1  # something is drawn


def test_predicted_objects_are_no_truth(tmp_path):
    cells = [ball_cell("a"), replace(ball_cell("a1", 12), predicted=True)]
    summary = evaluate(cells, {"m": balls(16)}, members=1, out=tmp_path, **QUICK)
    assert [row["cell"] for row in rows_of(tmp_path / "cells.csv")] == ["a"]
    assert summary["cells"] == 1 and summary["predicted"] == 1
    assert "not tested: 1 more" in summary_table(summary)
    assert "1 more objects of the dataset are predicted ones: never tested" in (
        tmp_path / "table.md"
    ).read_text("utf-8")


def test_who_knows_a_cell_s_object_knows_the_cell():
    def knowing(mask, image, members, seed):
        return (RADIUS < 16)[None]

    knowing = FunctionMethod(knowing, {ball_cell("a").shape_fingerprint})
    bare = replace(ball_cell("a"), image=None)  # another picture of the same object
    assert evaluate([bare, ball_cell("b", 12)], {"m": knowing}, members=1, **QUICK)["methods"]["m"][
        "trained_on"
    ] == ["a"]


def test_a_shape_that_failed_leaves_none_of_an_earlier_evaluation(tmp_path):
    def failing(mask, image, members, seed):
        raise InputError("No.")

    for method in (FITS["cylinder"], FunctionMethod(failing)):
        evaluate(
            [ball_cell("a")],
            {"m": method},
            members=1,
            out=tmp_path,
            save_shapes=True,
            **QUICK,
        )
    assert not list((tmp_path / "shapes").rglob("*.tif"))


def test_a_cell_without_all_its_members_is_drawn_again(tmp_path):
    """A crash between two files of a new evaluation leaves such a folder."""
    cells, calls = [ball_cell("a"), ball_cell("b")], []

    def method(mask, image, members, seed):
        calls.append(seed)
        return np.stack([RADIUS < 16, RADIUS < 15])

    options = {"members": 2, "out": tmp_path, **QUICK}
    whole = evaluate(cells, {"m": FunctionMethod(method)}, **options)
    text = (tmp_path / "errors.csv").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "errors.csv").write_text("".join(text[:-1]), "utf-8")
    assert evaluate(cells, {"m": FunctionMethod(method)}, resume=True, **options) == whole
    assert len(calls) == 3
