"""One model with the mean of the weights of several that were fine-tuned from the same one.

    python benchmarks/average_models.py A/model.safetensors B/model.safetensors --out RUN/model.safetensors
    ... --held-out DATASET --fold 2      # and predict the held-out cells of this fold, into RUN

Models that were fine-tuned from the same model can be averaged, and the mean has smaller errors than each of
them (Wortsman et al. 2022, "Model soups", arXiv 2203.05482). The card is that of the first model; its list of
runs has the runs of all.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from train_red_blood_cell import predict_held_out, split

from napari_dispr.cells.folders import read_dataset
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError


def averaged(models: list[ShapeModel]) -> ShapeModel:
    """The mean of the weights; all models need the same network and the same training cells."""
    first, *others = models
    for other in others:
        if other.network.config != first.network.config:
            raise InputError(
                f"{other.name} has another network than {first.name}: average models of one kind."
            )
        if other.card.training["fingerprints"] != first.card.training["fingerprints"]:
            raise InputError("The models were trained on different cells: average models of the same cells.")
    states = [model.network.state_dict() for model in models]
    mean = {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
    first.network.load_state_dict(mean)
    runs = [run for model in models for run in model.card.training["runs"]]
    runs = [run for i, run in enumerate(runs) if run not in runs[:i]]
    card = first.card.model_copy(update={"training": {**first.card.training, "runs": runs}})
    return replace(first, card=card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, help="dataset whose held-out cells are predicted")
    parser.add_argument("--fold", type=int, default=2, choices=range(5))
    options = parser.parse_args()
    averaged([ShapeModel.load(path) for path in options.models]).save(options.out, torch.float16)
    if options.held_out:
        cells = read_dataset(options.held_out, part="train", need_objects=True)
        predict_held_out(ShapeModel.load(options.out), split(cells, options.fold)[1], options.out.parent)


if __name__ == "__main__":
    main()
