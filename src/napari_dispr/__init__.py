"""napari-dispr: ensembles of 3D cell shapes from one 2D microscopy picture and its segmentation.

The public API. Names are looked up on first use, so that ``import napari_dispr`` (which napari and the
command line do at every start) loads neither torch nor Qt nor napari.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dispr.balancing import augment, iter_augment
    from napari_dispr.classification import PredictedShapes, classify, iter_classify
    from napari_dispr.cross_validation import cross_validate, iter_cross_validate
    from napari_dispr.diffusion.model import ShapeModel, import_dispr_checkpoint
    from napari_dispr.errors import InputError
    from napari_dispr.evaluation import evaluate, iter_evaluate
    from napari_dispr.export import export_meshes
    from napari_dispr.library import available_models, export_model, import_model, load_model, remove_model
    from napari_dispr.prediction import iter_predict, predict
    from napari_dispr.ranking import iter_rank_worth, rank_cells
    from napari_dispr.redrawing import (
        iter_more_members,
        iter_redraw_members,
        more_members,
        redraw_members,
    )
    from napari_dispr.replaying import denoising, iter_denoising
    from napari_dispr.reporting import report
    from napari_dispr.results import Prediction, load_prediction, measure, measure_cells
    from napari_dispr.shapes.label_volumes import measure_labels
    from napari_dispr.training import iter_train, train

__version__ = "0.1.0"

#: Where each public name lives. A new one is a line here and one above.
_HOME = {
    "InputError": "errors",
    "PredictedShapes": "classification",
    "Prediction": "results",
    "ShapeModel": "diffusion.model",
    "augment": "balancing",
    "available_models": "library",
    "classify": "classification",
    "cross_validate": "cross_validation",
    "denoising": "replaying",
    "evaluate": "evaluation",
    "export_meshes": "export",
    "export_model": "library",
    "import_dispr_checkpoint": "diffusion.model",
    "import_model": "library",
    "iter_augment": "balancing",
    "iter_classify": "classification",
    "iter_cross_validate": "cross_validation",
    "iter_denoising": "replaying",
    "iter_evaluate": "evaluation",
    "iter_more_members": "redrawing",
    "iter_predict": "prediction",
    "iter_rank_worth": "ranking",
    "iter_redraw_members": "redrawing",
    "iter_train": "training",
    "load_model": "library",
    "load_prediction": "results",
    "measure": "results",
    "measure_cells": "results",
    "measure_labels": "shapes.label_volumes",
    "more_members": "redrawing",
    "predict": "prediction",
    "rank_cells": "ranking",
    "redraw_members": "redrawing",
    "remove_model": "library",
    "report": "reporting",
    "train": "training",
}

__all__ = [
    "InputError",
    "PredictedShapes",
    "Prediction",
    "ShapeModel",
    "__version__",
    "augment",
    "available_models",
    "classify",
    "cross_validate",
    "denoising",
    "evaluate",
    "export_meshes",
    "export_model",
    "import_dispr_checkpoint",
    "import_model",
    "iter_augment",
    "iter_classify",
    "iter_cross_validate",
    "iter_denoising",
    "iter_evaluate",
    "iter_more_members",
    "iter_predict",
    "iter_rank_worth",
    "iter_redraw_members",
    "iter_train",
    "load_model",
    "load_prediction",
    "measure",
    "measure_cells",
    "measure_labels",
    "more_members",
    "predict",
    "rank_cells",
    "redraw_members",
    "remove_model",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
