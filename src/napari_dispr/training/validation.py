"""Members of cells that are kept apart while training, their scores, and a picture of them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr import signed_distance
from napari_dispr.card import Card
from napari_dispr.cells.folders import CellFile
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from napari_dispr.files import written_aside
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.scores import consensus_iou, energy_score
from napari_dispr.shapes.shading import shaded
from napari_dispr.training.crew import Crew

if TYPE_CHECKING:
    from napari_dispr.models.library import Model

#: Members that are drawn of each cell: as many as go through the network at once on a CPU.
MEMBERS = 5
#: Cells and members in the picture, and its enlargement.
_ROWS, _SHOWN, _ENLARGED = 3, 3, 2


@dataclass(frozen=True, slots=True)
class CellScores:
    """How the members of one cell do against its truth.

    Attributes
    ----------
    energy_score, consensus_iou : float
        See `shapes.scores`.
    volume : float
        Mean volume of the members over the true one.
    """

    energy_score: float
    consensus_iou: float
    volume: float


class Validation:
    """Draws the members of some cells and scores them; all processes of a crew take their share.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects, and never trained on.
    card : Card
        Of the model to be, as far as drawing needs it.
    process : RectifiedFlow or GaussianDiffusion
    device : torch.device
    picture : Path or None
        Where to draw some cells after each validation.
    stop : callable
        Asked before each cell; scores are NaN from then on.
    """

    def __init__(
        self,
        cells: Sequence[CellFile],
        card: Card,
        process: RectifiedFlow | GaussianDiffusion,
        device: torch.device,
        picture: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.cells, self.card, self.process = list(cells), card, process
        self.device, self.picture, self.stop = device, picture, stop

    def __call__(self, network: UNet3D, crew: Crew) -> NDArray[np.float64]:
        """Energy score, and relative error of the members' mean volume, of each cell: (cell, 2)."""
        model = ShapeModel(network, self.process, self.card)
        table = torch.zeros(len(self.cells), 2, device=self.device)
        drawn = []
        for i in crew.share(range(len(self.cells))):
            if self.stop():
                table[i] = torch.nan
                break
            scores, ensemble = score_cell(model, self.cells[i], "balanced", self.device)
            table[i] = torch.tensor([scores.energy_score, abs(scores.volume - 1)])
            drawn.append((self.cells[i], ensemble))
        network.train().requires_grad_(False)
        crew.add_up([table])
        if self.picture is not None and crew.rank == 0 and drawn:
            with suppress(OSError):  # somebody looks at it: there will be another one
                save_picture(self.picture, drawn[:_ROWS])
        return table.double().cpu().numpy()


def score_cell(
    model: "Model", cell: CellFile, quality: str, device: torch.device
) -> tuple[CellScores, Ensemble]:
    """Draw `MEMBERS` members of a cell of a dataset, of a rival its one shape, and score them."""
    assert cell.obj is not None
    settings = PredictSettings(members=MEMBERS, quality=quality, device=str(device))
    events = iter_predict_crops([cell.crop(1)], model, settings, image_to_world=np.eye(3))
    (ensemble,) = [event.ensemble for event in events if isinstance(event, CellDone)]
    truth = cell.obj > 127
    volume = np.mean([np.count_nonzero(member) for member in ensemble.members]) / np.count_nonzero(truth)
    members = ensemble.members
    return CellScores(energy_score(members, truth), consensus_iou(members, truth), float(volume)), ensemble


def spread(cells: Sequence[CellFile], most: int) -> list[CellFile]:
    """At most so many of the cells, evenly from all of them."""
    places = np.linspace(0, len(cells) - 1, min(most, len(cells))).round().astype(int)
    return [cells[place] for place in places]


def save_picture(path: Path, drawn: Sequence[tuple[CellFile, Ensemble]]) -> None:
    """A row a cell: its picture, its truth in grey, and the first members."""
    from matplotlib.image import imsave

    rows = []
    for cell, ensemble in drawn:
        assert cell.obj is not None
        truth = signed_distance.from_level(cell.obj, 127.5, truncation=8.0)
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
