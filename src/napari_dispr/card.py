"""A model's card: what it is, what it was trained on, how it is sampled. Read without torch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Quality(BaseModel):
    """A sampler and its number of evaluations."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sampler: str
    steps: int = Field(ge=1, le=4000)


class Calibration(BaseModel):
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
    members : int
        Members of each ensemble.
    few : int or None
        If the cells were too few for quantiles: their number. The scores are then the absolute quantiles of
        a t-distribution, with its spread from the cells.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scores: tuple[float, ...]
    floor: float = Field(gt=0)
    sd: float = Field(ge=0)
    members: int = Field(ge=1)
    few: int | None = Field(None, ge=1)

    @property
    def cells(self) -> int:
        """Number of cells that it was made from."""
        return self.few or len(self.scores)


class Usual(BaseModel):
    """Mean and spread of some features over the training cells: how unusual is another cell?

    Attributes
    ----------
    names : tuple of str
        The features.
    whitening : tuple of tuple of float
        Of the standardised features; the length of ``whitening^T z`` is their Mahalanobis distance.
    unit : float
        Of that distance: what 98 % of the training cells stay below.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    names: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    unit: float


class Direction(BaseModel):
    """The direction of features that separates known faults (blurred cells, ...) from the training cells.

    Attributes
    ----------
    weights : tuple of float
        Of the standardised features of the group "picture".
    unit : float
        What 98 % of the training cells stay below.
    centre : tuple of float
        Mean of such cells, of the standardised features.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weights: tuple[float, ...]
    unit: float
    centre: tuple[float, ...]


class Novelty(BaseModel):
    """What the training cells look like, to detect novel cells; made and read by ``cells.novelty``.

    Attributes
    ----------
    groups : dict
        "size", "shape" and, where there were pictures, "picture".
    directions : dict
        "blurred", "inverted" and "strange", where there were pictures.
    thresholds : dict
        For each set of groups that may be known for a cell, joined by "+": a cell above this is novel.
    cells : int
        Training cells that it was made from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    groups: dict[str, Usual]
    directions: dict[str, Direction] = Field(default_factory=dict)
    thresholds: dict[str, float]
    cells: int


class Weights(BaseModel):
    """One Gaussian process of a `VolumeRegression`.

    Attributes
    ----------
    centre : float
        Mean logarithm of the volume (or of volume / area^1.5).
    of_cells : tuple of float
        Weight of the kernel to each training cell.
    length, linear : float
        Length scale of the squared exponential kernel, and share of the linear one.
    error : float
        Root mean square error of the logarithm, of training cells left out one by one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    centre: float
    of_cells: tuple[float, ...]
    length: float
    linear: float
    error: float


class VolumeRegression(BaseModel):
    """Predicts a cell's volume from mask and picture; made and read by ``cells.volume``.

    Attributes
    ----------
    mean, sd : tuple of float
        Of all features over the training cells.
    cells : tuple of tuple of float
        The training cells' standardised features.
    weights : dict
        For each set of groups of features that may be known for a cell, joined by "+".
    share : float
        Weight of this expectation against the volume of the sampled shape, both as logarithms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    cells: tuple[tuple[float, ...], ...]
    weights: dict[str, Weights]
    share: float = Field(0.5, ge=0, le=1)


class VolumeLine(BaseModel):
    """``log volume = constant + own * log(volume as drawn) + area * log(area of the mask)``, in voxels."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    constant: float
    own: float
    area: float


class Heights(BaseModel):
    """Gives members the volume of known cells of their kind; made and read by ``cells.heights``.

    Attributes
    ----------
    sized, unsized : VolumeLine
        For cells whose size on the grid is their true size, and for cells whose true size is not known.
    cells : int
        Known cells that it was made from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, allow_inf_nan=False)

    name: str
    description: str = ""
    licence: str = ""
    attribution: str = ""
    limits: str = ""
    representation: Literal["signed_distance", "occupancy"] = "signed_distance"
    truncation: float = Field(8.0, gt=0, le=1000)
    typical_extent: float = Field(50.0, gt=0, le=64)
    voxel_size: float | None = Field(None, gt=0)
    unit: str = "micrometer"
    qualities: dict[str, Quality]
    training: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
    intervals: dict[str, Calibration] = Field(default_factory=dict)
    #: Called "familiarity" in model files.
    novelty: Novelty | None = Field(None, alias="familiarity")
    volume: VolumeRegression | None = None
    heights: Heights | None = None
    rival: Literal["fit", "shapr", "topo-shapr"] | None = None

    @property
    def seen(self) -> frozenset[str]:
        """Fingerprints of the cells that it was trained on, and of their objects."""
        return frozenset((*self.training.get("fingerprints", ()), *self.training.get("shapes", ())))
