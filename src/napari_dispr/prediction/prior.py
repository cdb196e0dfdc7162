"""What a model's card says about a cell before sampling: is it like the training data, how large is it?"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from napari_dispr.card import Card, VolumeLine
from napari_dispr.cells.cropping import INSIDE, Crop
from napari_dispr.cells.features import GROUPS, features
from napari_dispr.cells.heights import known_volume
from napari_dispr.cells.novelty import novelty_reason
from napari_dispr.cells.volume import expected_volume
from napari_dispr.diffusion.representatives import spread_evenly
from napari_dispr.errors import InputError
from napari_dispr.shapes.ensemble import stretched

#: Members are stretched at most by this factor to the volume that known cells give.
_MOST = 4.0
#: Of five consecutive members each takes another quantile (50, 10, 90, 30, 70 %) of a normal distribution.
_QUANTILES = ndtri([spread_evenly(number) for number in range(5)])
#: Of the error of a predicted volume only what exceeds this counts: members differ nearly as much anyway, and
#: where the volume is known so well (spheres) stretching would be visible.
_SMALL = 0.09


class Prior:
    """What the model's card says about one cell before it is sampled.

    The card knows cells of which one section was seen: it does not say how unlike a projection is, and its
    volume is not used where further planes or a projection say more.

    Attributes
    ----------
    unlike : str or None
        How the cell is unlike the training data; None if it is not, or the card has no such data.
    volume : float or None
        Predicted from mask and picture, in voxels; None if the card cannot predict it, or the cell is unlike
        the training data.
    """

    def __init__(self, crop: Crop, card: Card) -> None:
        _check_features(card)
        # With the scale "auto" all cells have one size.
        sized = crop.known_scale is not None
        self.unlike: str | None = None
        self.volume: float | None = None
        self._share = card.volume.share if card.volume else 0.0
        self._factors = np.ones(len(_QUANTILES))
        self._line: VolumeLine | None = None
        self._area = float(np.count_nonzero(crop.mask > INSIDE))
        if crop.picture == "projection":
            return
        if card.heights is not None and not crop.planes:
            self._line = card.heights.sized if sized else card.heights.unsized
        found = features(crop.mask, crop.image) if card.novelty or card.volume else {}
        if card.novelty is not None:
            self.unlike = novelty_reason(card.novelty, found, sized=sized)
        if card.volume is not None and self.unlike is None and not crop.planes:
            self.volume, error = expected_volume(card.volume, found, sized=sized)
            if card.volume.has_errors:
                spread = np.exp(self._share * np.sqrt(max(error**2 - _SMALL**2, 0)) * _QUANTILES)
                self._factors = spread / spread.mean()

    def applied(self, distance: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        """Stretch a member (64, 64, 64) along z: to a volume between its own and the predicted one, and then
        to the volume that the known cells of a calibration give.

        The predicted volume has an error, of which the members take quantiles. A member is stretched by its
        seed alone, so that it does not depend on how many are drawn.
        """
        volume = np.count_nonzero(distance > 0)
        if self.volume is not None and volume:
            factor = self._factors[seed % len(self._factors)]
            distance = stretched(distance, (self.volume / volume) ** self._share * factor)
        if self._line is not None:
            distance = with_known_height(distance, self._line, self._area)
        return distance


def with_known_height(distance: NDArray[np.float32], line: VolumeLine, area: float) -> NDArray[np.float32]:
    """Stretch a member along z to the volume that known cells give a cell whose mask has this area."""
    volume = float(np.count_nonzero(distance > 0))
    if not volume or not area:
        return distance
    return stretched(distance, known_volume(line, area, volume) / volume, _MOST)


def _check_features(card: Card) -> None:
    """Raise an InputError if the card describes cells by other features than this version computes."""
    groups = {} if card.novelty is None else card.novelty.groups
    same = all(usual.names == GROUPS[group] for group, usual in groups.items())
    if not same or (card.volume is not None and len(card.volume.mean) != sum(map(len, GROUPS.values()))):
        raise InputError(
            f"The card of the model {card.name!r} describes other features of cells than this version "
            "computes: get the model again, or update napari-dispr."
        )
