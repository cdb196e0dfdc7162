"""Take the pictures of docs/synthesis.md: from a sample to a folder of annotated images, by mouse.

    xvfb-run -s "-screen 0 1280x800x24" python docs/make_synthesis_pictures.py [--minutes 2] [--images 3]

opens the sample, learns from it, looks at a preview, makes stacks, and judges them on another simulated stack
(by short trainings: the scores mean little). Needs the installed plugin, writes into docs/images. The model,
its run and the stacks go into a temporary folder.
"""

import argparse
import os
import tempfile
from pathlib import Path

HOME = tempfile.mkdtemp()
os.environ["XDG_DATA_HOME"] = HOME

from pictures import IMAGES, add_widget, open_napari, press, shoot, wait  # noqa: E402
from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402

from napari_dispr.synthesis.annotated import write_image  # noqa: E402
from napari_dispr.synthesis.stacks import simulate_stack  # noqa: E402

SIZE, DOCK = (1280, 800), 520
NAME = "my-nuclei"


def write_test(folder: Path) -> Path:
    """A simulated stack, with other nuclei than the sample."""
    stack = simulate_stack(16, (20, 160, 160), seed=7)
    for kind, array in (("image", stack.image), ("labels", stack.labels)):
        write_image(folder / kind / "test.tif", array, stack.spacing, stack.unit)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--judge-steps", type=int, default=60)
    parser.add_argument("--to", type=Path, default=IMAGES)
    options = parser.parse_args()
    viewer = open_napari(SIZE, "simulated_nuclei_3d")
    widget = add_widget(viewer, "Synthesise annotated images", DOCK)
    viewer.reset_view()

    def show_tab(number: int) -> None:
        place = widget.tabs.tabRect(number).center()
        QTest.mouseClick(widget.tabs, Qt.MouseButton.LeftButton, pos=place)

    learn, make = widget.learn, widget.make
    wait(learn.learn_button.isEnabled, at_least=1)
    learn.name.clear()
    QTest.keyClicks(learn.name, NAME)
    learn.minutes.setValue(options.minutes)
    press(learn.learn_button)
    wait(lambda: learn.view.state == "finished" or learn.view.problem.isVisible(), at_least=5)
    assert learn.view.state == "finished", learn.view.problem.text()
    shoot(viewer, options.to / "synthesis-learn.png")
    press(learn.view.make_button)
    wait(lambda: make.isVisible() and make.source.currentText() == NAME)
    press(make.preview_button)
    wait(lambda: not make.preview_bar.running, at_least=2)
    assert not make.picture.image.isNull(), make.preview_bar.status.text()
    out = Path(HOME) / "made"
    make.images.setValue(options.images)
    for box, voxels in zip(make.size.values(), (16, 128, 128), strict=True):
        box.setValue(voxels)
    wait(lambda: not make.preview_bar.running, at_least=2)
    make.folder.folder = out
    press(make.make_button)
    wait(lambda: not make.run_bar.running, at_least=2)
    assert make.browser.list.count() == options.images, make.run_bar.status.text()
    place = make.browser.list.visualItemRect(make.browser.list.item(0)).center()
    QTest.mouseClick(make.browser.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    wait(lambda: "synthetic labels" in viewer.layers, at_least=1)
    shoot(viewer, options.to / "synthesis-make.png")
    show_tab(2)
    judge = widget.judge
    judge.folders["real_test"].folder = write_test(Path(HOME) / "test")
    judge.folders["out"].folder = Path(HOME) / "judged"
    judge.steps.setValue(options.judge_steps)
    judge.seeds.setValue(1)
    press(judge.judge_button)
    wait(lambda: not judge.run_bar.running, at_least=2)
    assert judge.table.isVisible(), judge.run_bar.status.text()
    shoot(viewer, options.to / "synthesis-judge.png")
    viewer.close()


if __name__ == "__main__":
    main()
