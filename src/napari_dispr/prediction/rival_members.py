"""Draw cells with a rival, which makes one shape of a crop at once: beside `drawing`, for shape models.

Knows rivals by their card and by what they draw, not by kind.
"""

from collections.abc import Generator, Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid, signed_distance
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.errors import InputError
from napari_dispr.prediction.members import CellDone, Clock, Event
from napari_dispr.prediction.prior import Opinion, note_cut, note_unlike
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.version import __version__


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


def iter_rival(
    crops: Sequence[Crop], rival: Rival, settings: PredictSettings, **frame: Any
) -> Generator[Event, None, Prediction]:
    """Draw the shape of each cell, an ensemble of one member; closing the generator cancels.

    Parameters
    ----------
    crops : sequence of Crop
    rival : Rival
    settings : PredictSettings
        Members and quality have no meaning for it, which the prediction's warnings say.
    **frame
        Fields of `Prediction`.

    Yields
    ------
    Step, CellDone

    Returns
    -------
    Prediction
        Its warnings name the cells that the rival cannot draw, and why.

    Raises
    ------
    InputError
        If it can draw none of them.
    """
    prediction = _begun(rival, settings, frame)
    clock = Clock(1)
    reason: InputError | None = None
    for done, crop in enumerate(crops):
        try:
            level, surface = rival.level(crop.mask, crop.image)
        except InputError as error:
            reason = error
            name = prediction.names.get(crop.label, str(crop.label))
            prediction.warnings.append(f"Left out: cell {name}: {error}")
            continue
        opinion = Opinion(crop, rival.card)
        distance = signed_distance.from_level(level, surface, rival.card.truncation)
        affine = grid.pixel_to_world(prediction.image_to_world) @ crop.grid_to_pixel
        shape = opinion.applied(distance)[None]
        ensemble = Ensemble(crop.label, shape, affine, prediction.unit, crop.zoom)
        prediction = prediction.with_cell(ensemble)
        note_unlike(prediction, crop.label, opinion.unlike)
        yield clock.step(crop.label, len(crops) - done)
        clock.end_batch(finished=True)
        yield CellDone(crop.label, ensemble, prediction)
    if reason is not None and not prediction:
        raise reason
    note_cut(prediction)
    return prediction


def _begun(rival: Rival, settings: PredictSettings, frame: dict[str, Any]) -> Prediction:
    """The prediction before its first cell."""
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
