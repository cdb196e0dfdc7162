"""Scores of an ensemble against the true shape. ``morphometry`` has the measures of a single shape."""

import numpy as np
from numpy.typing import NDArray

from napari_dispr.shapes.ensemble import diversity
from napari_dispr.shapes.morphometry import iou

Volume = NDArray[np.bool_]


def energy_score(members: Volume, truth: Volume) -> float:
    """Fair energy score of an ensemble under the distance d = 1 - IoU; 0 is best.

    Parameters
    ----------
    members : (member, z, y, x) bool array
    truth : (z, y, x) bool array

    Returns
    -------
    float
        ``mean_i d(x_i, y) - mean_{i<j} d(x_i, x_j) / 2``. Of a single member, which is a method without
        randomness, ``1 - IoU``. The score of an ensemble can be below 0.

    Notes
    -----
    The expectation is least for an ensemble drawn from the distribution of the truth: the score is proper
    [1]_, since 1 - IoU, the Jaccard distance, is of negative type [2]_. Fair [3]_ means that pairs of a
    member with itself are left out, so that few members and many have the same expectation.

    References
    ----------
    .. [1] Gneiting and Raftery (2007). Strictly proper scoring rules, prediction, and estimation. Journal
       of the American Statistical Association 102(477), section 5.
    .. [2] Gower and Legendre (1986). Metric and Euclidean properties of dissimilarity coefficients.
       Journal of Classification 3(1).
    .. [3] Ferro (2014). Fair scores for ensemble forecasts. Quarterly Journal of the Royal Meteorological
       Society 140(683).
    """
    to_truth = float(np.mean([1.0 - iou(member, truth) for member in members]))
    return to_truth - diversity(members) / 2 if len(members) > 1 else to_truth


def consensus_iou(members: Volume, truth: Volume) -> float:
    """IoU with the truth of the consensus: the voxels that at least half of the members contain."""
    return iou(members.mean(axis=0) >= 0.5, truth)
