"""A model calibrated with a few known cells: the network stays, what it says about such cells is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import tiny_model
from support.simulated import X, Y, Z

import napari_dispr as nd
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.commands.cli import main
from napari_dispr.errors import InputError
from napari_dispr.events import Step, result_of
from napari_dispr.prediction.predict import iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.training.calibrate import usual_extent


def ellipsoid(name: str, width: float, height: float) -> CellFile:
    """A cell with a textured picture; half axes in voxels."""
    rng = np.random.default_rng(int(10 * width))
    inside = ((Z - 32) / height) ** 2 + (((Y - 31.5) ** 2 + (X - 31.5) ** 2) / width**2)
    obj = (255 * np.clip(0.5 + (1 - np.sqrt(inside)) * height, 0, 1)).astype(np.uint8)
    mask = obj[32].astype(np.float32) / 255
    image = mask * rng.uniform(0.4, 0.6, mask.shape).astype(np.float32)
    return CellFile(name, mask, image, obj)


FLAT = 0.45


@pytest.fixture(scope="module")
def model():
    return nd.load_model("generic")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    cells = [ellipsoid(f"flat{i}", width, FLAT * width) for i, width in enumerate((17, 18, 19, 20, 21, 22))]
    write_dataset(folder, cells, DatasetNotes(voxel_size=0.25, unit="micrometer", source=["stack"]))
    return folder


@pytest.fixture(scope="module")
def calibrated(known, tmp_path_factory):
    """By the command line, which uses the function."""
    out = tmp_path_factory.mktemp("out") / "flat.safetensors"
    options = ["--out", str(out), "--data-note", "made for a test"]
    assert main(["calibrate", "generic", str(known), *options]) == 0
    return nd.load_model(out)


def volume(model, cell: CellFile, sized: bool = True) -> float:
    crop = cell.crop(1) if sized else replace(cell.crop(1), known_scale=None)
    prediction = result_of(
        iter_predict_crops([crop], model, PredictSettings(members=3), image_to_world=np.eye(3))
    )
    return float(prediction[1].members.sum(axis=(1, 2, 3)).mean())


@pytest.mark.parametrize("sized", [True, False])
def test_other_cells_of_this_kind_get_their_volume(model, calibrated, sized):
    cell = ellipsoid("other", 19.5, FLAT * 19.5)
    assert cell.obj is not None
    truth = np.count_nonzero(cell.obj > 127)
    assert volume(model, cell, sized) > 1.25 * truth
    assert volume(calibrated, cell, sized) == pytest.approx(truth, rel=0.12)


def test_the_network_stays(model, calibrated):
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, calibrated.network.state_dict()[name])
    assert calibrated.hash != model.hash


def test_closed_before_its_end_it_writes_nothing(model, known, tmp_path):
    events = nd.iter_calibrate(model, known, tmp_path / "m.safetensors")
    first, second = next(events), next(events)
    assert isinstance(first, Step) and first.done < second.done < second.total
    events.close()
    assert not list(tmp_path.iterdir())


def test_the_card_says_what_it_is(calibrated, known):
    card = calibrated.card
    assert card.name == "flat" and "generic, calibrated with 6 known cells" in card.description
    assert "made for a test" in card.attribution
    assert card.voxel_size == 0.25 and card.unit == "micrometer"
    assert 38 <= card.typical_extent <= 40  # the sides of the masks at the median
    assert card.training["calibrated"]["cells"] == [f"flat{i}" for i in range(6)]
    assert {cell.fingerprint for cell in read_dataset(known)} <= card.seen
    assert card.scores["true_size"]["volume_error_median"] < card.scores["before"]["volume_error_median"]
    assert card.novelty is not None and card.novelty.cells == 6
    assert card.intervals["volume"].cells == 6


def test_tall_cells_are_small_enough_for_the_grid():
    tall = [ellipsoid(f"tall{i}", 12.5, 29) for i in range(3)]
    assert usual_extent([*tall, ellipsoid("flat", 20, 8)]) == 24
    # At their own size they fit, at the size of most others they would not.
    assert usual_extent([tall[0], *(ellipsoid(f"flat{i}", 20, 8) for i in range(3))]) < 32


def test_a_model_that_is_not_calibrated_has_its_old_hash():
    """Saved predictions refer to it."""
    assert tiny_model().hash == "80a9edfbc1e51b83f11078e528595919e018fe6c8452bfc6a2648447620900b7"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generic", "{known}"], "either --out NAME.safetensors or --name"),
        (["generic", "{known}", "--out", "model.pt"], "ends in .safetensors"),
        (["generic", "nowhere", "--out", "m.safetensors"], "no folder nowhere"),
        (["ellipsoid", "{known}", "--out", "m.safetensors"], "cannot be calibrated"),
        (["generic", "{known}", "--name", "red-blood-cell"], "already"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, said, known, capsys):
    assert main(["calibrate", *(text.format(known=known) for text in arguments)]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1


def test_too_few_cells(model, tmp_path):
    write_dataset(tmp_path, [ellipsoid(f"c{i}", 12 + i, 15) for i in range(4)], DatasetNotes())
    with pytest.raises(InputError, match="only 4 different cells: give at least 5"):
        nd.calibrate(model, tmp_path, tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()
