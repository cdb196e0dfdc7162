"""How to cite the plugin: a link in every widget, which shows the text of CITATION.cff and copies it."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLabel, QMessageBox, QPushButton

from napari_dispr.version import __version__

#: As in CITATION.cff; a test compares them.
CITATION = (
    f"napari-dispr founders. napari-dispr: ensembles of 3D cell shapes from one 2D microscopy picture. "
    f"Version {__version__}.\n\n"
    "Dominik J. E. Waibel, Ernst Röell, Bastian Rieck, Raja Giryes, Carsten Marr. A diffusion model predicts "
    "3D shapes from 2D microscopy images. arXiv:2208.14125, 2022. https://arxiv.org/abs/2208.14125"
)


class CiteLink(QLabel):
    """A link that shows how to cite the plugin and the paper whose method it implements."""

    def __init__(self) -> None:
        # Qt's own colour of links cannot be read on napari's dark theme.
        super().__init__('<a href="cite" style="color: #3d8fd1">Cite</a>')
        self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.setToolTip("How to cite this plugin and the paper whose method it implements")
        self.linkActivated.connect(self.show_citation)

    def show_citation(self) -> None:
        self.box = QMessageBox(self.window())
        self.box.setWindowTitle("Cite")
        self.box.setText("If this plugin helps your work, please cite it and the paper:")
        self.box.setInformativeText(CITATION)
        self.box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.copy_button: QPushButton | None = self.box.addButton("Copy", QMessageBox.ButtonRole.AcceptRole)
        self.box.addButton(QMessageBox.StandardButton.Close)
        self.box.accepted.connect(self.copy)
        self.box.open()

    @staticmethod
    def copy() -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(CITATION)
