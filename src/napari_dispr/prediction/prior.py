"""What a model's card says about a cell before sampling: is it like the training data, how large is it?"""

import numpy as np
from numpy.typing import NDArray

from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.cells.novelty import novelty_reason
from napari_dispr.cells.volume import expected_volume
from napari_dispr.shapes.ensemble import stretched


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
        # With the scale "auto" all cells have one size.
        sized = crop.known_scale is not None
        self.unlike: str | None = None
        self.volume: float | None = None
        self._share = card.volume.share if card.volume else 0.0
        if crop.picture == "projection":
            return
        if card.novelty is not None:
            self.unlike = novelty_reason(card.novelty, crop.mask, crop.image, sized=sized)
        if card.volume is not None and self.unlike is None and not crop.planes:
            self.volume, _ = expected_volume(card.volume, crop.mask, crop.image, sized=sized)

    def applied(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Stretch a member (64, 64, 64) along z: the new volume is between its own and the predicted one.

        Each member is stretched separately, so that it does not depend on how many are drawn.
        """
        volume = np.count_nonzero(distance > 0)
        if self.volume is None or not volume:
            return distance
        return stretched(distance, (self.volume / volume) ** self._share)
