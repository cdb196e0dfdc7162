"""Sample and score the validation cells during training, and save a picture of them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_dispr import signed_distance
from napari_dispr.card import Card
from napari_dispr.cells.folders import CellFile
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from napari_dispr.files import written_aside
from napari_dispr.models.sampling import Model
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.scores import consensus_iou, energy_score
from napari_dispr.shapes.shading import shaded
from napari_dispr.training.process_group import ProcessGroup

#: Members of each cell: a full batch on a CPU.
MEMBERS = 5
#: Cells and members in the picture, and its magnification.
_ROWS, _SHOWN, _ENLARGED = 3, 3, 2


@dataclass(frozen=True, slots=True)
class CellScores:
    """Scores of the members of one cell (see `shapes.scores`), and their mean volume per true volume."""

    energy_score: float
    consensus_iou: float
    volume: float

    @classmethod
    def of(cls, members: ArrayLike, truth: NDArray[np.bool_]) -> Self:
        """Score members (n, 64, 64, 64) of booleans."""
        inside = np.asarray(members)
        volume = np.count_nonzero(inside) / len(inside) / np.count_nonzero(truth)
        return cls(energy_score(inside, truth), consensus_iou(inside, truth), volume)


def summary_of(scores: Sequence[CellScores]) -> dict[str, float]:
    """Means over cells, for a card."""
    return {
        "energy_score": rounded_mean([one.energy_score for one in scores]),
        "consensus_iou": rounded_mean([one.consensus_iou for one in scores]),
        **volume_errors([one.volume for one in scores]),
    }


def volume_errors(volumes: Sequence[float]) -> dict[str, float]:
    """Errors of volumes, given relative to the true ones, for a card."""
    errors = np.array(volumes) - 1
    return {
        "volume_error_mean": rounded_mean(np.abs(errors)),
        "volume_error_median": round(float(np.median(np.abs(errors))), 4),
        "volume_bias": rounded_mean(errors),
    }


def rounded_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """For a card: four decimals are enough."""
    return round(float(np.mean(values)), 4)


class Validation:
    """Samples members of the validation cells and scores them. Each process takes its share of the cells.

    ``card`` says how the model is sampled, ``picture`` where to save a picture of some cells. Once ``stop``,
    which is called before each cell, is true, scores are NaN. ``progress`` takes the numbers of scored cells
    and of all cells of this process.
    """

    def __init__(
        self,
        cells: Sequence[CellFile],
        card: Card,
        process: RectifiedFlow | GaussianDiffusion,
        device: torch.device,
        picture: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        self.cells, self.card, self.process = list(cells), card, process
        self.device, self.picture, self.stop, self.progress = device, picture, stop, progress

    def __call__(self, network: UNet3D, group: ProcessGroup) -> NDArray[np.float64]:
        """Energy score and relative error of the members' mean volume, (cell, 2)."""
        model = ShapeModel(network, self.process, self.card)
        table = torch.zeros(len(self.cells), 2, device=self.device)
        sampled = []
        own = group.share(range(len(self.cells)))
        for done, i in enumerate(own):
            if group.rank == 0:
                self.progress(done, len(own))
            if self.stop():
                table[i] = torch.nan
                break
            scores, ensemble = score_cell(model, self.cells[i], "balanced", self.device)
            table[i] = torch.tensor([scores.energy_score, abs(scores.volume - 1)])
            sampled.append((self.cells[i], ensemble))
        network.train().requires_grad_(False)
        group.all_reduce([table])
        if self.picture is not None and group.rank == 0 and sampled:
            with suppress(OSError):  # open in a viewer: the next validation writes it again
                save_picture(self.picture, sampled[:_ROWS])
        return table.double().cpu().numpy()


def score_cell(
    model: Model, cell: CellFile, quality: str, device: torch.device, label: int = 1
) -> tuple[CellScores, Ensemble]:
    """Sample `MEMBERS` members of a cell (one of a method without randomness) and score them.

    Cells of one ``label`` get the same noise.
    """
    settings = PredictSettings(members=MEMBERS, quality=quality, device=str(device))
    events = iter_predict_crops([cell.crop(label)], model, settings, image_to_world=np.eye(3))
    (ensemble,) = [event.ensemble for event in events if isinstance(event, CellDone)]
    return CellScores.of(ensemble.members, cell.known_object > 127), ensemble


def spread(cells: Sequence[CellFile], most: int) -> list[CellFile]:
    """At most ``most`` of the cells, at even steps."""
    places = np.linspace(0, len(cells) - 1, min(most, len(cells))).round().astype(int)
    return [cells[place] for place in places]


def save_picture(path: Path, sampled: Sequence[tuple[CellFile, Ensemble]]) -> None:
    """Save a row for each cell: its image, its truth in grey, and its first members."""
    from matplotlib.image import imsave

    rows = []
    for cell, ensemble in sampled:
        truth = signed_distance.from_level(cell.known_object, 127.5, truncation=8.0)
        shapes = [(truth, (0.85, 0.85, 0.85)), *((m, (0.35, 0.75, 1.0)) for m in ensemble.signed_distance)]
        tiles = [_picture(cell), *(_on_black(shaded(s, colour)) for s, colour in shapes[: _SHOWN + 1])]
        rows.append(np.concatenate(tiles, axis=1))
    page = np.concatenate(rows, axis=0).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    with written_aside(path) as aside:
        imsave(aside, page)


def _picture(cell: CellFile) -> NDArray[np.float32]:
    inside = cell.mask if cell.image is None else cell.mask * cell.image
    return np.repeat((inside / max(float(inside.max()), 1e-6))[..., None], 3, axis=2).astype(np.float32)


def _on_black(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(picture[..., :3] * picture[..., 3:], 0, 1)
