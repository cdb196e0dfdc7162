"""napari-dispr: ensembles of 3D cell shapes from one 2D microscopy picture and its segmentation.

The public API. Names are loaded when they are first used, so that ``import napari_dispr`` (which napari and
the command line do at every start) loads neither torch nor Qt nor napari.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_dispr.version import __version__

if TYPE_CHECKING:  # the same names for type checkers
    from napari_dispr.diffusion.model import ShapeModel as ShapeModel
    from napari_dispr.diffusion.original import import_dispr_checkpoint as import_dispr_checkpoint
    from napari_dispr.errors import InputError as InputError
    from napari_dispr.evaluation.classification import PredictedShapes as PredictedShapes
    from napari_dispr.evaluation.classification import classify as classify
    from napari_dispr.evaluation.classification import iter_classify as iter_classify
    from napari_dispr.evaluation.cross_validation import cross_validate as cross_validate
    from napari_dispr.evaluation.cross_validation import iter_cross_validate as iter_cross_validate
    from napari_dispr.evaluation.evaluate import evaluate as evaluate
    from napari_dispr.evaluation.evaluate import iter_evaluate as iter_evaluate
    from napari_dispr.evaluation.ranking_worth import iter_rank_worth as iter_rank_worth
    from napari_dispr.export.batch_report import report_batch as report_batch
    from napari_dispr.export.meshes import export_meshes as export_meshes
    from napari_dispr.export.report import report as report
    from napari_dispr.models.library import available_models as available_models
    from napari_dispr.models.library import export_model as export_model
    from napari_dispr.models.library import import_model as import_model
    from napari_dispr.models.library import load_model as load_model
    from napari_dispr.models.library import remove_model as remove_model
    from napari_dispr.prediction.batch import iter_predict_batch as iter_predict_batch
    from napari_dispr.prediction.batch import predict_batch as predict_batch
    from napari_dispr.prediction.completed import complete as complete
    from napari_dispr.prediction.denoising import denoising as denoising
    from napari_dispr.prediction.denoising import iter_denoising as iter_denoising
    from napari_dispr.prediction.more import iter_more_members as iter_more_members
    from napari_dispr.prediction.more import iter_redraw_members as iter_redraw_members
    from napari_dispr.prediction.more import more_members as more_members
    from napari_dispr.prediction.more import redraw_members as redraw_members
    from napari_dispr.prediction.predict import iter_predict as iter_predict
    from napari_dispr.prediction.predict import predict as predict
    from napari_dispr.prediction.ranking import next_planes as next_planes
    from napari_dispr.prediction.ranking import rank_cells as rank_cells
    from napari_dispr.prediction.result import Prediction as Prediction
    from napari_dispr.prediction.saving import load_prediction as load_prediction
    from napari_dispr.prediction.tables import measure as measure
    from napari_dispr.prediction.tables import measure_cells as measure_cells
    from napari_dispr.shapes.label_volumes import measure_labels as measure_labels
    from napari_dispr.synthesis.balance import augment as augment
    from napari_dispr.synthesis.balance import iter_augment as iter_augment
    from napari_dispr.synthesis.fields import iter_make_synthesis as iter_make_synthesis
    from napari_dispr.synthesis.fields import make_synthesis as make_synthesis
    from napari_dispr.synthesis.judge import iter_judge_synthesis as iter_judge_synthesis
    from napari_dispr.synthesis.judge import judge_synthesis as judge_synthesis
    from napari_dispr.synthesis.learn import iter_learn_synthesis as iter_learn_synthesis
    from napari_dispr.synthesis.learn import learn_synthesis as learn_synthesis
    from napari_dispr.synthesis.populations import iter_make_population as iter_make_population
    from napari_dispr.synthesis.populations import make_population as make_population
    from napari_dispr.synthesis.settings import CellSettings as CellSettings
    from napari_dispr.synthesis.settings import JudgeSettings as JudgeSettings
    from napari_dispr.synthesis.settings import PopulationSettings as PopulationSettings
    from napari_dispr.synthesis.sources import cell_source as cell_source
    from napari_dispr.training.calibrate import calibrate as calibrate
    from napari_dispr.training.calibrate import iter_calibrate as iter_calibrate
    from napari_dispr.training.train import iter_train as iter_train
    from napari_dispr.training.train import train as train

#: Public names by module. A new name is added here and above.
_PUBLIC = {
    "diffusion.model": "ShapeModel",
    "diffusion.original": "import_dispr_checkpoint",
    "errors": "InputError",
    "evaluation.classification": "PredictedShapes classify iter_classify",
    "evaluation.cross_validation": "cross_validate iter_cross_validate",
    "evaluation.evaluate": "evaluate iter_evaluate",
    "evaluation.ranking_worth": "iter_rank_worth",
    "export.batch_report": "report_batch",
    "export.meshes": "export_meshes",
    "export.report": "report",
    "models.library": "available_models export_model import_model load_model remove_model",
    "prediction.batch": "iter_predict_batch predict_batch",
    "prediction.completed": "complete",
    "prediction.denoising": "denoising iter_denoising",
    "prediction.more": "iter_more_members iter_redraw_members more_members redraw_members",
    "prediction.predict": "iter_predict predict",
    "prediction.ranking": "next_planes rank_cells",
    "prediction.result": "Prediction",
    "prediction.saving": "load_prediction",
    "prediction.tables": "measure measure_cells",
    "shapes.label_volumes": "measure_labels",
    "synthesis.balance": "augment iter_augment",
    "synthesis.fields": "iter_make_synthesis make_synthesis",
    "synthesis.judge": "iter_judge_synthesis judge_synthesis",
    "synthesis.learn": "iter_learn_synthesis learn_synthesis",
    "synthesis.populations": "iter_make_population make_population",
    "synthesis.settings": "CellSettings JudgeSettings PopulationSettings",
    "synthesis.sources": "cell_source",
    "training.calibrate": "calibrate iter_calibrate",
    "training.train": "iter_train train",
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
