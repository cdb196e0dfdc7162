"""Take the pictures of docs/planes.md: a coarse stack of six cells in five planes, by mouse.

    xvfb-run -s "-screen 0 1800x1050x24" python docs/make_planes_pictures.py

Needs the installed plugin and writes docs/images/planes-predict.png and docs/images/planes-compare.png.
"""

import numpy as np
from numpy.typing import NDArray
from pictures import IMAGES, add_widget, open_napari, press, shoot, wait
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_dispr import grid
from napari_dispr.synthesis.red_cell_crops import VOXEL_SIZE, membrane_picture, red_cell_volume
from napari_dispr.viewer.opening import open_window
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.compare.widget import CompareWidget
from napari_dispr.widgets.predict.request import CellChoice

SIZE, DOCK, WIDE = (1720, 980), 520, 780
#: The cells, in rows; planes of the stack in voxels from the middle of the cells; pixels of a cell's field.
KINDS = (("discocyte", "stomatocyte", "knizocyte"), ("keratocyte", "echinocyte", "multilobate"))
PLANES, FIELD, SEED = (-16, -8, 0, 8, 16), 72, 9
MEMBERS = 5
#: The cell that Compare shows.
CELL = 3


def stack() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image and labels (plane, y, x); the planes are `PLANES`."""
    shape = (len(PLANES), FIELD * len(KINDS), FIELD * len(KINDS[0]))
    image, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for row, kinds in enumerate(KINDS):
        for column, kind in enumerate(kinds):
            label = row * len(kinds) + column + 1
            obj, _ = red_cell_volume(kind, np.random.default_rng((SEED, label)), varied=False)
            rows, columns = (slice(FIELD * i + 4, FIELD * i + 4 + grid.SIZE) for i in (row, column))
            for place, depth in enumerate(PLANES):
                plane = grid.IMAGED_PLANE + depth
                image[place, rows, columns] = membrane_picture(obj, np.random.default_rng(label), plane)
                labels[place, rows, columns][grid.section(obj, depth) > 127] = label
    return image, labels


def main() -> None:
    viewer = open_napari(SIZE)
    window = viewer.window._qt_window
    image, labels = stack()
    scale = (VOXEL_SIZE * (PLANES[1] - PLANES[0]), VOXEL_SIZE, VOXEL_SIZE)
    viewer.add_image(image, name="coarse stack", scale=scale, units=("um",) * 3)
    viewer.add_labels(labels, name="cells", scale=scale, units=("um",) * 3)
    predict = add_widget(viewer, "Predict 3D shapes", DOCK)
    predict.cells.choice = CellChoice.ALL
    predict.form.settings = predict.form.settings.model_copy(update={"members": MEMBERS, "quality": "fast"})
    predict.planes.setFocus()
    QTest.keyClick(predict.planes, Qt.Key.Key_Down)
    wait(lambda: "to predict, from" in predict.message.text() and predict.predict_button.isEnabled(), 2)
    viewer.dims.set_current_step(0, len(PLANES) // 2)
    viewer.reset_view()
    shoot(viewer, IMAGES / "planes-predict.png")
    press(predict.predict_button)
    wait(lambda: not predict.running and not predict.updater.busy)
    compare = open_window(viewer, "Compare members")
    assert isinstance(compare, CompareWidget)
    window.resizeDocks([compare.parentWidget()], [WIDE], Qt.Orientation.Horizontal)
    Session.of(viewer).select(CELL)
    wait(lambda: not compare.busy, at_least=2)
    press(compare.next_plane)
    wait(lambda: not compare.busy, at_least=2)
    window.grab()  # OpenGL has drawn all tiles by now
    shoot(viewer, IMAGES / "planes-compare.png")
    press(compare.actions.complete_button)
    wait(lambda: "cells: completed" in viewer.layers)
    print({layer.name: layer.data.shape for layer in viewer.layers})
    viewer.close()


if __name__ == "__main__":
    main()
