"""``synthesise make`` and ``judge`` on the command line."""

from pathlib import Path

import pandas as pd
import pytest

from napari_dispr.commands.cli import main

TWO_D = ("--size", "48,48", "--spacing", "0.6,0.6", "--cells", "3", "--images", "2")


def test_make_and_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("train", "test", "made")):
        out = ("--out", str(tmp_path / name), "--seed", str(seed))
        assert main(["synthesise", "make", "nuclei", *TWO_D, *out]) == 0
    assert "2 images of 48 x 48 pixels with 6 cells" in capsys.readouterr().out
    folders = [str(tmp_path / name) for name in ("train", "test", "made")]
    options = ("--steps", "1", "--batch", "1", "--crop", "32", "--seeds", "1", "--out", str(tmp_path / "out"))
    assert main(["synthesise", "judge", *folders, *options]) == 0
    assert "| SEG | real | synthetic | both |" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "table.csv")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("lymphocytes",), "no learned model lymphocytes"),
        (("nuclei", "--size", "8"), "size"),
        (("nuclei", "--size", "48,48", "--spacing", "1,1,1"), "--spacing"),
        (("nuclei", "--clustering", "2"), "clustering"),
        (("nuclei", "--images", "0"), "at least 1"),
        (("nuclei", "--seed", "-1"), "--seed"),
        (("nuclei", "--blur", "1"), "blur"),
    ],
)
def test_wrong_options_are_named(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synthesise", "make", *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
