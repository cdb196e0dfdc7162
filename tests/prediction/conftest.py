"""The shipped model for the tests of predictions."""

import pytest

import napari_dispr as nd


@pytest.fixture(scope="session")
def model() -> nd.ShapeModel:
    return nd.load_model("red-blood-cell")
