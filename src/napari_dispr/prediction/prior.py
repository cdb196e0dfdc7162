"""What a model's card tells of a cell beside the shapes that are drawn: is it like those the model was
trained on, and how large should it be? Knows cards and crops, no network.
"""

import numpy as np
from numpy.typing import NDArray

from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.cells.novelty import in_words, novelty_reason
from napari_dispr.cells.volume import expected_volume
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import stretched

#: Voxels of a member in one face of the grid from which on its measures suffer.
LEAST_CUT = 100
#: By these words the warning of it is known.
_CUT = "are cut by the border of the model's grid"


class Opinion:
    """Of one cell.

    Attributes
    ----------
    unlike : str or None
        What is unusual about the cell, in words; None where nothing is, or the card cannot say.
    volume : float or None
        In voxels, as far as mask and picture tell by themselves. None where the card cannot say, or the
        cell is unlike those from which it could.
    """

    def __init__(self, crop: Crop, card: Card) -> None:
        # Under the scale "auto" all cells are of one size.
        sized = crop.known_scale is not None
        self.unlike: str | None = None
        self.volume: float | None = None
        self._share = card.volume.share if card.volume else 0.0
        if card.novelty is not None:
            self.unlike = novelty_reason(card.novelty, crop.mask, crop.image, sized=sized)
        if card.volume is not None and self.unlike is None:
            self.volume, _ = expected_volume(card.volume, crop.mask, crop.image, sized=sized)

    def applied(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """A member (64, 64, 64), stretched along z to where its own volume and the expected one meet.

        Each by itself, so that a member does not depend on how many others are drawn.
        """
        volume = np.count_nonzero(distance > 0)
        if self.volume is None or not volume:
            return distance
        return stretched(distance, (self.volume / volume) ** self._share)


def note_unlike(prediction: Prediction, label: int, reason: str | None) -> None:
    """Note what is unusual about a cell, and say so in the prediction's warnings.

    What they said of the cells before is said anew: many cells are one sentence.
    """
    before = in_words(_by_name(prediction), len(prediction) - 1)
    if reason is not None:
        prediction.unlike[label] = reason
    said = [warning for warning in prediction.warnings if warning not in before]
    prediction.warnings[:] = [*said, *in_words(_by_name(prediction), len(prediction))]


def note_cut(prediction: Prediction) -> None:
    """Say in the warnings which cells have members that the border of the grid cuts.

    What they said of that before is said anew: members may have gone, and others come.
    """
    cut = []
    for label, ensemble in prediction.ensembles.items():
        inside = ensemble.members
        faces = [inside.take(end, axis=axis) for axis in (1, 2, 3) for end in (0, -1)]
        if max(face.sum(axis=(1, 2)).max() for face in faces) > LEAST_CUT:
            cut.append(prediction.names.get(label, str(label)))
    prediction.warnings[:] = [warning for warning in prediction.warnings if _CUT not in warning]
    if cut:
        listed = ", ".join(cut[:20]) + (" and others" if len(cut) > 20 else "")
        prediction.warnings.append(
            f"Members of {'cell' if len(cut) == 1 else 'cells'} {listed} {_CUT}, so that their measures are "
            "too small: for cells of a picture give a smaller scale."
        )


def _by_name(prediction: Prediction) -> dict[str, str]:
    return {prediction.names.get(label, str(label)): text for label, text in prediction.unlike.items()}
