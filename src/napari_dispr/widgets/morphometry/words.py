"""A column of words, to be sorted and searched fast. No Qt."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of a column, without regard to upper and lower case. Words that occur often count once.

    ``each`` has the different words in alphabetical order, ``places`` the place of each row's word among
    them.
    """

    each: list[str]
    places: NDArray[np.intp]

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        codes, found = pd.factorize(np.asarray(values, dtype=object))
        order = {word: place for place, word in enumerate(sorted({str(word).lower() for word in found}))}
        places = np.array([order[str(word).lower()] for word in found], dtype=np.intp)
        return cls(list(order), places[codes] if len(codes) else codes)

    def equal(self, word: str) -> NDArray[np.bool_]:
        """The rows with this word."""
        return self._rows([one == word.lower() for one in self.each])

    def holding(self, part: str) -> NDArray[np.bool_]:
        """The rows whose word contains this part."""
        return self._rows([part.lower() in one for one in self.each])

    def _rows(self, chosen: list[bool]) -> NDArray[np.bool_]:
        rows: NDArray[Any] = np.array(chosen, dtype=bool)[self.places]
        return rows
