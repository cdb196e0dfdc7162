"""Settings for learning from annotated images and for making cells. No torch."""

from typing import Annotated, Literal

from pydantic import Field

from napari_dispr.settings import Settings


class LearnSettings(Settings):
    """How masks and textures are learned: for ``minutes`` or, if they are given, for ``steps``."""

    minutes: Annotated[float, Field(gt=0)] = Field(20.0, description="Training time in minutes.")
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Number of training steps. It replaces the minutes; then a run can be repeated exactly.",
    )
    start: str = Field(
        "sample",
        description="Learned model from which the training starts: sample (that in the package, learned from "
        "13 nuclei in one stack), a file, or none.",
    )
    batch: Annotated[int, Field(ge=1, le=512)] = Field(
        16, description="Number of masks, and of pictures, in each step."
    )
    held_out: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.15,
        description="Share of the cells whose masks are not trained on. They show whether made masks are "
        "copies.",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        0.01, description="Peak learning rate of the convolutions (Muon)."
    )
    adam_learning_rate: Annotated[float, Field(gt=0)] = Field(
        1e-3, description="Peak learning rate of all other parameters (AdamW)."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Seed of weights, samples and noise.")
    device: str = Field(
        "auto", description="Device that computes: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ..."
    )


class CellSettings(Settings):
    """How cells are made by a learned model."""

    way: Literal["model", "views"] = Field(
        "model",
        description="From a mask to a volume: model (a shape model of this package, seconds) or views (the "
        "way of the paper: many views of the cell, then a surface).",
    )
    views_model: str = Field(
        "", description="For the way views: the model file that the command synthesise views has trained."
    )
    shape_model: str = Field("generic", description="For the way model: the shape model, by name or file.")
    mask_sampler: Literal["dpm-solver++", "ddim", "ddpm"] = Field(
        "dpm-solver++", description="Sampler of the masks."
    )
    mask_steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Evaluations of the network for each mask (12; 50 with ddim, 250 with ddpm)."
    )
    texture_steps: Annotated[int, Field(ge=1, le=1000)] = Field(
        12, description="Evaluations of the network for each slice of a texture (DDIM, eta 0)."
    )
    rho: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="Common noise of the slices of a cell relative to the own noise of each slice: the noise "
        "of two slices correlates by rho^2 / (1 + rho^2). By default 0.7 with as_published, and otherwise 0.",
    )
    as_published: bool = Field(
        False,
        description="Make slices as in the paper: with correlated noise only, without the slice next to them "
        "as a condition.",
    )
    device: str = Field(
        "auto", description="Device that computes: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ..."
    )


class ViewsSettings(Settings):
    """How the multi-view model of the way views is trained."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1500, description="Number of training steps; about one second each on one core."
    )
    batch: Annotated[int, Field(ge=1, le=512)] = Field(16, description="Number of bodies in each step.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Seed of weights, bodies and noise.")
