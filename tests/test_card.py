"""What a card may hold: statistics that belong together and can be computed with."""

import copy
import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from napari_dispr.card import Card
from napari_dispr.cells.cropping import crop_cell
from napari_dispr.errors import InputError
from napari_dispr.models.library import read_card
from napari_dispr.prediction.prior import Prior

WHOLE = json.loads(read_card("red-blood-cell").model_dump_json(by_alias=True))
#: Stands for an entry that is removed.
GONE = object()


def changed(path: str, value: Any) -> str:
    """The card as JSON, with another value at a path."""
    card = copy.deepcopy(WHOLE)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    node = card
    for part in way:
        node = node[part]
    if value is GONE:
        del node[last]
    else:
        node[last] = value
    return json.dumps(card)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("intervals/volume/floor", 1e160),
        ("intervals/volume/scores/3", -1e300),
        ("familiarity/groups/shape/sd/3", 0),
        ("familiarity/groups/shape/mean/5", GONE),
        ("familiarity/groups/size/whitening", []),
        ("familiarity/groups/picture/whitening/2/16", GONE),
        ("familiarity/groups/picture/unit", 0),
        ("familiarity/groups/shape", GONE),
        ("familiarity/groups/picture", GONE),
        ("familiarity/directions/strange/weights/20", GONE),
        ("familiarity/directions/inverted/weights/3", -1e308),
        ("familiarity/thresholds/shape+picture", GONE),
        ("familiarity/thresholds/shape", 0),
        ("volume/cells/3", [0.0]),
        ("volume/weights/shape", GONE),
        ("volume/weights/shape/of_cells/7", GONE),
        ("volume/weights/shape/length", 0),
    ],
)
def test_damaged_statistics_are_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Card.model_validate_json(changed(path, value))


@pytest.mark.parametrize("part", ["familiarity", "volume"])
def test_statistics_of_other_features_are_named(part: str) -> None:
    card = copy.deepcopy(WHOLE)
    if part == "volume":
        for row in (card["volume"]["mean"], card["volume"]["sd"], *card["volume"]["cells"]):
            row.append(1.0)
    else:
        card["familiarity"]["groups"]["shape"]["names"][0] = "another"
    labels = np.pad(np.ones((20, 30), int), 5)
    crop = crop_cell(None, labels, 1, zoom=1.5)
    with pytest.raises(InputError, match=r"red-blood-cell.*other features"):
        Prior(crop, Card.model_validate(card))
