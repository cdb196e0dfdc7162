"""Take the picture of the widget Morphometry: ten simulated cells, five shapes each, with their true shapes.

    xvfb-run -s "-screen 0 1800x1100x24" python docs/make_morphometry_picture.py

Needs the installed plugin and writes docs/images/morphometry.png.
"""

import numpy as np
from make_sample import true_shapes
from pictures import IMAGES, add_widget, open_napari, press, shoot, wait

from napari_dispr.synthesis.phantoms import simulate_field
from napari_dispr.widgets.predict.request import CellChoice

CELLS, SHAPE, SEED, MEMBERS = 10, (470, 470), 5, 5
SIZE, DOCK = (1640, 1000), 620


def main() -> None:
    field = simulate_field(CELLS, SHAPE, SEED)
    viewer = open_napari(SIZE)
    place = {"scale": (field.pixel_size,) * 2, "units": ("micrometer",) * 2}
    viewer.add_image(field.image, name="picture", **place)
    viewer.add_labels(field.labels, name="cells", opacity=0.35, **place)
    predict = add_widget(viewer, "Predict 3D shapes")
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
    widget = add_widget(viewer, "Morphometry", DOCK)
    wait(at_least=1)
    press(widget.source.measure_button)
    wait(lambda: widget.source.measured is not None)
    viewer.reset_view()
    wait(at_least=1)
    widget.rank.choose("volume")
    widget.cells_view.selectRow(0)
    shoot(viewer, IMAGES / "morphometry.png")
    viewer.close()


if __name__ == "__main__":
    main()
