"""What the result layers of a prediction hold."""

import pandas as pd

from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.session import Held, OpenPrediction
from support.predictions import table


def held_of(prediction: Prediction) -> Held:
    """What the layers of a prediction of the layer "cells" hold."""
    return Held(OpenPrediction(object(), "cells", prediction, table(), pd.DataFrame()))
