"""One synthetic cell: its label and its image, at the spacing of the stack to be made."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TexturedCell:
    """A synthetic cell.

    Parameters
    ----------
    mask : (z, y, x) or (y, x) bool
        The cell, with a margin around it.
    image : float32, of the same shape
        Grey values in the units of the real image; around the cell they fall to its background.
    source : str
        The mask and the seed that made it.
    """

    mask: NDArray[np.bool_]
    image: NDArray[np.float32]
    source: str
