"""What a model is to be trained on, without a window: layers, folders, names, and the start of a run."""

import sys
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels
from support.runs import WAITING

from napari_dispr.cells.folders import DatasetNotes, read_dataset, read_notes, write_dataset
from napari_dispr.cells.stacks import cut_stacks
from napari_dispr.errors import InputError
from napari_dispr.settings import TrainSettings
from napari_dispr.synthesis.stacks import simulate_stack
from napari_dispr.training.run import Run, runs_folder
from napari_dispr.widgets.parts.followed import resume, stop_runs
from napari_dispr.widgets.train.request import (
    DataRequest,
    ModelRequest,
    Progress,
    Spacing,
    TrainingData,
    free_name,
    gather,
    large_picture,
    layers_spacing,
    new_name,
    spacing_of,
    stack_of,
    start_run,
)

STACK = simulate_stack(cells=8, shape=(40, 130, 130), seed=3)


def labels(array=STACK.labels, **frame) -> Labels:
    return Labels(array, name="segmentation", **frame)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return gather(DataRequest(STACK))


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "command", lambda run, finish=False: WAITING.command_of(run))


# --- from layers ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize(
    ("frame", "spacing"),
    [
        ({}, Spacing((1.0, 1.0, 1.0), "pixel")),
        ({"scale": (2, 0.2, 0.2), "units": ("um",) * 3}, Spacing((2.0, 0.2, 0.2), "micrometer")),
        (
            {"scale": (2, 200, 200), "units": ("um", "nm", "nm")},
            Spacing((2000.0, 200.0, 200.0), "nanometer"),
        ),
        (
            {"scale": (2, 0.2, 0.1), "rotate": (10, 20, 30), "translate": (5, 6, 7)},
            Spacing((2.0, 0.2, 0.1), "pixel"),
        ),
        ({"scale": (-1, 0.5, 0.5)}, Spacing((1.0, 0.5, 0.5), "pixel")),
    ],
    ids=["nothing", "micrometer", "mixed units", "turned", "upside down"],
)
def test_spacing_of_a_layer(frame: dict, spacing: Spacing) -> None:
    assert spacing_of(labels(**frame)) == spacing
    assert spacing.is_known == bool(frame)


@pytest.mark.parametrize(
    ("frame", "words"),
    [({"shear": (0.3, 0, 0)}, "is sheared"), ({"units": ("um", "pixel", "pixel")}, "units of length")],
)
def test_layers_in_which_lengths_mean_nothing(frame: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        spacing_of(labels(**frame))


def test_labels_without_a_scale_take_the_pictures() -> None:
    image = Image(STACK.image, scale=(2, 0.2, 0.2), units=("um",) * 3)
    assert layers_spacing(image, labels()) == Spacing((2.0, 0.2, 0.2), "micrometer")
    assert layers_spacing(image, labels(scale=(3, 1, 1))) == Spacing((3.0, 1.0, 1.0), "pixel")
    assert layers_spacing(None, labels()) == Spacing((1.0, 1.0, 1.0), "pixel")
    stated = Spacing((1.5, 0.3, 0.2), "micrometer")
    assert layers_spacing(None, labels(), stated.sides) == stated, "of the file, which napari does not keep"
    assert layers_spacing(image, labels(), stated.sides) == Spacing((2.0, 0.2, 0.2), "micrometer")
    assert layers_spacing(None, labels(), (None, 0.3, 0.2)) == Spacing((1.0, 1.0, 1.0), "pixel")


def test_layers_as_a_stack() -> None:
    layer = labels()
    layer.name = "my / labels: 1"
    stack = stack_of(None, layer, Spacing((2.0, 1.0, 1.0), "pixel"))
    assert (stack.name, stack.image, stack.spacing, stack.unit) == (
        "my - labels- 1",
        None,
        (2, 1, 1),
        "pixel",
    )
    pyramid = Labels([STACK.labels, STACK.labels[:, ::2, ::2]], multiscale=True)
    assert stack_of(None, pyramid, Spacing((1, 1, 1), "pixel")).labels.shape == STACK.labels.shape
    with pytest.raises(InputError, match="Open a 3D label layer"):
        stack_of(None, None, Spacing((1, 1, 1), "pixel"))
    with pytest.raises(InputError, match=r"40 x 130 x 130 voxels and .* 39 x 130 x 130"):
        stack_of(Image(STACK.image), labels(STACK.labels[1:]), Spacing((1, 1, 1), "pixel"))


# --- gathering -----------------------------------------------------------------------------------


def test_cells_of_a_stack(data: TrainingData) -> None:
    cut = cut_stacks([STACK])
    assert [cell.name for cell in data.cells] == [cell.name for cell in cut.cells]
    assert data.folder is None
    assert data.notes == DatasetNotes(
        voxel_size=cut.voxel_size,
        unit="micrometer",
        source=[STACK.name],
        plane="middle",
        left_out=cut.left_out,
    )
    assert data.summary.startswith(
        f"7 cells to train on, a voxel of the model grid is {cut.voxel_size:.3g} µm."
    )
    assert "Left out: 1 cut by the border" in data.summary
    assert data.picture.dtype == np.uint8 and data.picture.shape[2] == 3
    assert large_picture(data).size > data.picture.size


def test_cells_of_a_folder(data: TrainingData, tmp_path: Path) -> None:
    write_dataset(tmp_path, data.cells, data.notes)
    (tmp_path / "test").mkdir()
    found = gather(DataRequest(folder=tmp_path))
    assert (len(found.cells), found.folder, found.notes) == (7, tmp_path, data.notes)
    assert gather(DataRequest(folder=tmp_path / "train")).notes == data.notes
    with pytest.raises(InputError, match="There is no folder"):
        gather(DataRequest(folder=tmp_path / "nothing"))


def test_too_few_cells() -> None:
    few = np.where(STACK.labels <= 4, STACK.labels, 0)
    with pytest.raises(InputError, match="different cells"):
        gather(DataRequest(stack_of(None, labels(few), Spacing(STACK.spacing, "pixel"))))


def test_gathering_is_cancelled() -> None:
    progress = Progress()
    progress.cancelled = True
    with pytest.raises(InputError, match="have changed"):
        gather(DataRequest(STACK), progress)
    assert progress.total and progress.done <= 1


def test_layers_that_cannot_be_read_any_more() -> None:
    class Gone:
        def __array__(self, *args: object) -> np.ndarray:
            raise OSError("the disk was taken away")

    stack = stack_of(None, labels(), Spacing((1, 1, 1), "pixel"))
    object.__setattr__(stack, "labels", Gone())
    with pytest.raises(InputError, match="the disk was taken away"):
        gather(DataRequest(stack))


# --- beginning -----------------------------------------------------------------------------------

MODEL = ModelRequest("nuclei", "generic", "quick", TrainSettings(steps=4), "MIT", "simulated")


def test_a_run_begins_with_its_cells(waiting: None, data: TrainingData) -> None:
    run = start_run(data, MODEL)
    assert run.is_running and run.folder == runs_folder() / "nuclei"
    plan = Run.open(run.folder).plan
    assert (plan.start, plan.preset, plan.licence, plan.data_note) == ("generic", "quick", "MIT", "simulated")
    assert plan.settings == MODEL.settings
    assert len(read_dataset(plan.dataset, need_objects=True)) == 7
    assert read_notes(plan.dataset) == data.notes
    with pytest.raises(InputError, match="being trained"):
        run.delete()
    with pytest.raises(InputError, match="being trained"):
        resume(run, finish=False)
    stop_runs([run])
    resume(run, finish=False)
    stop_runs([run])
    run.delete()
    assert not run.folder.exists()


def test_a_dataset_folder_stays_where_it_is(waiting: None, data: TrainingData, tmp_path: Path) -> None:
    write_dataset(tmp_path, data.cells, data.notes)
    run = start_run(gather(DataRequest(folder=tmp_path)), MODEL)
    assert run.plan.dataset == str(tmp_path)
    stop_runs([run])
    run.delete()
    assert (tmp_path / "train").is_dir()


def test_what_cannot_begin_leaves_nothing(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "command", lambda run, finish=False: [sys.executable + "-none"])
    with pytest.raises(InputError, match="cannot be written"):
        start_run(data, MODEL)
    assert not (runs_folder() / "nuclei").exists()
    assert new_name("nuclei") == "nuclei"


def test_names() -> None:
    assert free_name() == "my-cells"
    (runs_folder() / "My-Cells").mkdir(parents=True)
    assert free_name() == "my-cells-2"
    with pytest.raises(InputError, match="a training run 'my-cells'"):
        new_name("my-cells")
    with pytest.raises(InputError, match="a model 'generic'"):
        new_name(" generic ")
    with pytest.raises(InputError, match="Give the model a name"):
        new_name("  ")
