"""The switch "next plane" of Compare: which plane of the cell to image next, as a sheet and in words."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.shapes.next_plane import PlaneGains, plane_gains
from napari_dispr.widgets.compare.content import CellShapes
from napari_dispr.widgets.compare.sheets import Sheet, next_sheet
from napari_dispr.widgets.parts.threads import LatestAnswer

_TIP = (
    "<p>Shows as a sheet the plane of this cell that should be imaged next, since it should tell most about "
    "the shape. The text above says what it is expected to gain.</p>"
)
#: Smaller gains, of the relative volume error and of the IoU, are not listed.
_LEAST_GAIN = 0.005


class NextPlane(QCheckBox):
    """Finds the plane in a thread, while it is on."""

    #: It was switched, or the plane was found.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__("next plane")
        self.setToolTip(_TIP)
        self._ensemble: Ensemble | None = None  # the cell on screen
        self._found: tuple[Ensemble, PlaneGains | InputError] | None = None
        self._sheet: tuple[CellShapes, Sheet] | None = None
        self._gains = LatestAnswer(_gains, self._on_found, self, pause=20)
        self.toggled.connect(self._on_toggled)

    @property
    def pending(self) -> bool:
        """Whether the plane is being looked for."""
        return self._gains.pending

    def search(self, ensemble: Ensemble) -> None:
        """Find the plane of this cell, if the switch is on."""
        self._ensemble = ensemble
        if self.isChecked() and (self._found is None or self._found[0] is not ensemble):
            self._gains.ask(ensemble)

    def sheet(self, cell: CellShapes) -> tuple[Sheet, ...]:
        """The sheet of the plane, once it is known and while the switch is on."""
        gains = self._known()
        if not isinstance(gains, PlaneGains) or not gains.disagreement.any():
            return ()
        if self._sheet is None or self._sheet[0] is not cell:
            depth = float(gains.depth[gains.best])
            self._sheet = cell, next_sheet(depth, cell.half, cell.radius)
        return (self._sheet[1],)

    def words(self, prediction: Prediction, label: int) -> str:
        """The plane and its expected gain in a sentence; empty while the switch is off."""
        gains = self._known()
        if not isinstance(gains, PlaneGains):
            return "" if gains is None else f"⚠ {gains}"
        if not gains.disagreement.any():
            return "Next plane: all members are the same, so no plane is expected to gain anything."
        best, unit = gains.best, unit_sign(prediction.unit)
        place = [best, grid.CENTRE, grid.CENTRE, 1.0]
        z, depth = float((prediction.grid_to_world(label) @ place)[0]), float(gains.depth[best])
        where = (
            f"{abs(depth):.3g} {unit} from the imaged plane, towards {'higher' if depth > 0 else 'lower'} z"
        )
        error, iou = float(gains.volume_gain[best]), float(gains.iou_gain[best])
        texts = {f"volume error −{error:.1%}": error, f"IoU +{iou:.2f}": iou}
        listed = ", ".join(text for text, gain in texts.items() if gain >= _LEAST_GAIN)
        gain = f"Expected gain: {listed or 'small, as far as these members show'}."
        return f"Next plane: z = {z:.3g} {unit} ({where}). {gain}"

    def _known(self) -> PlaneGains | InputError | None:
        if self.isChecked() and self._found is not None and self._found[0] is self._ensemble:
            return self._found[1]
        return None

    def _on_toggled(self) -> None:
        if self._ensemble is not None:
            self.search(self._ensemble)
        self.changed.emit()

    def _on_found(self, answer: tuple[Ensemble, PlaneGains | InputError]) -> None:
        self._found, self._sheet = answer, None
        self.changed.emit()


def _gains(ensemble: Ensemble) -> tuple[Ensemble, PlaneGains | InputError]:
    try:
        return ensemble, plane_gains(ensemble)
    except InputError as error:  # too few members: said for this cell
        return ensemble, error
