"""A combo box of the devices that this machine can compute on."""

from collections.abc import Mapping

from qtpy.QtWidgets import QComboBox, QWidget


class DeviceChoice(QComboBox):
    """Offers ``auto``, and what else there is once that is known.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.addItem("auto", "auto")

    def offer(self, found: Mapping[str, str]) -> None:
        """Offer the devices of this machine, each with what it is; ``auto`` says which one it takes."""
        chosen = self.currentData()
        best = next((text for name, text in found.items() if name != "cpu"), found["cpu"])
        self.blockSignals(True)
        self.clear()
        self.addItem(f"auto: {best}", "auto")
        for name, text in found.items():
            self.addItem(text if name == "cpu" else f"{name}: {text}", name)
        self.setCurrentIndex(max(0, self.findData(chosen)))
        self.blockSignals(False)
