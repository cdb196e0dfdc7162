"""``napari-dispr demo``: predict, measure and picture simulated cells."""

import argparse
import json
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings

#: Title of the picture; in ``prediction.json`` it marks a demo, which the next demo may replace.
_DEMO = "simulated red blood cells"


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "demo", demo, "predict shapes of simulated cells; writes members, tables and a picture"
    )
    command.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (demo)")
    common.add_settings(command, PredictSettings, {"model", "members", "quality", "seed", "device"})


def demo(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, PredictSettings)
    common.check_folder(options.out, "prediction.json")
    _check_is_demo(options.out)
    import numpy as np
    import tifffile

    from napari_dispr.export.pictures import save_page
    from napari_dispr.files import written_aside
    from napari_dispr.models.library import read_card
    from napari_dispr.prediction.growing import iter_saved
    from napari_dispr.prediction.predict import iter_predict
    from napari_dispr.signed_distance import from_level
    from napari_dispr.synthesis.phantoms import simulate_field
    from napari_dispr.synthesis.red_cell_crops import VOXEL_SIZE

    field = simulate_field(cells=6, shape=(320, 320), seed=settings.seed)
    to_world = np.diag([field.pixel_size, field.pixel_size, 1.0])
    # If the model has this voxel size, "physical" is the same scale, and the model also gets the true sizes.
    scale = "physical" if read_card(settings.model).voxel_size == VOXEL_SIZE else field.zoom
    events = iter_predict(
        field.image,
        field.labels,
        image_to_world=to_world,
        unit="micrometer",
        # At the scale of the simulation, so that shapes can be compared with the truth.
        **settings.model_copy(update={"pixel_size": field.pixel_size, "scale": scale}).model_dump(),
    )
    files = {what: options.out / f"{what}.tif" for what in ("image", "labels")}
    inputs = {f"{what}_file": str(file.absolute()) for what, file in files.items()}
    prediction = common.run_with_progress(iter_saved(events, options.out, {"demo": _DEMO, **inputs}))
    for what, file in files.items():
        picture = getattr(field, what)
        with written_aside(file) as aside:
            tifffile.imwrite(aside, picture, resolution=(1 / field.pixel_size,) * 2, metadata={"unit": "um"})
    truths = {label: from_level(field.objects[label], 127.5, truncation=8.0) for label in prediction}
    save_page(options.out / "picture.png", prediction, field.image, field.labels, truths, _DEMO)
    from napari_dispr.prediction.tables import measure_cells

    table = measure_cells(prediction)
    shown = ["label", "volume_mean", "volume_sd", "volume_low", "volume_high", "sphericity_mean", "ambiguity"]
    table = table[[column for column in shown if column in table]]
    print(table.round(2).to_string(index=False))
    print(f"Members, table and picture.png are in {options.out}; volumes in cubic micrometres.")


def _check_is_demo(out: Path) -> None:
    """Check that a prediction in the folder is one of the demo."""
    place = out / "prediction.json"
    try:
        ours = not place.exists() or json.loads(place.read_bytes()).get("demo") == _DEMO
    except (ValueError, AttributeError):
        ours = False
    if not ours:
        raise InputError(f"{out} holds a prediction that is not the demo's: choose a new or an empty folder.")
