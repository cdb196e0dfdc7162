"""``napari-dispr complete``: the cells of a saved prediction as one isotropic stack of labels."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import counted


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "complete", complete, "write the cells of a prediction as one isotropic stack of 3D labels"
    )
    command.add_argument("folder", type=Path, help="folder of a saved prediction, best from several planes")
    command.add_argument(
        "--out", type=Path, required=True, help="folder for labels.ome.tif and uncertainty.ome.tif"
    )


def complete(options: argparse.Namespace) -> None:
    import numpy as np

    from napari_dispr.prediction.completed import LABELS, TITLE, UNCERTAINTY
    from napari_dispr.prediction.completed import complete as completed
    from napari_dispr.prediction.saving import load_prediction

    common.check_folder(options.out, LABELS)
    for name in (LABELS, UNCERTAINTY):  # the user may have labels of this name
        common.check_suffix(options.out / name, ".tif", mark=TITLE)
    stack = completed(load_prediction(options.folder))
    stack.save(options.out)
    if stack.note:
        common.warn(stack.note)
    size = " x ".join(str(length) for length in stack.labels.shape)
    cells = int(np.count_nonzero(np.unique(stack.labels)))
    print(f"{counted(cells, 'cell')} in {size} voxels: {options.out}")
