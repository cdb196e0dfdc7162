"""Few members that represent all shapes that are likely."""

import numpy as np

from napari_dispr.diffusion.representatives import representative, spread_evenly


def test_the_first_candidates_have_each_kind_by_its_share():
    """Three of five from a kind of 60 %, and the first one from its middle."""
    places = np.concatenate([np.linspace(-1, 1, 31), np.linspace(9, 11, 20)])
    order = representative(np.abs(places[:, None] - places))
    assert sorted(order) == list(range(51))
    first = places[order[:5]]
    assert np.count_nonzero(first < 5) == 3
    assert 0 < first[0] <= 1, "of its kind the nearest to the others"
    for count in (5, 10, 20):
        assert abs(places[order[:count]].mean() - places.mean()) < 0.35


def test_members_take_quantiles_from_the_middle_outwards():
    np.testing.assert_allclose([spread_evenly(number) for number in range(5)], [0.5, 0.1, 0.9, 0.3, 0.7])
    for first in (0, 50, 10**9 * 50):
        fifths = np.floor([5 * spread_evenly(first + number) for number in range(5)])
        assert sorted(fifths) == [0, 1, 2, 3, 4]
    assert len({round(25 * spread_evenly(number) - 0.5) for number in range(25)}) == 25
