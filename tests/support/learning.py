"""Makes learning quick in tests: it compares two masks and previews two columns."""

from collections.abc import Iterator

import pytest

from napari_dispr.synthesis import learn, learn_preview


@pytest.fixture(scope="module", autouse=True)
def few_are_made() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "COMPARED", 2)
        patch.setattr(learn_preview, "COLUMNS", 2)
        yield
