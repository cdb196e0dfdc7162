"""A model's card: what it is, what it was trained on, how it is sampled. Read without torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Larger statistics come from a damaged file, and their squares overflow.
_LARGEST = 1e6
_Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_Positive = Annotated[float, Field(ge=1e-9, le=_LARGEST)]

#: Sets of groups of features that may be known for a cell, in the order of `cells.features.GROUPS`.
KNOWN = ("size+shape+picture", "size+shape", "shape+picture", "shape")


class _Part(BaseModel):
    """A part of a card: no other fields, no changes, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Quality(_Part):
    """A sampler and its number of evaluations."""

    sampler: str
    steps: int = Field(ge=1, le=4000)


class Calibration(_Part):
    """How far a measure of an ensemble was from the truth, on cells that the model was not trained on.

    Made by ``shapes.intervals.calibrate``, read by ``shapes.intervals.read_interval``.

    Attributes
    ----------
    scores : tuple of float
        ``(log truth - log estimate) / spread`` of each cell, ascending.
    floor : float
        What is added, squared, to a cell's variance, so that its spread is ``sqrt(sd^2 + floor^2)``.
    sd : float
        Root mean square of the cells' standard deviations over their members, of the logarithm.
    few : int or None
        If the cells were too few for quantiles: their number. The scores are then the absolute quantiles of
        a t-distribution, with its spread from the cells.
    """

    scores: tuple[_Number, ...]
    floor: _Positive
    sd: float = Field(ge=0, le=_LARGEST)
    members: int = Field(ge=1, le=1_000_000)
    few: int | None = Field(None, ge=1, le=1_000_000)

    @property
    def cells(self) -> int:
        """Number of cells that it was made from."""
        return self.few or len(self.scores)


class PlaneIntervals(_Part):
    """The calibrations of cells of which several planes are known; ``gap`` is the largest `planes.mean_gap`
    of a cell, in voxels, for which they hold.
    """

    gap: _Positive
    measures: dict[str, Calibration]


class FeatureGroup(_Part):
    """Mean and spread of some features over the training cells: how unusual is another cell?

    ``whitening`` is of the standardised features; the length of ``whitening^T z`` is their Mahalanobis
    distance, of which ``unit`` is what 98 % of the training cells stay below.
    """

    names: tuple[str, ...]
    mean: tuple[_Number, ...]
    sd: tuple[_Positive, ...]
    whitening: tuple[tuple[_Number, ...], ...]
    unit: _Positive

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        _check_lengths(len(self.names), self.mean, self.sd, self.whitening, *self.whitening)
        return self


class Direction(_Part):
    """The direction of features that separates known faults (blurred cells, ...) from the training cells.

    ``weights`` and ``centre``, the mean of such cells, are of the standardised features of the group
    "picture"; ``unit`` is what 98 % of the training cells stay below.
    """

    weights: tuple[_Number, ...]
    unit: _Positive
    centre: tuple[_Number, ...]


class Novelty(_Part):
    """What the training cells look like, to detect novel cells; made and read by ``cells.novelty``.

    Attributes
    ----------
    groups : dict
        "size", "shape" and, where there were pictures, "picture".
    directions : dict
        "blurred", "inverted" and "strange", where there were pictures.
    thresholds : dict
        For each set of groups that may be known for a cell, joined by "+": a cell above this is novel.
    """

    groups: dict[Literal["size", "shape", "picture"], FeatureGroup]
    directions: dict[Literal["blurred", "inverted", "strange"], Direction] = Field(default_factory=dict)
    thresholds: dict[str, _Positive]
    cells: int

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        there = [known for known in KNOWN if set(known.split("+")) <= set(self.groups)]
        if not {"size", "shape"} <= set(self.groups) or not set(there) <= set(self.thresholds):
            raise ValueError("groups or thresholds are missing")
        if self.directions:
            size = len(self.groups["picture"].names) if "picture" in self.groups else -1
            for direction in self.directions.values():
                _check_lengths(size, direction.weights, direction.centre)
        return self


class GaussianProcess(_Part):
    """A Gaussian process of a `VolumeRegression`: ``of_cells`` has the weight of the kernel to each training
    cell.

    ``length`` and ``linear`` are the length scale of the squared exponential kernel, and the share of the
    linear one.
    """

    centre: _Number
    of_cells: tuple[_Number, ...]
    length: _Positive
    linear: _Number


class VolumeProcess(GaussianProcess):
    """Predicts the logarithm of the volume (or of volume / area^1.5).

    ``error`` is the root mean square error of the logarithm, of training cells left out one by one;
    ``errors`` predict that of a cell.
    """

    error: _Number
    errors: GaussianProcess | None = None


class VolumeRegression(_Part):
    """Predicts a cell's volume from mask and picture; made and read by ``cells.volume``.

    Attributes
    ----------
    cells : tuple of tuple of float
        The training cells' standardised features.
    weights : dict
        For each set of groups of features that may be known for a cell, joined by "+".
    share : float
        Weight of this expectation against the volume of the sampled shape, both as logarithms.
    """

    mean: tuple[_Number, ...]
    sd: tuple[_Positive, ...]
    cells: tuple[tuple[_Number, ...], ...]
    weights: dict[str, VolumeProcess]
    share: float = Field(0.5, ge=0, le=1)

    @property
    def has_errors(self) -> bool:
        """Whether the error of each cell is predicted, too."""
        return all(weights.errors is not None for weights in self.weights.values())

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if not set(KNOWN) <= set(self.weights):
            raise ValueError("weights are missing")
        _check_lengths(len(self.mean), self.sd, *self.cells)
        processes = [one for own in self.weights.values() for one in (own, own.errors) if one is not None]
        _check_lengths(len(self.cells), *(process.of_cells for process in processes))
        return self


def _check_lengths(size: int, *rows: tuple[Any, ...]) -> None:
    if any(len(row) != size for row in rows):
        raise ValueError(f"rows have {size} numbers")


class VolumeLine(_Part):
    """``log volume = constant + own * log(volume as drawn) + area * log(area of the mask)``, in voxels."""

    constant: float
    own: float
    area: float


class Heights(_Part):
    """Gives members the volume of known cells of their kind; made and read by ``cells.heights``.

    ``sized`` is for cells whose size on the grid is their true size, ``unsized`` for those whose true size is
    not known.
    """

    sized: VolumeLine
    unsized: VolumeLine
    cells: int


class Card(BaseModel):
    """The card of a model, which its file contains as JSON.

    Attributes
    ----------
    representation : "signed_distance" or "occupancy"
        Output of the network: signed distance over ``truncation``, or 0 and 1 (the paper).
    truncation : float
        Voxels.
    typical_extent : float
        Larger side, in grid voxels, to which the scale "auto" brings a cell's mask.
    voxel_size : float or None
        Size of a grid voxel in ``unit`` in the training data, where it is known.
    qualities : dict
        Name to sampler and evaluations.
    training, scores : dict
        What it was trained on and how, and its scores on other cells.
    intervals : dict
        By measure; without it there are no intervals.
    plane_intervals : tuple of PlaneIntervals
        The same for cells of which several planes are known, from the smallest gaps to the largest.
    novelty : Novelty or None
        What its training cells look like; without it there are no warnings about novel cells.
    volume : VolumeRegression or None
        Predicts the volume from mask and picture. Members are stretched along z, about the imaged plane, to
        between their own volume and the predicted one.
    heights : Heights or None
        From the known cells of a calibration. Members are then stretched along z to the volume it gives.
    rival : "fit", "shapr", "topo-shapr" or None
        Another method, which draws one shape of each cell; None: a shape model.
    """

    model_config = ConfigDict(
        extra="allow", frozen=True, populate_by_name=True, allow_inf_nan=False, defer_build=True
    )

    name: str
    description: str = ""
    licence: str = ""
    attribution: str = Field("", repr=False)
    limits: str = Field("", repr=False)
    representation: Literal["signed_distance", "occupancy"] = "signed_distance"
    truncation: float = Field(8.0, gt=0, le=1000)
    typical_extent: float = Field(50.0, gt=0, le=64)
    voxel_size: float | None = Field(None, gt=0)
    unit: str = "micrometer"
    qualities: dict[str, Quality]
    training: dict[str, Any] = Field(default_factory=dict, repr=False)
    scores: dict[str, Any] = Field(default_factory=dict, repr=False)
    intervals: dict[str, Calibration] = Field(default_factory=dict, repr=False)
    plane_intervals: tuple[PlaneIntervals, ...] = Field((), repr=False)
    #: Called "familiarity" in model files.
    novelty: Novelty | None = Field(None, alias="familiarity", repr=False)
    volume: VolumeRegression | None = Field(None, repr=False)
    heights: Heights | None = Field(None, repr=False)
    rival: Literal["fit", "shapr", "topo-shapr"] | None = None

    @property
    def seen(self) -> frozenset[str]:
        """Fingerprints of the cells that it was trained on, and of their objects."""
        return frozenset((*self.training.get("fingerprints", ()), *self.training.get("shapes", ())))
