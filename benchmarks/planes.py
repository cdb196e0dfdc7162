"""What each known plane gains, beside interpolation: tables and figure of docs/planes.md.

    python benchmarks/planes.py DATASET --out OUT [--every 1] [--planes 1,2,3,5,9] [--quality fast]

The cells are every fifth of the real red blood cells of each class. The known shapes made from them are taken
away; the network of the shipped model has seen the cells.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from known_shapes import without
from train_red_blood_cell import split

from napari_dispr.cells.folders import read_dataset
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.evaluation.planes import in_planes
from napari_dispr.evaluation.summary import summary_table
from napari_dispr.models.interpolation import INTERPOLATION
from napari_dispr.models.library import load_model
from napari_dispr.models.sampling import as_method
from napari_dispr.settings import PredictSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="red-blood-cell", help="a name or a file")
    parser.add_argument("--planes", default="1,2,3,5,9")
    parser.add_argument("--every", type=int, default=1, help="every nth of these cells (1: all)")
    parser.add_argument("--quality", default="fast")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = load_model(options.model)
    assert isinstance(model, ShapeModel)
    cells = read_dataset(options.dataset, part="train", need_objects=True)
    _, held_out = split(cells)
    held_out = held_out[:: options.every]
    model = without(model, cells, {cell.name for cell in held_out})
    training = {name: note for name, note in model.card.training.items() if name != "fingerprints"}
    model = replace(model, card=model.card.model_copy(update={"training": training}))
    methods = {
        model.name: as_method(model, PredictSettings(quality=options.quality)),
        INTERPOLATION.name: INTERPOLATION,
    }
    counts = [int(count) for count in options.planes.split(",")]
    summary = evaluate(
        held_out, in_planes(methods, counts), members=5, out=options.out, definitions="ours", save_shapes=True
    )
    print(summary_table(summary))


if __name__ == "__main__":
    main()
