"""``napari-dispr synthesise learn`` as users run it: a model from two files, one line for wrong input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.learning import few_are_made  # noqa: F401

from napari_dispr.commands.cli import main
from napari_dispr.synthesis.annotated import all_annotated
from napari_dispr.synthesis.examples import examples_of
from napari_dispr.synthesis.learned import LearnedSynthesis
from napari_dispr.synthesis.stacks import simulate_stack


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack with two annotated slices, and a 2D image."""
    folder = tmp_path_factory.mktemp("annotated")
    stack = simulate_stack(30, (24, 170, 180), (1.0, 0.5, 0.5), seed=3)
    assert stack.image is not None
    labels = np.zeros_like(stack.labels)
    labels[[8, 15]] = stack.labels[[8, 15]]
    for name, array in (("image", stack.image), ("labels", labels), ("empty", labels * 0)):
        tifffile.imwrite(folder / f"{name}.tif", array)
    tifffile.imwrite(folder / "image2d.tif", stack.image[8])
    tifffile.imwrite(folder / "labels2d.tif", labels[8])
    return folder


def learn(files: Path, image: str, labels: str, out: Path, *more: str) -> int:
    names = (str(files / f"{name}.tif") for name in (image, labels))
    quick = ("--steps", "1", "--batch", "2", "--device", "cpu")
    return main(["synthesise", "learn", *names, "--out", str(out), *quick, *more])


def test_a_model_from_two_slices_and_from_a_picture(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stack.safetensors"
    assert learn(files, "image", "labels", out, "--spacing", "1,0.5,0.5", "--licence", "CC0") == 0
    assert "learned from" in capsys.readouterr().out
    card = LearnedSynthesis.load(out).card
    assert (card.dimensions, card.spacing, card.unit) == (3, (1.0, 0.5, 0.5), "micrometer")
    assert card.licence == "CC0" and card.neighbours and not card.beyond
    flat = tmp_path / "flat.safetensors"
    assert learn(files, "image2d", "labels2d", flat, "--spacing", "0.5,0.5") == 0
    card = LearnedSynthesis.load(flat).card
    assert card.dimensions == 2 and card.spacing == (0.5, 0.5) and not card.neighbours


def test_several_images_with_their_labels(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pairs, and as a folder: the same images."""
    pairs = [str(files / f"{name}.tif") for name in ("image", "labels", "image", "labels")]
    for number in (1, 2):
        for kind in ("image", "labels"):
            path = tmp_path / "both" / kind / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((files / f"{kind}.tif").read_bytes())
    fields = all_annotated(tmp_path / "both", None, (1, 0.5, 0.5), "micrometer")
    for one, other in zip(
        fields, all_annotated(pairs[::2], pairs[1::2], (1, 0.5, 0.5), "micrometer"), strict=True
    ):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.labels, other.labels)
    cells = len({mask.cell for mask in examples_of(fields).masks})
    assert cells == 2 * len({mask.cell for mask in examples_of(fields[:1]).masks})
    quick = ("--steps", "1", "--batch", "2", "--device", "cpu", "--spacing", "1,0.5,0.5")
    out = tmp_path / "a.safetensors"
    assert main(["synthesise", "learn", *pairs, "--out", str(out), *quick]) == 0
    assert LearnedSynthesis.load(out).card.training["cells"] == cells
    capsys.readouterr()
    assert main(["synthesise", "learn", *pairs[:3], "--out", str(tmp_path / "c.safetensors"), *quick]) == 2
    assert "3 paths are given: give each image with its labels" in capsys.readouterr().err


def test_a_channel_is_chosen(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tifffile.imread(files / "image.tif")
    both = np.stack([image[::-1], image], axis=1)
    tifffile.imwrite(files / "both.tif", both.astype(np.uint16), imagej=True, metadata={"axes": "ZCYX"})
    out, spacing = tmp_path / "stack.safetensors", ("--spacing", "1,0.5,0.5")
    assert learn(files, "both", "labels", out, *spacing) == 2
    assert "has 2 channels: give the one that shows the cells, --channel 0 to 1" in capsys.readouterr().err
    assert learn(files, "both", "labels", out, *spacing, "--channel", "1") == 0
    (field,) = all_annotated(files / "image.tif", files / "labels.tif", (1, 0.5, 0.5), "micrometer")
    known = examples_of([replace(field, image=image.astype(np.uint16))])
    assert LearnedSynthesis.load(out).card.light == pytest.approx(known.light)


@pytest.mark.parametrize(
    ("image", "labels", "name", "more", "message"),
    [
        ("image", "empty", "a.safetensors", (), "empty"),
        ("image2d", "labels", "a.safetensors", (), "shape"),
        ("image", "missing", "a.safetensors", (), "no file"),
        ("image", "labels", "a.tif", (), "ends in .safetensors"),
        ("image", "labels", "a.safetensors", ("--spacing", "1,x"), "--spacing"),
        ("image", "labels", "a.safetensors", ("--unit", "mm"), "--unit"),
        ("image", "labels", "a.safetensors", ("--batch", "0"), "batch"),
        ("image", "labels", "a.safetensors", ("--finish",), "no saved run"),
    ],
)
def test_wrong_input_is_one_line(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    image: str,
    labels: str,
    name: str,
    more: tuple[str, ...],
    message: str,
) -> None:
    assert learn(files, image, labels, tmp_path / name, *more) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())
