"""Methods of evaluation by name: shape models, SHAPR, fits. The one place that knows them all."""

import os
from collections.abc import Iterable

from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import Method
from napari_dispr.models.library import available_fits, available_models, load_model
from napari_dispr.prediction.predict import model_method
from napari_dispr.settings import PredictSettings


def method_of(name_or_path: str | os.PathLike[str], settings: PredictSettings) -> tuple[str, Method]:
    """A method and the name under which it is evaluated.

    Parameters
    ----------
    name_or_path : str or path
        ``model``: that of the settings. Otherwise a fit (`library.available_fits`), or a shape model or
        SHAPR by its name in the library or by its file.
    settings : PredictSettings
        How a shape model draws; methods that draw one shape a cell have no choice.

    Returns
    -------
    name : str
        For folders and tables: a fit's, or that in the model's card.
    method : Method

    Raises
    ------
    InputError
        If there is no such method; the sentence lists the choices.
    """
    wanted = settings.model if str(name_or_path) == "model" else name_or_path
    if str(wanted) not in (*available_models(), *available_fits()) and not os.path.isfile(wanted):
        raise InputError(f"There is no method {str(wanted)!r}: choose among {', '.join(method_names())}.")
    model = load_model(wanted)
    # A rival is a method as it is.
    return model.name, model_method(model, settings) if isinstance(model, ShapeModel) else model


def methods_of(names_or_paths: Iterable[str], settings: PredictSettings) -> dict[str, Method]:
    """Methods by the names under which they are evaluated, in their order, each once.

    Raises
    ------
    InputError
        If there is no such method, or two have one name.
    """
    methods: dict[str, Method] = {}
    for one in dict.fromkeys(names_or_paths):
        name, method = method_of(one, settings)
        if name in methods and _hash(method) != _hash(methods[name]):
            raise InputError(
                f"Two methods are called {name!r}: import one of the models under another name first."
            )
        methods.setdefault(name, method)
    return methods


def method_names() -> list[str]:
    """What `method_of` takes, files aside."""
    return ["model", *available_fits(), *available_models(), "a model file"]


def _hash(method: Method) -> object:
    return getattr(method, "provenance", {}).get("model_hash")
