"""How few members represent all shapes that are likely.

Members drawn one by one represent them badly if there are only five. Chosen together they do: by kernel
herding (Chen et al. 2010, arXiv 1203.3472) for the energy distance, as support points are (Mak and Joseph
2018, Annals of Statistics 46, 2562).
"""

import numpy as np
from numpy.typing import NDArray

#: Members are chosen from so many candidates; a multiple of 5.
CANDIDATES = 50
#: The digits of `spread_evenly`.
_MIDDLE_FIRST = (2, 0, 4, 1, 3)


def representative(unlike: NDArray[np.floating]) -> list[int]:
    """The order of candidates in which the first ones represent all, from their differences (n, n).

    The first one is in the middle; each further one is near all others and far from those before it.
    """
    usual = unlike.mean(axis=1)
    chosen: list[int] = []
    for count in range(1, len(unlike) + 1):
        cost = usual - unlike[:, chosen].sum(axis=1) / count
        cost[chosen] = np.inf
        chosen.append(int(np.argmin(cost)))
    return chosen


def spread_evenly(number: int) -> float:
    """Van der Corput's sequence in base 5 with permuted digits: about .5, .1, .9, .3, .7 first."""
    share, unit = 0.0, 1.0
    while number:
        number, digit = divmod(number, 5)
        unit /= 5
        share += _MIDDLE_FIRST[digit] * unit
    return share + unit / 2
