"""The cells of annotated images, with their sections in the annotated slices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_dispr.cells.cropping import check_intensities
from napari_dispr.errors import InputError, listed
from napari_dispr.grid import check_spacing
from napari_dispr.labels import Box, cell_boxes, whole_numbers
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.cell_ends import light_ends
from napari_dispr.synthesis.visible import Differences, are_shown, differences

#: Fewer cells than this do not show how cells vary.
LEAST_CELLS = 5
#: Sections nearer to the end of a cell than this, as a share of the way from its middle, are caps: they say
#: little about its outline. There an ellipsoid has half of its width.
CAP = 0.75**0.5


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A cell in one slice.

    ``diameter`` is that of a disk with its area, ``reach`` its largest distance from the centre of its box.
    """

    z: int
    box: Box
    diameter: float
    reach: float


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """The sections of a cell.

    Attributes
    ----------
    whole : bool
        Its first and last slice are known, and the border cuts nothing.
    depth : float
        Of its largest annotated section, as a share of the way from the middle of the cell to its end.
    ends : (float, float) or None
        Where it starts and ends along z, in slices, if that is known.
    """

    name: str
    field: int
    label: int
    sections: list[Section]
    whole: bool
    depth: float = 0.0
    ends: tuple[float, float] | None = None

    @property
    def largest(self) -> Section:
        """The largest annotated section."""
        return max(self.sections, key=lambda section: section.diameter)

    @property
    def widening(self) -> float:
        """Width of the middle of the cell over that of its largest annotated section, as in an ellipsoid."""
        return float((1 - self.depth**2) ** -0.5)

    @property
    def diameter(self) -> float:
        """Diameter of a disk with the area of the cell's middle section."""
        return self.widening * self.largest.diameter

    def depth_at(self, z: int) -> float | None:
        """Depth of a slice: 0 in the middle of the cell, 1 at its end; None if its ends are not known."""
        if self.ends is None:
            return None
        low, high = self.ends
        return abs(2 * z - low - high) / (high - low)


def check_annotated(
    fields: Sequence[Annotated],
) -> tuple[list[Annotated], list[Cell], tuple[float, ...], tuple[str, ...]]:
    """The fields as stacks, their cells, the size of a voxel, and warnings about single images, in sentences.

    Raises an InputError if image and labels do not fit together, no image shows its cells, or there are too
    few cells.
    """
    fields = [_checked(one) for one in fields]
    first = fields[0]
    for other in fields[1:]:
        if other.labels.ndim != first.labels.ndim:
            raise InputError(f"{first.name} and {other.name} are not both 2D or both 3D: give one kind.")
        if not np.allclose(other.spacing, first.spacing, rtol=0.05) or other.unit != first.unit:
            raise InputError(
                f"{first.name} and {other.name} have different spacings, {first.spacing} {first.unit} and "
                f"{other.spacing} {other.unit}: give images of one microscope, or state one spacing."
            )
    volumes = [_volume(one) for one in fields]
    step = (1.0, *first.spacing)[-3:]
    cells = [cell for i, one in enumerate(volumes) for cell in _cells(one, i, step)]
    if len(cells) < LEAST_CELLS:
        count = f"only {len(cells)} cell{'s' if len(cells) > 1 else ''}" if cells else "no whole cell"
        raise InputError(
            f"The labels hold {count} in the annotated slices, cells cut by the border not counted: "
            f"label at least {LEAST_CELLS}, better 20 or more."
        )
    found = [_differences(one, [cell for cell in cells if cell.field == i]) for i, one in enumerate(volumes)]
    if not are_shown([section for sections in found for section in sections]):
        raise InputError(_hidden([volumes[cells[0].field].name]) + ".")
    hidden = [one.name for one, sections in zip(volumes, found, strict=True) if not are_shown(sections)]
    left_out = f"; or leave {'it' if len(hidden) == 1 else 'them'} out."
    return volumes, cells, step, (_hidden(hidden) + left_out,) if hidden else ()


def _hidden(names: Sequence[str]) -> str:
    whose = f"image of {names[0]} does not show its"
    if len(names) > 1:
        whose = f"images of {listed(names)} do not show their"
    return (
        f"The {whose} cells: grey values, texture and edges are the same around them. Give the image and "
        "channel from which the labels were made; if grey values begin again at 0 where the image should be "
        "brightest, export it with more bits"
    )


def _differences(field: Annotated, cells: Sequence[Cell]) -> list[Differences]:
    return differences(field, [(cell.label, part.z, part.box) for cell in cells for part in cell.sections])


def _checked(field: Annotated) -> Annotated:
    """Image and labels as arrays that fit together."""
    labels = whole_numbers(np.asarray(field.labels), field.name)
    image = np.asarray(field.image)
    if image.shape != labels.shape:
        raise InputError(
            f"The image of {field.name} has the shape {image.shape} and its labels {labels.shape}: give "
            "labels made from this image."
        )
    if labels.ndim not in (2, 3):
        raise InputError(
            f"{field.name} has {labels.ndim} axes: give a 2D image or a 3D stack of one channel."
        )
    if len(field.spacing) != labels.ndim:
        raise InputError(
            f"The spacing {tuple(field.spacing)} of {field.name} has {len(field.spacing)} numbers: give "
            f"{'y,x for a 2D image' if labels.ndim == 2 else 'z,y,x for a stack'}."
        )
    check_spacing((field.spacing[0], *field.spacing)[-3:], field.unit)
    if not labels.any():
        raise InputError(f"The labels of {field.name} are empty: annotate at least one slice.")
    check_intensities(image, name=field.name)
    return replace(field, image=image, labels=labels)


def _volume(field: Annotated) -> Annotated:
    """The field as a stack; a 2D image has one slice."""
    shape = (-1, *field.labels.shape[-2:])
    return replace(
        field, image=field.image.astype(np.float32).reshape(shape), labels=field.labels.reshape(shape)
    )


def _cells(field: Annotated, number: int, step: Sequence[float]) -> list[Cell]:
    """The cells of a stack, with their sections that the border does not cut."""
    annotated = np.asarray(field.labels.any(axis=(1, 2)))
    found: dict[int, list[list[Section]]] = {}
    cut: set[int] = set()
    for z in np.flatnonzero(annotated).tolist():
        plane = field.labels[z]
        for label, box in cell_boxes(plane).items():
            if any(side.start == 0 or side.stop == n for side, n in zip(box, plane.shape, strict=True)):
                cut.add(label)
                continue
            inside = np.argwhere(plane[box] == label)
            area = len(inside) * step[1] * step[2]
            offsets = (inside - (np.array([side.stop - side.start for side in box]) - 1) / 2) * step[1:]
            reach = float(np.hypot(*offsets.T).max()) + max(step[1:]) / 2
            section = Section(z, box, 2 * (area / np.pi) ** 0.5, reach)
            if min(side.stop - side.start for side in box) >= 3:
                parts = found.setdefault(label, [[]])
                if parts[-1] and not _overlap(parts[-1][-1].box, box):
                    parts.append([])  # slices that were annotated one by one may use a number twice
                parts[-1].append(section)
    cells = []
    for label, sections in ((label, sections) for label, parts in found.items() for sections in parts):
        ends = sections[0].z - 1, sections[-1].z + 1
        whole = label not in cut and all(0 <= z < len(annotated) and annotated[z] for z in ends)
        name = f"{label} in slice {sections[0].z} of image {number}, {field.name}"
        cell = Cell(name, number, label, sections, whole)
        middle = cell.largest.z
        if whole:
            cell = replace(cell, ends=(sections[0].z - 0.5, sections[-1].z + 0.5))
        elif len(annotated) > 1 and annotated[max(0, middle - 1) : middle + 2].sum() < 3:
            seen = sections[0].z, sections[-1].z
            cell = replace(cell, ends=light_ends(field, annotated, label, middle, cell.largest.box, seen))
            depth = cell.depth_at(middle)
            # It is any section but a cap: the median depth, if it is not known.
            cell = replace(cell, depth=CAP / 2 if depth is None else depth)
        cells.append(cell)
    return cells


def _overlap(one: Box, other: Box) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
