"""A request to predict, and its problems in words; no Qt.

``make_request`` checks what can be checked without reading pixels and is quick; ``inspect`` reads them: call
it in a thread.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from napari.components import Dims
from napari.layers import Image, Labels

from napari_dispr import grid
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop, Scaling, check_fields, crop_cells, usual_scale
from napari_dispr.cells.planes import check_planes, crop_planes, known_planes
from napari_dispr.cells.stacks import in_words
from napari_dispr.errors import InputError, counted
from napari_dispr.labels import Box, cell_boxes
from napari_dispr.models.library import read_card
from napari_dispr.prediction.notes import Note, mask_notes, sentences
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.placement import LARGEST_VOLUMES
from napari_dispr.viewer.content import LayerStyle
from napari_dispr.viewer.displayed import DisplayedPlane, DisplayedStack, displayed_plane, displayed_stack
from napari_dispr.widgets.parts.wording import AS_LABELS
from napari_dispr.widgets.predict.fixes import is_binary, misaligned

_MASK = " The labels are a mask with one value: all its parts count as one cell. Split them."


class MaskError(InputError):
    """The labels are a mask with one value, and no cell can be cropped from it."""


class CellChoice(StrEnum):
    """Which cells of the label layer are predicted."""

    CLICKED = "clicked"
    SELECTED = "selected"
    ALL = "all"


@dataclass(frozen=True, slots=True, eq=False)
class PredictRequest:
    """One press of Predict: planes not read yet, labels of the cells (None for all), settings and layers.

    ``stacks`` are those of picture and labels, if cells are predicted from several planes.
    """

    image: DisplayedPlane
    labels: DisplayedPlane
    cells: tuple[int, ...] | None
    settings: PredictSettings
    style: LayerStyle = field(default_factory=LayerStyle)
    stacks: tuple[DisplayedStack, DisplayedStack] | None = None

    @property
    def origin(self) -> DisplayedPlane:
        """The picture of the results: the displayed plane, or the stack, in which each cell has its own z."""
        if self.stacks is None:
            return self.image
        return replace(self.image, array=self.stacks[0].array, depth=0.0, index=self.image.index[:-1])

    @property
    def apart(self) -> bool:
        """Whether the labels lie elsewhere in the world than the picture."""
        return not np.allclose(self.image.to_world, self.labels.to_world, rtol=1e-6)

    def scaling(self, card: Card) -> Scaling:
        """How large cells are on the grid of a model."""
        size, sides = self.image.pixel_size(card.unit), grid.pixel_sides(self.image.to_world)
        scale = self.settings.scale or usual_scale(size, card.voxel_size)
        return Scaling(scale, card.typical_extent, size, card.voxel_size, sides)


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What the pixels of a request contain.

    Attributes
    ----------
    crops : tuple of Crop
        The cells to be predicted, on the model grid.
    skipped : dict of str to int
        How many cells cannot be predicted, if all are chosen, by reason.
    apart : bool
        Whether the labels lie elsewhere in the world than the picture.
    binary : bool
        Whether the labels are a mask with one value in several parts.
    step : int
        About how many pixels along a voxel of the layers.
    depths : tuple of float
        World z of the planes, if there are several.
    empty : int
        How many of them have no labels: there the cells have ended.
    plane : str
        Which plane is used, if only one of picture and labels has several.
    """

    crops: tuple[Crop, ...]
    skipped: Mapping[str, int]
    apart: bool
    notes: tuple[Note, ...] = ()
    binary: bool = False
    step: int = 1
    depths: tuple[float, ...] = ()
    empty: int = 0
    plane: str = ""

    @property
    def text(self) -> str:
        """The inspection in words."""
        source = f", from {len(self.depths)} planes" if len(self.depths) > 1 else ""
        source += f" ({self.empty} of them without labels)" if self.empty else ""
        text = f"{counted(len(self.crops), 'cell')} to predict{source}.{self.plane}"
        if self.binary:
            text += _MASK
        if self.step > 1:
            share = "half" if self.step == 2 else f"1/{self.step}"
            text += f" Layers will have {share} resolution to save memory; measures use full resolution."
        if self.apart:
            text += " The labels lie elsewhere than the picture: shapes are placed where the picture is."
        if self.skipped:
            text += f" Left out: {in_words(self.skipped)}."
        return " ".join([text, *sentences(self.notes, {}, len(self.crops))])


def make_request(
    image: Image | None,
    labels: Labels | None,
    dims: Dims,
    choice: CellChoice,
    clicked: tuple[int, ...],
    settings: PredictSettings,
    several: bool = False,
) -> PredictRequest:
    """The request that these inputs make, without reading a pixel.

    ``several``: cells are predicted from all planes that have labels, not from the displayed one. Raises an
    InputError if a layer is missing or RGB, their shapes differ, no cell is chosen, or `displayed_plane`
    finds none.
    """
    if image is None:
        raise InputError(
            "There is no picture: open one, or File > Open Sample > napari DISPR > Simulated red blood cells."
        )
    picture = displayed_plane(image, dims)
    if labels is None:
        raise InputError(f"There is no label layer: open or paint a segmentation of the picture. {AS_LABELS}")
    if misaligned(image, labels):
        raise InputError(
            f'"{labels.name}" lacks an axis that "{image.name}" has (such as channels), so that napari shows '
            "labels that belong to another plane: align them."
        )
    segmentation = displayed_plane(labels, dims, picture.unit)
    if not picture.index:  # a 2D picture has no z of its own
        picture = replace(picture, depth=segmentation.depth)
    if picture.shape != segmentation.shape:
        raise InputError(
            f'"{picture.name}" has {_pixels(picture)} and "{segmentation.name}" {_pixels(segmentation)}: '
            "choose labels made from this picture."
        )
    stacks = _stacks(image, labels, dims) if several else None
    if stacks is not None:
        settings = settings.model_copy(update={"picture": "section"})
    cells = _chosen_cells(labels, choice, clicked)
    return PredictRequest(picture, segmentation, cells, settings, stacks=stacks)


def _plane_text(image: DisplayedPlane, labels: DisplayedPlane) -> str:
    """Which plane is used of a stack with a 2D picture, or with 2D labels."""
    flat, stack = (labels, image) if image.index else (image, labels)
    if flat.index or not stack.index:
        return ""
    place = f"slider{'s' * (len(stack.index) > 1)} at {', '.join(map(str, stack.index))}"
    return (
        f' "{flat.name}" is 2D: of "{stack.name}" only the plane on screen is used ({place}), and the shapes '
        "are placed in that plane."
    )


def _stacks(image: Image, labels: Labels, dims: Dims) -> tuple[DisplayedStack, DisplayedStack]:
    """The stacks of picture and labels, which have the same planes."""
    ours = displayed_stack(image, dims)
    theirs = displayed_stack(labels, dims, image.units[-1])
    for stack in (ours, theirs):
        if not stack.spaced:
            raise InputError(
                f'"{stack.name}" does not say how far its planes are apart: enter or check their distance '
                "above and press Set."
            )
    if len(ours.depths) != len(theirs.depths):
        raise InputError(
            f'"{ours.name}" has {len(ours.depths)} planes and "{theirs.name}" {len(theirs.depths)}: choose '
            "labels made from this stack."
        )
    apart = np.abs(ours.depths - theirs.depths).max()
    if apart > 1e-3 * np.abs(np.diff(ours.depths, append=ours.depths[-1] + 1)).min():
        raise InputError(
            f'The planes of "{ours.name}" and "{theirs.name}" are up to {apart:.3g} apart: give both layers '
            "the same scale and translate along z."
        )
    return ours, theirs


def _pixels(plane: DisplayedPlane) -> str:
    return f"{plane.shape[0]} x {plane.shape[1]} pixels"


def _chosen_cells(labels: Labels, choice: CellChoice, clicked: tuple[int, ...]) -> tuple[int, ...] | None:
    if choice is CellChoice.ALL:
        return None
    if choice is CellChoice.SELECTED:
        if labels.selected_label <= 0:
            raise InputError(
                f'The selected label of "{labels.name}" is the background: select the label of a cell.'
            )
        return (int(labels.selected_label),)
    if not clicked:
        raise InputError("No cell is chosen: turn on Pick cells and click cells in the picture.")
    return clicked


def inspect(request: PredictRequest, boxes: Mapping[int, Box] | None = None) -> Inspection:
    """Read the planes, check their pixels and crop the cells; ``boxes`` are theirs, if they are known
    already.

    Raises an InputError if the picture or the labels cannot be used (`check_fields`), a chosen cell is
    missing, cut by the border or larger than the grid, or the model's file cannot be read.
    """
    if request.stacks is not None:
        return _inspect_stacks(request, *request.stacks)
    segmentation = np.asarray(request.labels.array)
    if request.labels.index and not segmentation.any():
        raise InputError(
            f'"{request.labels.name}" has no labels in the displayed plane: move the slider to a plane that '
            "has some, or choose the planes that have labels."
        )
    image, labels = check_fields(np.asarray(request.image.array), segmentation)
    card = read_card(request.settings.model)
    binary = is_binary(labels)
    try:
        crops, left_out = crop_cells(image, labels, request.cells, request.scaling(card), boxes)
    except InputError as error:
        if binary:  # the reason is neither its border nor its size
            raise MaskError(_MASK.strip()) from error
        raise
    boxes = boxes or cell_boxes(labels)
    own = {crop.label: boxes[crop.label] for crop in crops}
    return Inspection(
        tuple(crops),
        Counter(error.why for error in left_out.values()),
        request.apart,
        () if binary else tuple(mask_notes(labels, own, boxes)),
        binary=binary,
        step=_layer_step(own, card, request.settings),
        plane=_plane_text(request.image, request.labels),
    )


def _inspect_stacks(request: PredictRequest, image: DisplayedStack, labels: DisplayedStack) -> Inspection:
    """As `inspect`, for all planes that have labels."""
    segmentation = np.asarray(labels.array)
    which = known_planes(segmentation)
    if not which:
        raise InputError(f'"{labels.name}" has no labels in any plane: segment at least one cell in it.')
    pixels = np.stack([np.asarray(image.array[k]) for k in which])
    planes = check_planes(pixels, segmentation[which], labels.depths[which].tolist())
    card, binary = read_card(request.settings.model), is_binary(planes.labels)
    in_pixels = replace(planes, depths=planes.depths / grid.in_plane_scale(request.image.to_world))
    try:
        crops, imaged, left_out = crop_planes(in_pixels, request.cells, request.scaling(card))
    except InputError as error:
        if binary:
            raise MaskError(_MASK.strip()) from error
        raise
    boxes = cell_boxes(planes.labels)
    return Inspection(
        tuple(crops),
        Counter(error.why for error in left_out.values()),
        request.apart,
        tuple(note for label, k in imaged.items() for note in mask_notes(planes.labels[k], [label])),
        binary=binary,
        step=_layer_step({label: boxes[label][1:] for label in imaged}, card, request.settings),
        depths=tuple(planes.depths.tolist()),
        empty=sum(not plane.any() for plane in planes.labels),
    )


def _layer_step(boxes: Mapping[int, Box], card: Card, settings: PredictSettings) -> int:
    """Pixels along a voxel of the layers, if cells are about as high as wide (see `Placement`)."""
    ends = np.array([[(side.start, side.stop) for side in box] for box in boxes.values()])
    height = (ends[:, :, 1] - ends[:, :, 0]).max()
    area = (ends[:, :, 1].max(axis=0) - ends[:, :, 0].min(axis=0)).prod()
    members = 1 if card.rival else settings.members
    size = float(height) * float(area) * members * np.min_scalar_type(max(boxes)).itemsize
    step = 1
    while size / step**3 > LARGEST_VOLUMES:
        step *= 2
    return step
