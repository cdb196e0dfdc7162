"""Predict with a rival, which draws one shape of a crop at once: the parts that differ from a shape model's.

Knows rivals by their card and what they draw, not by kind; the verb and its events are `prediction`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray

from napari_dispr import __version__, grid, signed_distance
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.errors import InputError
from napari_dispr.opinion import Opinion, note_cut, note_unlike
from napari_dispr.results import Prediction
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Ensemble

_LEFT_OUT = "Left out: cell {}: {}"


class Rival(Protocol):
    """What predicting needs of a rival: `rivals.fits.Fit`, `rivals.shapr.SHAPRModel`."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    @property
    def card(self) -> Card: ...

    def level(self, mask: ArrayLike, image: ArrayLike | None) -> tuple[NDArray[Any], float]:
        """A volume (64, 64, 64), and the level of the shape's surface in it."""
        ...


def begun(rival: Rival, settings: PredictSettings, **frame: Any) -> Prediction:
    """The prediction before its first cell.

    Parameters
    ----------
    rival : Rival
    settings : PredictSettings
        Members and quality have no meaning for it.
    **frame
        Fields of `Prediction`.
    """
    warnings = list(frame.pop("warnings", ()))
    if settings.members > 1:
        warnings.append(
            f"{rival.name} draws one shape a cell, not {settings.members}: the shapes do not say how sure "
            "they are."
        )
    one = {"members": 1, "quality": None, "sampler": None, "steps": None, "device": "cpu"}
    return Prediction(
        {},
        provenance={
            "software": f"napari-dispr {__version__}",
            "model": rival.name,
            "model_hash": rival.hash,
            "method": rival.card.rival,
            "settings": {**settings.model_dump(), "model": rival.name, **one},
            "device": "cpu",
        },
        warnings=warnings,
        **frame,
    )


def with_shape(prediction: Prediction, rival: Rival, crop: Crop) -> Prediction:
    """The prediction with a further cell, an ensemble of one member; or with the reason why there is none."""
    try:
        level, surface = rival.level(crop.mask, crop.image)
    except InputError as error:
        name = prediction.names.get(crop.label, str(crop.label))
        prediction.warnings.append(_LEFT_OUT.format(name, error))
        return prediction
    distance = signed_distance.from_level(level, surface, rival.card.truncation)
    opinion = Opinion(crop, rival.card)
    affine = grid.pixel_to_world(prediction.image_to_world) @ crop.grid_to_pixel
    shape = opinion.applied(distance)[None]
    prediction = prediction.with_cell(Ensemble(crop.label, shape, affine, prediction.unit, crop.zoom))
    note_unlike(prediction, crop.label, opinion.unlike)
    return prediction


def finished(prediction: Prediction, rival: Rival, crops: Sequence[Crop]) -> Prediction:
    """The prediction after its last cell.

    Raises
    ------
    InputError
        If the rival could draw none of the cells.
    """
    if crops and not prediction:
        rival.level(crops[0].mask, crops[0].image)  # says why
    note_cut(prediction)
    return prediction
