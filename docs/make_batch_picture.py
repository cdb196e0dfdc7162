"""Take the picture of a batch in Morphometry: nine simulated fields in three groups, one of them opened.

    xvfb-run -s "-screen 0 1600x1000x24" python docs/make_batch_picture.py [--model red-blood-cell]

Needs the installed plugin and writes docs/images/batch.png.
"""

import argparse
import tempfile
from pathlib import Path

import tifffile
from pictures import IMAGES, add_widget, open_napari, shoot, wait
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_dispr.prediction.batch import predict_batch
from napari_dispr.synthesis.phantoms import simulate_field

GROUPS, CELLS, SHAPE = ("control", "drug A", "drug B"), 6, (400, 400)
SIZE, DOCK = (1480, 900), 620


def screen(folder: Path) -> Path:
    """Simulated fields and the table of them."""
    rows = ["image,labels,pixel_size,drug"]
    for number in range(3 * len(GROUPS)):
        field, name = simulate_field(CELLS, SHAPE, 100 + number), f"well {number + 1}"
        tifffile.imwrite(folder / f"{name}.tif", field.image)
        tifffile.imwrite(folder / f"{name}_masks.tif", field.labels)
        rows.append(f"{name}.tif,{name}_masks.tif,{field.pixel_size},{GROUPS[number // 3]}")
    (folder / "fields.csv").write_text("\n".join(rows))
    return folder / "fields.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="red-blood-cell")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = screen(folder)
        predict_batch(table, folder / "out", model=options.model, quality="fast", workers=0)
        viewer = open_napari(SIZE)
        widget = add_widget(viewer, "Morphometry", DOCK)
        widget.batch.open(folder / "out")
        wait(lambda: widget.batch.content is not None and not widget.batch.run_bar.running, at_least=1)
        view = widget.batch.view
        place = view.visualRect(view.model().index(1, 0)).center()
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
        wait(lambda: widget.selected is not None, at_least=1)
        shoot(viewer, IMAGES / "batch.png")
        viewer.close()


if __name__ == "__main__":
    main()
