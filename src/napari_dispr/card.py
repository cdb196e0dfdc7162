"""A shape model's card: what it is, what it was trained on, how it is sampled. Read without torch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Quality(BaseModel):
    """A sampler and its number of evaluations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampler: str
    steps: int = Field(ge=1)


class Card(BaseModel):
    """Stands as JSON in the metadata of a model file.

    Attributes
    ----------
    name, description, licence, attribution, limits : str
    representation : "signed_distance" or "occupancy"
        What the network draws: signed distance over ``truncation``, or 0 and 1 (the paper).
    truncation : float
        Voxels.
    typical_extent : float
        Larger side, in grid voxels, to which the scale "auto" brings a cell's mask.
    voxel_size : float or None
        Size of a grid voxel in ``unit`` in the training data, where it is known.
    qualities : dict
        Name to sampler and evaluations.
    training, scores : dict
        What it was trained on and how, and how it did on cells that it was not trained on.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    description: str = ""
    licence: str = ""
    attribution: str = ""
    limits: str = ""
    representation: Literal["signed_distance", "occupancy"] = "signed_distance"
    truncation: float = 8.0
    typical_extent: float = 50.0
    voxel_size: float | None = None
    unit: str = "micrometer"
    qualities: dict[str, Quality]
    training: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
