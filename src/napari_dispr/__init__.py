"""napari-dispr: ensembles of 3D cell shapes from one 2D microscopy picture and its segmentation.

The public API. Names are looked up on first use, so that ``import napari_dispr`` (which napari and the
command line do at every start) loads neither torch nor Qt nor napari.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.diffusion.original import import_dispr_checkpoint
    from napari_dispr.errors import InputError
    from napari_dispr.evaluation.classification import PredictedShapes, classify, iter_classify
    from napari_dispr.evaluation.cross_validation import cross_validate, iter_cross_validate
    from napari_dispr.evaluation.evaluate import evaluate, iter_evaluate
    from napari_dispr.export.meshes import export_meshes
    from napari_dispr.export.report import report
    from napari_dispr.models.library import (
        available_models,
        export_model,
        import_model,
        load_model,
        remove_model,
    )
    from napari_dispr.prediction.denoising import denoising, iter_denoising
    from napari_dispr.prediction.more import (
        iter_more_members,
        iter_redraw_members,
        more_members,
        redraw_members,
    )
    from napari_dispr.prediction.predict import iter_predict, predict
    from napari_dispr.prediction.ranking import iter_rank_worth, rank_cells
    from napari_dispr.prediction.result import Prediction, load_prediction, measure, measure_cells
    from napari_dispr.shapes.label_volumes import measure_labels
    from napari_dispr.synthesis.balance import augment, iter_augment
    from napari_dispr.training.train import iter_train, train

from napari_dispr.version import __version__

#: Where each public name lives. A new one is a line here and one above.
_HOME = {
    "InputError": "errors",
    "PredictedShapes": "evaluation.classification",
    "Prediction": "prediction.result",
    "ShapeModel": "diffusion.model",
    "augment": "synthesis.balance",
    "available_models": "models.library",
    "classify": "evaluation.classification",
    "cross_validate": "evaluation.cross_validation",
    "denoising": "prediction.denoising",
    "evaluate": "evaluation.evaluate",
    "export_meshes": "export.meshes",
    "export_model": "models.library",
    "import_dispr_checkpoint": "diffusion.original",
    "import_model": "models.library",
    "iter_augment": "synthesis.balance",
    "iter_classify": "evaluation.classification",
    "iter_cross_validate": "evaluation.cross_validation",
    "iter_denoising": "prediction.denoising",
    "iter_evaluate": "evaluation.evaluate",
    "iter_more_members": "prediction.more",
    "iter_predict": "prediction.predict",
    "iter_rank_worth": "prediction.ranking",
    "iter_redraw_members": "prediction.more",
    "iter_train": "training.train",
    "load_model": "models.library",
    "load_prediction": "prediction.result",
    "measure": "prediction.result",
    "measure_cells": "prediction.result",
    "measure_labels": "shapes.label_volumes",
    "more_members": "prediction.more",
    "predict": "prediction.predict",
    "rank_cells": "prediction.ranking",
    "redraw_members": "prediction.more",
    "remove_model": "models.library",
    "report": "export.report",
    "train": "training.train",
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
