"""Take the pictures of docs/train.md: from 3D layers to a model used in Predict, in a real napari, by mouse.

    xvfb-run -s "-screen 0 1600x1000x24" python docs/make_training_pictures.py

opens the sample, trains for five minutes and predicts. Needs the installed plugin, writes into docs/images.
The model and its run go into a temporary folder.
"""

import os
import tempfile
import time
from pathlib import Path

HOME = tempfile.mkdtemp()
os.environ["XDG_DATA_HOME"] = HOME

import napari  # noqa: E402
from pictures import IMAGES, add_widget, open_napari, press, shoot, wait  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402

from napari_dispr.widgets.predict.request import CellChoice  # noqa: E402

SIZE, DOCK = (1480, 900), 400
#: Share of the budget at which a picture is taken.
SHARE = 0.85
NAME = "my-nuclei"


def main() -> None:
    viewer = open_napari(SIZE, "simulated_nuclei_3d")
    widget = add_widget(viewer, "Train a shape model", DOCK)
    viewer.reset_view()
    wait(lambda: widget.data.data is not None, at_least=3)
    widget.form.name.clear()
    QTest.keyClicks(widget.form.name, NAME)
    widget.form.preset.setCurrentIndex(widget.form.preset.findData("quick"))
    shoot(viewer, IMAGES / "train-data.png")
    press(widget.train_button)

    def steps() -> float:
        run = widget.view.run
        last = None if run is None else run.last("step")
        return 0.0 if last is None else last["share"]

    wait(lambda: steps() >= SHARE or widget.view.state == "stopped", at_least=5)
    shoot(viewer, IMAGES / "train-running.png")
    start = time.monotonic()
    wait(lambda: widget.view.state == "finished" or time.monotonic() - start > 600)
    assert widget.view.state == "finished", widget.view.problem.text()
    assert (Path(HOME) / "napari-dispr" / "models" / f"{NAME}.safetensors").exists()
    shoot(viewer, IMAGES / "train-finished.png")
    press(widget.view.use_button)
    predict(viewer)
    viewer.close()


def predict(viewer: napari.Viewer) -> None:
    """Draw the cells of the displayed plane with the new model."""
    widget = viewer.window.dock_widgets["Predict 3D shapes (napari DISPR)"]
    widget.cells.choice = CellChoice.ALL
    wait(lambda: widget.form.settings.model == NAME and widget.predict_button.isEnabled(), at_least=2)
    press(widget.predict_button)
    wait(lambda: not widget.running and not widget.updater.busy, at_least=2)
    press(widget.show_3d_button)
    shoot(viewer, IMAGES / "train-predict.png")


if __name__ == "__main__":
    main()
