"""What the result layers of a prediction hold."""

import pandas as pd

from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.layers import PredictionHandle
from napari_dispr.viewer.opened import OpenPrediction
from support.predictions import table


def handle_of_cells(prediction: Prediction) -> PredictionHandle:
    """What the layers of a prediction of the layer "cells" hold."""
    return PredictionHandle(OpenPrediction(object(), "cells", prediction, table(), pd.DataFrame()))
