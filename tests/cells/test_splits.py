"""Splits that keep copies together and classes apart, and warnings that name the cells that raise them."""

from dataclasses import replace

import numpy as np
import pytest

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.splits import LEAST, check_cells, real_cells, split_cells
from napari_dispr.errors import InputError

INDEX = np.indices(grid.SHAPE) - np.array([32, 31.5, 31.5]).reshape(3, 1, 1, 1)


def cell(name: str, radius: float = 18.0, offset: tuple[float, float, float] = (0, 0, 0)) -> CellFile:
    z, y, x = INDEX - np.reshape(offset, (3, 1, 1, 1))
    obj = np.rint(255 * np.clip(radius + 0.5 - np.sqrt(z**2 + y**2 + x**2), 0, 1)).astype(np.uint8)
    mask = obj[grid.IMAGED_PLANE].astype(np.float32) / 255
    return CellFile(name, mask, mask * np.float32(0.5), obj)


def named(counts: dict[str, int]) -> list[CellFile]:
    """Different cells of some classes."""
    names = [f"{kind}{number:03d}" for kind, count in counts.items() for number in range(count)]
    return [cell(name, 8 + 16 * i / len(names)) for i, name in enumerate(names)]


def names(cells: list[CellFile]) -> list[str]:
    return [c.name for c in cells]


# --- splits -----------------------------------------------------------------------------------------


def test_every_class_gives_its_share() -> None:
    cells = named({"A_": 30, "B_": 15, "C_": 5})
    training, validation = split_cells(cells)
    assert sorted(names(training + validation)) == sorted(names(cells)) and len(validation) == 10
    kinds = [name[0] for name in names(validation)]
    assert (kinds.count("A"), kinds.count("B"), kinds.count("C")) == (6, 3, 1)
    order = {name: place for place, name in enumerate(names(cells))}
    for part in (training, validation):
        places = [order[name] for name in names(part)]
        assert places == sorted(places)


def test_a_split_depends_on_the_cells_and_the_seed_alone() -> None:
    cells = named({"a": 24})
    first = names(split_cells(cells)[1])
    assert sorted(names(split_cells(cells[::-1])[1])) == sorted(first)
    others = {tuple(names(split_cells(cells, seed=seed)[1])) for seed in range(5)}
    assert len(others) > 3


def test_cells_of_many_names_are_one_class() -> None:
    cells = [replace(c, name=f"{chr(97 + i)}-cell") for i, c in enumerate(named({"a": 10}))]
    chosen = {name for seed in range(20) for name in names(split_cells(cells, seed=seed)[1])}
    assert len(chosen) > 8
    assert len(split_cells(cells)[1]) == 2


@pytest.mark.parametrize("count", [LEAST, 6, 9, 40])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_neither_part_is_empty(count: int, share: float) -> None:
    cells = named({"a": count})
    training, validation = split_cells(cells, share)
    assert training and validation and len(training) + len(validation) == count
    assert len(validation) == min(max(round(share * count), 1), count - 1)


def test_copies_stay_on_one_side() -> None:
    cells = named({"a": 8})
    # The same picture with another object, the same object with another picture, and that under a third name.
    cells += [replace(cells[0], name="b1", obj=cells[1].obj)]
    cells += [replace(c, name=f"c{i}", image=c.mask * np.float32(0.2)) for i, c in enumerate(cells[:8])]
    for seed in range(12):
        training, validation = split_cells(cells, seed=seed)
        for key in ("fingerprint", "obj"):
            sides = [
                {getattr(c, key).tobytes() if key == "obj" else c.fingerprint for c in part}
                for part in (training, validation)
            ]
            assert not sides[0] & sides[1]
        assert ("a000" in names(training)) == ("b1" in names(training)) == ("a001" in names(training))


def test_too_few_cells_are_refused() -> None:
    cells = named({"a": LEAST - 1})
    with pytest.raises(InputError, match=f"only {LEAST - 1} different cells: give at least {LEAST}"):
        split_cells(cells)
    copies = [replace(c, name=f"{c.name}-{i}") for c in cells for i in range(10)]
    with pytest.raises(InputError, match=r"4 different cells \(40 with their copies\)"):
        split_cells(copies)
    with pytest.raises(InputError, match="only 0"):
        split_cells([])


# --- warnings -----------------------------------------------------------------------------------------


def test_no_warnings_about_good_cells() -> None:
    assert check_cells(named({"a": 20})) == []
    without = [replace(c, image=None) for c in named({"a": 20})]
    assert check_cells(without) == []


def test_few_cells() -> None:
    (warning,) = check_cells(named({"a": 7}))
    assert "only 7 cells" in warning


def test_each_warning_names_its_cells() -> None:
    cells = named({"a": 20})
    assert cells[0].obj is not None and cells[1].obj is not None and cells[2].obj is not None
    two_parts = cells[2].obj.copy()
    two_parts[4:9, 4:9, 4:9] = 255
    wrong = [
        cell("border", 20, (14, 0, 0)),
        replace(cells[1], name="shifted", mask=np.roll(cells[1].mask, 6, axis=1)),
        replace(cells[2], name="parts", obj=two_parts),
        replace(cells[3], name="copy"),
        replace(cell("plain", 17.3), image=None),
    ]
    warnings = check_cells(cells + wrong)
    said = (
        "cuts border:",
        "of shifted:",
        "of others: a001 = shifted, a002 = parts and a003 = copy.",
        "labels of parts.",
        "those of plain.",
    )
    assert len(warnings) == len(said)
    for text in said:
        (warning,) = [warning for warning in warnings if text in warning]
        assert warning.endswith(".") and "\n" not in warning


def test_at_most_three_are_named() -> None:
    cells = named({"a": 20}) + [cell(f"b{i}", 19 + i / 9, (15, 0, 0)) for i in range(5)]
    (warning,) = check_cells(cells)
    assert "cuts b0, b1, b2 and 2 more:" in warning
    (warning,) = check_cells(cells[:22])
    assert "cuts b0 and b1:" in warning


def test_parts_that_nearly_touch_and_debris_are_no_warning() -> None:
    cells = named({"a": 20})
    assert cells[0].obj is not None
    split, debris = cells[10].obj, cells[11].obj
    assert split is not None and debris is not None
    split[:, :, 31:33] = 0
    debris[3, 3, 3] = 255
    assert check_cells(cells) == []


# --- predicted objects ------------------------------------------------------------------------------


def test_predicted_objects_are_counted_and_not_compared() -> None:
    cells = named({"a": 20})
    drawn = [replace(c, name=f"{c.name}001", predicted=True) for c in cells[:2]]
    assert check_cells(cells + drawn) == ["2 objects are predicted: only the others validate the model."]
    assert real_cells(cells + drawn) == cells
    with pytest.raises(InputError, match="All objects are predicted"):
        real_cells(drawn)
    with pytest.raises(InputError, match="Two cells are named a000"):
        real_cells([*cells, cells[0]])
