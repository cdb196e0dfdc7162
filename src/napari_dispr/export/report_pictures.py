"""The pictures and the chart of a report, as HTML."""

from html import escape

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import affine_transform, zoom

from napari_dispr import grid
from napari_dispr.cells.cropping import check_fields
from napari_dispr.errors import InputError
from napari_dispr.export.html import Picture, figure, number, outline
from napari_dispr.labels import cell_boxes
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.measures import unit_sign, without_attrs

#: Pixels per voxel in the picture of a crop; longest side of the picture of all cells.
CROP, _OVERVIEW = 3, 1400
#: Rows of a chart, so that it fits a page.
_CHART_ROWS = 40


class Field:
    """The picture of the prediction and its labels, if they are known; an `InputError` if they are others.

    Of several planes the brightest pixels and the largest labels.
    """

    def __init__(self, prediction: Prediction, image: ArrayLike | None, labels: ArrayLike | None) -> None:
        self.image: Picture | None = None
        self.labels: Picture | None = None
        #: Of several planes; then no picture shows all cells as they were seen.
        self.flattened = "depths" in prediction.provenance
        self._shape = prediction.image_shape
        self._to_pixel = np.linalg.inv(grid.pixel_to_world(prediction.image_to_world))
        if image is None and labels is None:
            return
        if self.flattened:
            image, labels = (None if stack is None else _flat(stack) for stack in (image, labels))
        if labels is not None:
            _, self.labels = check_fields(None, labels)
        # Earlier versions took the labels themselves as picture.
        same = self.labels is not None and np.array_equal(np.asarray(image).squeeze(), self.labels)
        known = np.ones(np.asarray(image).shape, np.uint8) if self.labels is None or same else self.labels
        self.image, plane = check_fields(image, known)
        if plane.shape != tuple(self._shape):
            there, wanted = (" x ".join(str(n) for n in sides) for sides in (plane.shape, self._shape))
            raise InputError(
                f"The picture has {there} pixels, the prediction was made from one of {wanted}: give that."
            )
        if self.image is not None:
            low, high = np.percentile(self.image, (0.5, 99.8))
            self._low, self._range = float(low), float(high - low) or 1.0

    def grey(self, image: Picture) -> Picture:
        return np.clip((image - self._low) / self._range, 0, 1)

    def crop(self, ensemble: Ensemble) -> tuple[Picture | None, str]:
        """The part of the picture that the grid covers, and the cell's outline; None without one picture."""
        if self.flattened:
            return None, ""
        affine = self._to_pixel @ ensemble.grid_to_world
        factor, first = np.diag(affine)[1:3] / CROP, affine[1:3, 3]
        start = first + np.diag(affine)[1:3] * (0.5 / CROP - 0.5)
        size = (grid.SIZE * CROP,) * 2
        # Only the part of a large picture that is seen, and a pixel around it.
        ends = np.sort(np.stack([start, start + factor * (np.array(size) - 1)]), axis=0)
        part = tuple(
            slice(int(np.clip(low - 1, 0, length - 1)), int(np.clip(high + 2, 1, length)))
            for low, high, length in zip(*ends, self._shape, strict=True)
        )
        start = start - [one.start for one in part]
        picture = None
        if self.image is not None:
            image = np.asarray(self.image[part], dtype=np.float32)
            picture = self.grey(affine_transform(image, factor, start, size, order=1, mode="nearest"))
        if self.labels is None:
            return picture, ""
        mask = (self.labels[part] == ensemble.label).astype(np.float32)
        return picture, outline(affine_transform(mask, factor, start, size, order=1) > 0.5)


def _flat(stack: ArrayLike) -> Picture:
    planes = np.asarray(stack)
    return planes.max(axis=0) if planes.ndim == 3 else planes


def views(prediction: Prediction, label: int, field: Field | None = None) -> list[str]:
    """Figures of what is known of a cell: its picture, or each of its planes, with its outline."""
    ensemble, name = prediction[label], prediction.names.get(label) or f"cell {label}"
    picture, over = (None, "") if field is None else field.crop(ensemble)
    if picture is not None:
        return [figure(picture, "the picture", f"picture of {name}", over, "crop")]
    section = ensemble.section
    if section is None:
        picture = np.kron(grid.section(ensemble.occupancy), np.ones((CROP, CROP)))
        return [figure(picture, "section in the imaged plane", f"section of {name}", over, "crop")]
    low, high = section.brightness
    z, step = prediction.imaged_depth(label), ensemble.spacing[0]
    figures = []
    for plane in sorted(section.all_planes, key=lambda plane: plane.depth):
        mask, image = plane.mask, plane.image
        grey = mask / 2 if image is None else (image - low) / max(high - low, 1e-12)
        height = step * round(z / step + plane.depth, 6)  # 0 is not written as 2e-16
        place = f"plane at z = {number(height)} {unit_sign(prediction.unit)}".rstrip()
        what = "no cell" if mask.max() <= 0.5 else "" if plane.depth else "imaged plane"
        caption = f"{place}<br>{what}"
        caption = caption if section.planes else "section in the imaged plane"
        over = outline(_enlarged(mask) > 0.5) if mask.max() > 0.5 else ""
        figures.append(figure(_enlarged(grey), caption, f"{place} of {name}", over, "crop"))
    return figures


def _enlarged(picture: Picture) -> Picture:
    return np.asarray(zoom(picture, CROP, order=1, mode="nearest", grid_mode=True))


def overview(prediction: Prediction, field: Field) -> str:
    """The picture with the cells outlined and named."""
    if field.image is None:
        return ""
    step = max(1, -(-max(field.image.shape) // _OVERVIEW))
    image = field.grey(field.image[::step, ::step].astype(np.float32))
    over = []
    boxes = {} if field.labels is None else cell_boxes(field.labels)
    for label in prediction:
        frame = prediction.facts(label).grid_to_world
        centre = field._to_pixel @ frame @ [*grid.MIDDLE, 1]
        y, x = (centre[1:3] + 0.5) / step
        if field.labels is not None and (box := boxes.get(label)):
            path = outline(field.labels[box] == label)
            top, left = box[0].start, box[1].start
            over.append(f'<g transform="scale({1 / step:.5g}) translate({left} {top})">{path}</g>')
        over.append(f'<a href="#cell-{label}"><text x="{x:.1f}" y="{y:.1f}">{label}</text></a>')
    name = escape(str(prediction.provenance.get("image", "")))
    what = "The brightest pixels of all planes" if field.flattened else "The picture"
    caption = f"{what}, with the cells that were predicted" + (f" ({name})." if name else ".")
    whole = figure(image, caption, "the picture with its cells", "".join(over), "overview")
    return f"<h2>The picture</h2>{whole}"


def volume_chart(prediction: Prediction, table: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The volumes: a dot for each member, the mean, and the interval."""
    unit = unit_sign(table.attrs.get("columns", {}).get("volume", "").partition(":")[0])
    known = ["volume_low", "volume_high"] if "volume_low" in cells else []
    largest = float(np.nanmax([table["volume"].max(), *(cells[name].max() for name in known)])) or 1.0
    step = 10.0 ** np.floor(np.log10(largest / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if largest / (factor * step) <= 6)
    ticks = np.arange(0, largest * 1.02, step)
    drawn = dict(iter(without_attrs(table).groupby("label")["volume"]))
    parts = []
    for first in range(0, len(cells), _CHART_ROWS):
        part = cells.iloc[first : first + _CHART_ROWS]
        height = 18 * len(part) + 34

        def x(value: float) -> str:
            return f"{110 + 760 * value / (1.04 * largest):.1f}"

        marks = [
            f'<path class="grid" d="M{x(tick)} 4V{height - 28}"/>'
            f'<text class="tick" x="{x(tick)}" y="{height - 13}">{number(tick)}</text>'
            for tick in ticks
        ]
        for place, (label, row) in enumerate(part.iterrows()):
            y = 18 * place + 14
            name = prediction.names.get(int(str(label)), str(label))
            marks.append(f'<text class="name" x="98" y="{y + 4}">{escape(name[:14])}</text>')
            if known and np.isfinite(row["volume_low"]):
                marks.append(f'<path class="range" d="M{x(row["volume_low"])} {y}H{x(row["volume_high"])}"/>')
            marks += [f'<circle cx="{x(value)}" cy="{y}" r="3"/>' for value in drawn[label]]
            marks.append(f'<path class="mean" d="M{x(row["volume_mean"])} {y - 6}v12"/>')
        parts.append(
            f'<svg class="chart" viewBox="0 0 880 {height}" role="img" aria-label="volumes">'
            f"{''.join(marks)}</svg>"
        )
    legend = "A dot for each member, a line at their mean" + (
        f"; the bar is the {LEVEL:.0%} interval." if known else "."
    )
    return f'<h2>Volumes <i>{unit}</i></h2>{"".join(parts)}<p class="legend">{legend}</p>'
