"""The report stands alone, says what the tables say, and tells how to make the prediction again."""

import base64
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile
from imageio.v3 import imwrite
from support.predictions import CALIBRATION, ball, prediction_of, rotated

from napari_dispr import grid
from napari_dispr.commands import cli
from napari_dispr.errors import InputError
from napari_dispr.export.html import number
from napari_dispr.export.report import command_line, is_moved, python_call, report
from napari_dispr.planes import KnownPlane
from napari_dispr.prediction.batch_tables import FIELDS
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.predict import predict
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import load_prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.shapes.section import Section

TO_WORLD = rotated(30, 0.1, (5.0, -3.0))


class Page(HTMLParser):
    """What stands in a page: its tags, and its text."""

    void = ("meta", "br")

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(file.read_text("utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def field() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((200, 130), np.uint16)
    y, x = np.indices(labels.shape)
    for label, (cy, cx) in {4: (50, 60), 9: (150, 60)}.items():
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 36**2] = label
    rng = np.random.default_rng(0)
    return (100.0 * (labels > 0) + rng.normal(0, 5, labels.shape)).astype(np.float32), labels


@pytest.fixture
def prediction() -> Prediction:
    cells = (
        ball(4, (50, 60), [20, 18.5, 10], to_world=TO_WORLD),
        ball(9, (150, 60), [12, 14, 13], to_world=TO_WORLD),
    )
    return prediction_of(
        *cells,
        to_world=TO_WORLD,
        image_shape=(200, 130),
        provenance={"model": "<b>bold</b>", "model_hash": "abc123", "settings": {"seed": 3, "members": 3}},
        names={9: "<script>nine"},
        intervals={"volume": CALIBRATION},
        notes=(Note("left out", 2, "cell 2 & others."), Note("unlike", 9, "its picture looks blurred")),
    )


def test_page_stands_alone_and_says_what_the_tables_say(
    tmp_path: Path, prediction: Prediction, field: tuple[np.ndarray, np.ndarray]
) -> None:
    report(prediction, tmp_path / "r.html", *field, title="A & B")
    page = Page(tmp_path / "r.html")
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "link", "iframe", "img"}
    addresses = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src")]
    assert all(value and value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    pictures = [value for value in addresses if value and value.startswith("data:")]
    assert len(pictures) == 1 + 2 * (1 + 1 + 3)  # all; of a cell its crop, the consensus, the members
    assert all(base64.b64decode(value.partition(",")[2]).startswith(b"\x89PNG") for value in pictures)
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {value[1:] for value in addresses if value and value.startswith("#")} <= targets
    table = measure_cells(prediction).set_index("label")
    for label in (4, 9):
        for column in ("volume_mean", "volume_sd", "volume_low", "volume_high", "sphericity_mean"):
            assert number(table[column][label]) in page.text
    for words in ("µm³", "A & B", "<b>bold</b>", "<script>nine", "abc123", "Left out: cell 2 & others."):
        assert words in page.text
    assert page.text.count("its picture looks blurred") == 2
    assert "2 kinds of shape fit: 67\u2009% / 33\u2009%." in page.text
    assert len([tag for tag, attrs in page.tags if attrs.get("class") == "outline"]) == 4


def test_a_cell_with_one_member_is_not_the_most_ambiguous(tmp_path: Path, prediction: Prediction) -> None:
    one = prediction.reject(4, 0).reject(4, 1)
    report(one, tmp_path / "r.html")
    share = measure_cells(one).set_index("label")["ambiguity"]
    assert np.isnan(share[4]) and f"most ambiguous ({share[9]:.2f})" in Page(tmp_path / "r.html").text


def test_numbers_have_three_digits() -> None:
    numbers = {0: "0", 0.0123: "0.0123", -1.5: "-1.50", 99.96: "100", 999.4: "999", 999.6: "1\u202f000"}
    assert {value: number(value) for value in numbers} == numbers
    assert number(123456) == "123\u202f000" and number(np.nan) == number(np.inf) == "–"


def test_page_says_what_was_chosen_by_hand(tmp_path: Path, prediction: Prediction) -> None:
    report(prediction.reject(4, 1).keep(4, 2).keep(9, "consensus"), tmp_path / "r.html")
    text = Page(tmp_path / "r.html").text
    assert "Rejected by hand: member 2; so there is no interval." in text and "Kept: member 3." in text
    assert text.count("✓ kept") == 2 and "Kept: the consensus." in text
    assert "–\u2009–" not in text and "nan" not in text


def test_page_without_a_picture(tmp_path: Path, prediction: Prediction) -> None:
    seen: list[tuple[int, int]] = []
    report(prediction, tmp_path / "r.html", progress=lambda done, total: seen.append((done, total)))
    page = Page(tmp_path / "r.html")
    assert seen == [(1, 2), (2, 2)]
    assert "section in the imaged plane" in page.text and "The picture, with" not in page.text


def test_of_several_planes_each_is_shown(tmp_path: Path, prediction: Prediction) -> None:
    mask = np.zeros(grid.SHAPE[1:], np.float32)
    mask[20:44, 20:44] = 1
    further = (KnownPlane(6.0, mask), KnownPlane(-6.0, 0 * mask, 0 * mask))
    cell = replace(prediction[4], section=Section(mask, mask / 2, planes=further))
    several = prediction.with_cell(cell).with_provenance(depths=[1.0, 2.0, 3.0])
    stack = np.zeros((3, 200, 130), np.uint16)
    stack[1, 20:80, 30:90] = 4
    report(several, tmp_path / "r.html", 10 * stack, stack)
    text = Page(tmp_path / "r.html").text
    assert "The brightest pixels of all planes" in text and "in a few planes only" in text
    heights = [float(z) for z in re.findall(r"plane at z = ([-−.\d]+)", text)]
    step = several[4].spacing[0]
    np.testing.assert_allclose(heights, [-6 * step, 0, 6 * step], rtol=0.01)
    assert text.count("no cell") == 1 and text.count("imaged plane") >= 1
    page = (tmp_path / "r.html").read_text("utf-8")
    (own,) = re.findall(r'<section class="cell" id="cell-4">.*?</section>', page, re.DOTALL)
    assert own.count('<path class="outline"') == 2, "the empty plane has none"


def test_one_member_without_intervals(tmp_path: Path) -> None:
    report(prediction_of(ball(1, (40, 40), [12])), tmp_path / "r.html")
    text = Page(tmp_path / "r.html").text
    assert "interval" not in text and "No warnings" in text and "nan" not in text.lower()


def test_a_picture_that_is_its_labels_is_shown(tmp_path: Path, prediction: Prediction) -> None:
    """Earlier versions predicted from it."""
    labels = np.kron(np.array([[4, 9], [0, 4]]), np.ones((100, 65), int))
    report(prediction, tmp_path / "r.html", labels, labels)
    assert "The picture, with the cells" in Page(tmp_path / "r.html").text


def test_wrong_picture_and_no_cell(tmp_path: Path, prediction: Prediction) -> None:
    with pytest.raises(InputError, match=r"30 x 40 pixels.*200 x 130"):
        report(prediction, tmp_path / "r.html", np.eye(30, 40), np.ones((30, 40), int))
    with pytest.raises(InputError, match="no cell"):
        report(Prediction({}), tmp_path / "r.html")
    with pytest.raises(InputError, match="no column 'volume'"):
        report(prediction, tmp_path / "r.html", measures=measure(prediction, set="shapr"))
    assert not list(tmp_path.iterdir())


def test_crop_shows_the_cell_where_it_was(
    tmp_path: Path, prediction: Prediction, field: tuple[np.ndarray, np.ndarray]
) -> None:
    report(prediction, tmp_path / "r.html", *field)
    page = (tmp_path / "r.html").read_text("utf-8")
    (cell,) = re.findall(r'<section class="cell" id="cell-4">.*?</section>', page, re.DOTALL)
    (path,) = re.findall(r'<path class="outline" d="([^"]*)"', cell)
    points = np.array(
        [[float(n) for n in point.split(",")] for point in re.findall(r"[-.\d]+,[-.\d]+", path)]
    )
    # 36 pixels at half a voxel a pixel and 3 pixels of the crop a voxel, about the middle of the crop.
    np.testing.assert_allclose(np.linalg.norm(points - 96, axis=1), 54, atol=1.5)


def test_numbers_and_units_as_people_write_them() -> None:
    values = [0, 0.01234, 0.5, 3.14159, 99.96, 812.4, 24397.9, -7.0, float("nan")]
    written = ["0", "0.0123", "0.500", "3.14", "100", "812", "24\u202f400", "-7.00", "–"]
    assert [number(value) for value in values] == written
    assert [unit_sign(unit) for unit in ("micrometer^3", "nanometer", "no unit", "pixel^-1")] == [
        "µm³",
        "nm",
        "",
        "pixel⁻¹",
    ]


# --- how to make it again -------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [(), ("image.npy", "labels.png")])
def test_python_call_makes_the_same_prediction(
    tmp_path: Path, field: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, files: tuple
) -> None:
    image, labels = field
    tifffile.imwrite(tmp_path / "IMAGE.tif", image)
    tifffile.imwrite(tmp_path / "LABELS.tif", labels)
    np.save(tmp_path / "image.npy", image)
    imwrite(tmp_path / "labels.png", labels.astype(np.uint8))
    first = predict(
        image,
        labels,
        cells=[9],
        members=2,
        quality="fast",
        seed=5,
        image_to_world=TO_WORLD,
        unit="micrometer",
    )
    assert is_moved(first) and first.intervals
    monkeypatch.chdir(tmp_path)
    described = first.with_provenance(**dict(zip(("image_file", "labels_file"), files, strict=False)))
    names: dict[str, Prediction] = {}
    exec(python_call(described), names)
    again = names["prediction"]
    np.testing.assert_array_equal(again[9].signed_distance, first[9].signed_distance)
    np.testing.assert_array_equal(again[9].grid_to_world, first[9].grid_to_world)
    assert (again.unit, again.provenance, again.intervals) == (first.unit, first.provenance, first.intervals)


def test_planes_without_numbers_are_repeated_by_python(prediction: Prediction) -> None:
    planes = prediction.with_provenance(depths=[0.0, 1.5])
    assert command_line(planes) == "" and "depths=[0.0, 1.5]" in python_call(planes)
    numbered = planes.with_provenance(planes=[2, 5], spacing=[0.5, 0.1, 0.1])
    assert "--planes 2,5 --spacing 0.5,0.1,0.1" in command_line(numbered)


def test_fields_of_a_series_and_without_image_are_repeated_by_python(
    tmp_path: Path, field: tuple[np.ndarray, np.ndarray]
) -> None:
    image, labels = (np.stack([np.roll(one, 9, axis=1), one]) for one in field)
    tifffile.imwrite(tmp_path / "a.tif", image, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "a_mask.tif", labels, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "b_mask.tif", labels[0])
    (tmp_path / "fields.csv").write_text("image,labels\na.tif,a_mask.tif\n,b_mask.tif\n")
    given = ["--members", "1", "--quality", "fast", "--pixel-size", "0.1", "--workers", "0"]
    assert cli.main(["batch", str(tmp_path / "fields.csv"), "--out", str(tmp_path / "out"), *given]) == 0
    folders = sorted((tmp_path / "out" / FIELDS).iterdir())
    assert [folder.name for folder in folders] == ["a_t0", "a_t1", "b_mask"]
    for folder in folders:
        first = load_prediction(folder)
        assert command_line(first) == ""
        names: dict[str, Prediction] = {}
        exec(python_call(first), names)
        again = names["prediction"]
        np.testing.assert_array_equal(again[4].signed_distance, first[4].signed_distance)


def test_command_makes_the_same_prediction_and_the_report(
    tmp_path: Path, field: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("my image.tif", field[0])
    tifffile.imwrite("labels.tif", field[1])
    given = ["--cells", "4", "--members", "1", "--quality", "fast", "--pixel-size", "0.1"]
    assert cli.main(["predict", "my image.tif", "labels.tif", "--out", "a", *given]) == 0
    first = load_prediction("a")
    program, *arguments = shlex.split(command_line(first))
    assert program == "napari-dispr" and not is_moved(first)
    arguments[arguments.index("FOLDER")] = "b"
    assert cli.main(arguments) == 0
    again = load_prediction("b")
    np.testing.assert_array_equal(again[4].signed_distance, first[4].signed_distance)
    assert again.provenance == first.provenance and again.unit == first.unit == "micrometer"
    # The pictures are where they were: the report finds them.
    assert cli.main(["report", "a", "--out", "r.html", "--title", "Run 7"]) == 0
    text = Page(Path("r.html")).text
    assert "The picture, with the cells" in text and "Run 7" in text
    assert "my image.tif'" in text
    Path("my image.tif").unlink()
    assert cli.main(["report", "a", "--out", "r.html"]) == 0
    assert cli.main(["report", "a", "--out", "r.txt"]) == 2
    assert cli.main(["report", "nowhere", "--out", "r.html"]) == 2
