"""Take the pictures of the tour: the nine cells of the sample with their true shapes, by mouse.

    xvfb-run -s "-screen 0 1700x1050x24" python docs/make_tour_pictures.py

Needs the installed plugin and writes docs/images/compare*.png and docs/images/noise-to-shape.png.
"""

import napari
from pictures import IMAGES, add_widget, open_napari, press, shoot, wait
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPainter

from napari_dispr.viewer.opening import open_window
from napari_dispr.widgets.compare.tiles import View
from napari_dispr.widgets.compare.widget import CompareWidget
from napari_dispr.widgets.predict.request import CellChoice

SIZE, DOCK, MEMBERS = (1620, 980), 780, 5
#: Pixels between two pictures of one file.
GAP = 12
#: Frames from noise to shape that are shown.
STEPS = (0, 22, 30, 35)


def main() -> None:
    viewer = open_napari(SIZE, "simulated_red_blood_cells_3d")
    window = viewer.window._qt_window
    predict = add_widget(viewer, "Predict 3D shapes")
    predict.cells.choice = CellChoice.ALL
    predict.form.settings = predict.form.settings.model_copy(update={"members": MEMBERS})
    wait(lambda: predict.form.device.itemText(0) != "auto" and predict.predict_button.isEnabled(), at_least=2)
    press(predict.predict_button)
    wait(lambda: not predict.running and not predict.updater.busy)
    widget = open_window(viewer, "Compare members")
    assert isinstance(widget, CompareWidget)
    window.resizeDocks([widget.parentWidget()], [DOCK], Qt.Orientation.Horizontal)
    wait(lambda: not widget.busy, at_least=2)
    viewer.reset_view()
    press(widget.ambiguous_first)
    widget.cell_choice.setCurrentIndex(0)
    widget.cell_choice.activated.emit(0)
    wait(lambda: not widget.busy)
    widget.slider.setValue(2)
    wait(lambda: not widget.busy, at_least=2)
    window.grab()  # OpenGL has drawn all tiles by now
    shoot(viewer, IMAGES / "compare.png")
    shoot_views(widget)
    watch(viewer, widget)
    viewer.close()


def shoot_views(widget: CompareWidget) -> None:
    """The overlay and where the members disagree, side by side."""
    pictures = []
    for view in (View.OVERLAY, View.DISAGREEMENT):
        press(widget.view_buttons[view])
        wait(lambda: not widget.busy, at_least=2)
        pictures.append(widget.canvas.grab().toImage())
    width = sum(picture.width() for picture in pictures) + GAP
    both = QImage(width, pictures[0].height(), QImage.Format.Format_RGB32)
    both.fill(Qt.GlobalColor.white)
    painter = QPainter(both)
    painter.drawImage(0, 0, pictures[0])
    painter.drawImage(pictures[0].width() + GAP, 0, pictures[1])
    painter.end()
    assert both.save(str(IMAGES / "compare-views.png"))


def watch(viewer: napari.Viewer, widget: CompareWidget) -> None:
    """Some steps from noise to shape of a member, as the viewer plays them."""
    press(widget.actions.replay_button)
    wait(lambda: not widget.busy, at_least=1)
    pictures = []
    for step in STEPS:
        viewer.dims.set_current_step(0, step)
        wait(at_least=1)
        shot = viewer.window.screenshot(canvas_only=True, flash=False)
        height, width = shot.shape[:2]
        picture = QImage(shot.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
        side = min(picture.width(), picture.height())
        left, top = (picture.width() - side) // 2, (picture.height() - side) // 2
        square = picture.copy(left, top, side, side)
        pictures.append(square.scaledToWidth(360, Qt.TransformationMode.SmoothTransformation))
    strip = QImage((360 + GAP) * len(pictures) - GAP, 360, QImage.Format.Format_RGB32)
    strip.fill(Qt.GlobalColor.white)
    painter = QPainter(strip)
    for i, picture in enumerate(pictures):
        painter.drawImage(i * (360 + GAP), 0, picture)
    painter.end()
    assert strip.save(str(IMAGES / "noise-to-shape.png"))


if __name__ == "__main__":
    main()
