"""Take the picture of the widget Morphometry: ten simulated cells, five shapes each, with their true shapes.

    xvfb-run -s "-screen 0 1800x1100x24" python docs/make_morphometry_picture.py

Needs the installed plugin and writes docs/images/morphometry.png.
"""

import napari
import numpy as np
from make_sample import true_shapes
from make_screenshots import IMAGES, own_settings, press, wait
from qtpy.QtCore import Qt

from napari_dispr.synthesis.phantoms import simulate_field
from napari_dispr.widgets.predict.request import CellChoice

CELLS, SHAPE, SEED, MEMBERS = 10, (470, 470), 5, 5
SIZE, DOCK = (1640, 1000), 620


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    own_settings()
    field = simulate_field(CELLS, SHAPE, SEED)
    viewer = napari.Viewer(show_welcome_screen=False)
    window = viewer.window._qt_window
    window.resize(*SIZE)
    place = {"scale": (field.pixel_size,) * 2, "units": ("micrometer",) * 2}
    viewer.add_image(field.image, name="picture", **place)
    viewer.add_labels(field.labels, name="cells", opacity=0.35, **place)
    _, predict = viewer.window.add_plugin_dock_widget("napari-dispr", "Predict 3D shapes")
    predict.cells.choice = CellChoice.ALL
    predict.form.settings = predict.form.settings.model_copy(update={"members": MEMBERS})
    wait(lambda: predict.form.device.itemText(0) != "auto", at_least=2)
    press(predict.predict_button)
    wait(lambda: not predict.running and not predict.updater.busy)
    volume, affine = true_shapes(field)
    viewer.add_labels(
        volume, name="real cells", visible=False, units=("micrometer",) * 3,
        scale=np.diag(affine)[:3], translate=affine[:3, 3],
    )  # fmt: skip
    viewer.layers.selection = {viewer.layers["cells"]}
    viewer.window.remove_dock_widget(predict)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-dispr", "Morphometry")
    window.resizeDocks([dock], [DOCK], Qt.Orientation.Horizontal)
    wait(at_least=1)
    press(widget.source.measure_button)
    wait(lambda: widget.source.measured is not None)
    viewer.reset_view()
    wait(at_least=1)
    widget.rank.choose("volume")
    widget.cells_view.selectRow(0)
    wait(at_least=1)
    viewer.window.screenshot(IMAGES / "morphometry.png", canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
