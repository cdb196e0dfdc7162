"""The loss of topological SHAPR: the distance between persistence diagrams of predicted and true shapes.

Needs GUDHI (the extra ``topo``), which is imported at first use.

Reference: Waibel, Atwell, Meier, Marr and Rieck (2022). Capturing shape information with multi-scale
topological loss terms for 3D reconstruction. MICCAI.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

#: Side of the volumes that are compared, which are means over blocks of the model grid.
SIDE = 16


def topological_loss(probabilities: Tensor, truth: Tensor, dimension: int = 2) -> Tensor:
    """Mean Wasserstein-2 distance between the persistence diagrams of predicted and true shapes, (B, 1, 64,
    64, 64) in [0, 1].

    Values are high inside a shape, and a diagram lists the levels at which holes of {volume <= level} appear
    and disappear: in dimension 2 of the homology the shape's parts, in dimension 0 its cavities. The gradient
    acts on the voxels at which holes appear and disappear.
    """
    predicted, true = (F.adaptive_avg_pool3d(shapes.float(), SIDE)[:, 0] for shapes in (probabilities, truth))
    distances = [
        wasserstein_distance(persistence_diagram(d, dimension), persistence_diagram(t, dimension))
        for d, t in zip(predicted, true, strict=True)
    ]
    return torch.stack(distances).mean()


def persistence_diagram(volume: Tensor, dimension: int) -> Tensor:
    """Births and deaths (n, 2) of the holes of {volume <= level}, a cubical complex, as the level rises.

    Differentiable: each birth and each death is the value of one voxel. Holes that never die are left out.
    """
    from gudhi import CubicalComplex

    complex_ = CubicalComplex(top_dimensional_cells=volume.detach().cpu().double().numpy())
    complex_.compute_persistence()
    pairs, _ = complex_.cofaces_of_persistence_pairs()
    if len(pairs) <= dimension:
        return volume.new_zeros(0, 2)
    # GUDHI numbers voxels with the first axis fastest.
    voxels = volume.permute(2, 1, 0).reshape(-1)
    places = torch.from_numpy(np.asarray(pairs[dimension], np.int64)).to(volume.device)
    return voxels[places]


def wasserstein_distance(first: Tensor, second: Tensor) -> Tensor:
    """Wasserstein-2 distance of two diagrams (n, 2) and (m, 2) in the maximum norm; differentiable.

    Each point is matched with a point of the other diagram or with the diagonal, so that the sum of squared
    distances is minimal. The distance is its root.
    """
    alone_first, alone_second = _to_diagonal(first), _to_diagonal(second)
    total = alone_first.sum() + alone_second.sum()
    if len(first) and len(second):
        # How much a pair reduces the distance, compared with matching both to the diagonal.
        a, b = (points.detach().cpu().double().numpy() for points in (first, second))
        c, d = (alone.detach().cpu().double().numpy() for alone in (alone_first, alone_second))
        gain = np.minimum(cdist(a, b, "chebyshev") ** 2 - c[:, None] - d[None, :], 0)
        rows, columns = linear_sum_assignment(gain)
        paired = gain[rows, columns] < 0
        i, j = (torch.from_numpy(places[paired]).to(first.device) for places in (rows, columns))
        distance = (first[i] - second[j]).abs().amax(1) ** 2
        total = total + (distance - alone_first[i] - alone_second[j]).sum()
    # Rounding leaves a rest of sums that cancel, and the root has no gradient at 0.
    return total.sqrt() if total > 1e-12 else total * 0


def _to_diagonal(points: Tensor) -> Tensor:
    """Squared distance of each point to the diagonal."""
    return ((points[:, 1] - points[:, 0]) / 2) ** 2
