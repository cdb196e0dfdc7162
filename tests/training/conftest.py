"""A small dataset of simulated cells for the tests of training."""

import pytest
from support.simulated import phantom_file

from napari_dispr.cells.folders import DatasetNotes, write_dataset
from napari_dispr.training import finish


@pytest.fixture(autouse=True, scope="session")
def few_known_shapes():
    """Two versions of each training cell, which are drawn quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "_VERSIONS_OF_EACH", 2)
        yield


@pytest.fixture(scope="session")
def cells():
    return [phantom_file(("discocyte", "stomatocyte")[seed % 2], seed) for seed in range(8)]


@pytest.fixture(scope="session")
def dataset(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells") / "phantoms"
    notes = DatasetNotes(voxel_size=0.2, unit="micrometer", source=["phantoms"])
    write_dataset(folder, cells, notes)
    return folder
