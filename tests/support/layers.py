"""Predictions with their result layers in a viewer."""

import pandas as pd
from napari.components import ViewerModel
from napari.layers import Labels

from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import LayerStyle, ResultContent, compose
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.viewer.layers import PredictionHandle, ResultLayers
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.viewer.session import Session
from support.predictions import table


def handle_of_cells(prediction: Prediction) -> PredictionHandle:
    """What the layers of a prediction of the layer "cells" hold."""
    return PredictionHandle(OpenPrediction(object(), "cells", prediction, table(), pd.DataFrame()))


def update(layers: ResultLayers, content: ResultContent) -> None:
    """Show the content without a pause."""
    for _ in layers.update(content):
        pass


def add_layers_of(
    viewer: ViewerModel,
    labels: Labels,
    prediction: Prediction,
    plane: DisplayedPlane,
    measures: pd.DataFrame | None = None,
    style: LayerStyle | None = None,
) -> ResultLayers:
    """The result layers of a prediction; unless they are given, the measures are those of two balls."""
    layers = ResultLayers(viewer, labels, handle_of_cells(prediction))
    measures = table() if measures is None else measures
    update(layers, compose(prediction, measures, plane, style=style))
    return layers


def open_with_layers(viewer: ViewerModel, opened: OpenPrediction) -> None:
    """Open a prediction in the session, and add its layers, as Predict leaves them."""
    session = Session.of(viewer)
    session.show(opened)
    handle = session.handle(opened)
    handle.layers = ResultLayers(viewer, opened.labels, handle)
    update(handle.layers, compose(opened.prediction, opened.measures, opened.plane))
