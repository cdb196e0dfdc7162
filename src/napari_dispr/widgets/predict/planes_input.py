"""Whether cells are predicted from the displayed plane of a stack, or from all planes that have labels."""

from weakref import ref

import numpy as np
from napari.components import Dims
from napari.layers import Labels, Layer
from qtpy.QtCore import Signal

from napari_dispr.cells.planes import known_planes
from napari_dispr.errors import InputError, counted
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.viewer.displayed import DisplayedStack, displayed_plane, displayed_stack
from napari_dispr.viewer.opened import unwrapped
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox
from napari_dispr.widgets.parts.threads import LatestAnswer

_TIP = (
    "<p>Displayed plane: each cell is predicted from the one plane on screen.</p>"
    "<p>Planes with labels: each cell is predicted from all planes in which it has a label, and its shapes "
    "agree with all of them. A cell has the same number in all its planes.</p>"
    "<p>Where labels lie in planes that are not next to each other, the planes between them are unknown. "
    "Where they lie in planes one after the other, a plane without labels next to them is used as well: it "
    "says that the cells end there (if the cells become small towards it).</p>"
)


#: The second choice, until the planes are found.
_SEVERAL = "planes that have labels"


class PlanesInput(ShortComboBox):
    """Offers the displayed plane, or the planes that have labels, with their number and distance."""

    #: The other choice was made.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.addItems(["displayed plane", _SEVERAL])
        self.setToolTip(_TIP)
        self.currentIndexChanged.connect(self.changed)
        self._is_stack = False
        self._edits = 0
        self._wanted: object = None
        self._scan = LatestAnswer(_found, self._on_scanned, self)

    @property
    def several(self) -> bool:
        return self._is_stack and self.currentIndex() == 1

    def edited(self) -> None:
        """Note that pixels of the label layer have changed."""
        self._edits += 1

    def refresh(self, labels: Layer | None, dims: Dims) -> bool:
        """Find the planes with labels of a layer, in a thread; whether the layer is a stack."""
        self._is_stack = isinstance(labels, Labels) and labels.ndim > 2
        if not isinstance(labels, Labels) or not self._is_stack:
            return False
        try:
            stack, plane = displayed_stack(labels, dims), displayed_plane(labels, dims)
        except InputError:  # the message below the inputs says it
            return True
        if len(stack.depths) == 1:  # such as a channel axis
            self._is_stack = False
            return False
        which = (ref(unwrapped(labels)), plane.index[:-1], self._edits, stack.spaced, tuple(stack.depths))
        if which != self._wanted:
            self._wanted = which
            self._scan.ask(stack, unit_sign(str(plane.unit)))
        return True

    def _on_scanned(self, answer: str | InputError) -> None:
        self.setItemText(1, _SEVERAL if isinstance(answer, InputError) else answer)


def _found(stack: DisplayedStack, unit: str) -> str:
    """Such as ``5 planes with labels, 2 µm apart``."""
    labels = np.asarray(stack.array)
    labelled = [k for k in known_planes(labels) if labels[k].any()]
    if not labelled:
        return "planes with labels: none found"
    number = f"{counted(len(labelled), 'plane')} with labels"
    if len(labelled) == 1 or not stack.spaced:
        return number
    gaps = np.abs(np.diff(stack.depths[labelled]))
    ends = dict.fromkeys(f"{gap:.3g}" for gap in (gaps.min(), gaps.max()))
    return f"{number}, {' to '.join(ends)} {unit} apart"
