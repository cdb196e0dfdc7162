"""What a plane chosen by the members is worth: errors after it, and after fixed and random second planes.

    python benchmarks/next_plane.py DATASET --model M [--members 10] [--quality fast]

DATASET has cells of known shape that the model was not trained on.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.models.library import load_model
from napari_dispr.models.method import Method
from napari_dispr.models.sampling import as_method
from napari_dispr.planes import KnownPlane
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.next_plane import plane_gains
from napari_dispr.shapes.scores import consensus_iou, energy_score


def drawn(cell: CellFile, method: Method, settings: PredictSettings, depths: list[int]) -> Ensemble:
    """The ensemble of a cell with sections at these depths in voxels."""
    assert cell.obj is not None
    planes = (
        KnownPlane(depth, (grid.section(cell.obj, depth) / np.float32(255)).astype(np.float32))
        for depth in depths
    )
    crop = replace(cell.crop(1), planes=tuple(planes))
    events = iter_predict_crops([crop], method, settings, image_to_world=np.eye(3))
    return next(event.ensemble for event in events if isinstance(event, CellDone))


def scores(ensemble: Ensemble, truth: np.ndarray) -> dict[str, float]:
    """IoU of the consensus, energy score and relative error of the volume."""
    volume = ensemble.members.sum(axis=(1, 2, 3)).mean()
    return {
        "consensus IoU": consensus_iou(ensemble.members, truth),
        "energy score": energy_score(ensemble.members, truth),
        "volume": abs(volume - truth.sum()) / truth.sum(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--quality", default="fast")
    options = parser.parse_args()
    settings = PredictSettings(members=options.members, quality=options.quality)
    method = as_method(load_model(options.model), settings)
    rng = np.random.default_rng(0)
    rows = []
    for cell in read_dataset(options.dataset, need_objects=True):
        if cell.is_among(method.card.seen):
            continue
        assert cell.obj is not None
        truth, first = cell.obj > 127, drawn(cell, method, settings, [])
        rows.append({"second plane": "none", **scores(first, truth)})
        inside = grid.depths_inside(first.members.any(axis=0))
        choices = {
            "chosen": round(plane_gains(first).depth[plane_gains(first).best]),
            "8 above": 8,
            "8 below": -8,
            "random": int(rng.choice(inside[np.abs(inside) > 1])),
        }
        for name, depth in choices.items():
            rows.append({"second plane": name, **scores(drawn(cell, method, settings, [depth]), truth)})
        print(f"{cell.name}: {choices}", flush=True)
    table = pd.DataFrame(rows).groupby("second plane", sort=False).agg(["mean", "sem"])
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
