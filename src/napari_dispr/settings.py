"""One pydantic model for each verb: defaults, ranges and help texts for widget and command line."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_dispr.errors import InputError
from napari_dispr.grid import LARGEST, SMALLEST


class Settings(BaseModel):
    """Common behaviour: unknown names are errors, numbers finite, values cannot be changed in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SettingsKind = TypeVar("SettingsKind", bound=Settings)
PixelSize = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
Scale = Annotated[float, Field(ge=SMALLEST, le=LARGEST)] | Literal["auto", "physical"]
Device = Annotated[
    str,
    Field(description="Device that computes: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ..."),
]
#: What a picture shows: a plane through the cells, or their projection, with their silhouettes as masks.
PictureKind = Literal["section", "projection"]


def checked_settings(kind: type[SettingsKind], values: Mapping[str, Any]) -> SettingsKind:
    """Settings of a verb from what a user gave.

    Raises
    ------
    InputError
        If a name is unknown or a value is out of its range.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # settings that exclude each other
            reason = first["msg"].removeprefix("Value error, ")
            raise InputError(f"{reason[0].upper()}{reason[1:]}.") from None
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"There is no setting {name!r}: choose among {', '.join(kind.model_fields)}."
            ) from None
        # A setting that may have several types has an error for each type.
        said = [
            f"{message[0].lower()}{message[1:]}"
            for e in error.errors()
            if e["loc"][:1] == first["loc"][:1]
            for message in [e["msg"].removeprefix("Value error, ")]
        ]
        raise InputError(
            f"The setting {name} cannot be {values.get(name)!r}: {', or '.join(said)}."
        ) from None


class PredictSettings(Settings):
    """How the members of each cell are sampled."""

    model: str = Field(
        "red-blood-cell",
        description="Shape model, by name or file. For comparison also a fit (cylinder, ellipsoid) or SHAPR.",
    )
    members: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="Number of members (sampled shapes) of each cell."
    )
    quality: str = Field(
        "balanced",
        description="How carefully shapes are sampled: fast, balanced, or another quality of the model.",
    )
    sampler: str | None = Field(
        None,
        description="Sampler: dpm-solver++, ddim, euler or ddpm. It replaces the sampler of the quality.",
    )
    steps: Annotated[int, Field(ge=1, le=4000)] | None = Field(
        None, description="Evaluations of the network for each shape. They replace the number of the quality."
    )
    scale: Scale = Field(
        "auto",
        description="Size of the cells on the model grid: auto (all cells get the usual size), "
        "physical (from the pixel size), or a number of grid voxels per pixel.",
    )
    pixel_size: PixelSize | None = Field(
        None, description="Side of a pixel in the unit of the model. Needed for the scale physical."
    )
    picture: PictureKind = Field(
        "section",
        description="What the picture shows: section (one plane, as a confocal microscope gives it) or "
        "projection (the whole depth, as a widefield picture or a maximum projection; the masks are "
        "silhouettes).",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0,
        description="Seed of the noise. The same seed gives the same shapes of a cell, whichever other cells "
        "are predicted.",
    )
    device: Device = "auto"


class EvaluateSettings(Settings):
    """How predicted shapes are compared with true ones."""

    definitions: Literal["ours", "shapr", "both"] = Field(
        "both",
        description="Definitions of surface area, roughness and curvature: ours, shapr (those of the SHAPR "
        "notebooks), or both.",
    )
    pixel_size: PixelSize | None = Field(
        None,
        description="Side of a voxel of the dataset in micrometer, for distances. Without it: the size that "
        "the dataset states, or else distances in voxels.",
    )


class CrossValidateSettings(Settings):
    """How cells are split into folds, and how methods are trained for each fold."""

    folds: Annotated[int, Field(ge=2, le=100)] = Field(
        5,
        description="Cross-validate with this number of folds; each fold is tested with models trained on "
        "the other folds.",
    )
    preset: str = Field(
        "standard", description="With --folds: the preset for training the method named model."
    )
    init: str = Field(
        "auto",
        description="With --folds: the model from which this training starts, a name or a file; none: from "
        "scratch.",
    )
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="With --folds: training time of each method for each fold, in minutes."
    )
    fold: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="With --folds: train and test for this fold only; --resume adds other folds.",
    )


class TrainSettings(Settings):
    """How a shape model is trained: for ``minutes`` or, without them, for ``steps``."""

    method: Literal["flow", "dispr"] = Field(
        "flow",
        description="What is trained: flow (ours), or dispr (the network, process and loss of the paper).",
    )
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Training time in minutes. It replaces the number of steps."
    )
    steps: Annotated[int, Field(ge=1)] = Field(2000, description="Number of optimiser steps.")
    batch: Annotated[int, Field(ge=1)] = Field(8, description="Number of shapes in each step.")
    scored: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3,
        description="Share of the budget, at its end, that trains by the energy score, for sampling with few "
        "evaluations.",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        0.01, description="Peak learning rate of the convolutions (Muon)."
    )
    adam_learning_rate: Annotated[float, Field(gt=0)] = Field(
        5e-4, description="Peak learning rate of all other parameters (AdamW)."
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        100, description="Steps during which the learning rate rises to its peak."
    )
    decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.4, description="Share of the budget, at its end, during which the learning rate falls to 0."
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="Largest norm of the gradient; longer gradients are cut to it. none: no limit."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.995,
        description="Decay per step of the moving average of the weights. The model gets this average.",
    )
    truncation: Annotated[float, Field(gt=0)] = Field(
        8.0, description="Signed distances are truncated at this number of voxels."
    )
    shift: Annotated[float, Field(gt=0)] = Field(
        12.0, description="How far the times of training and sampling are shifted towards noise."
    )
    plane_weight: Annotated[float, Field(ge=0)] = Field(
        2.0, description="Additional weight of errors in the imaged plane."
    )
    resliced: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of samples that are rotated in space and get a new section."
    )
    image_dropout: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of the other samples that have no image."
    )
    blended: Annotated[float, Field(ge=0, le=1)] = Field(
        0.15, description="Share of samples that are a shape between two cells; they have no image."
    )
    scale_dropout: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Share of samples for which the network does not get the true size of the cell."
    )
    projections: Annotated[float, Field(ge=0, le=1)] = Field(
        0.12, description="Share of samples whose picture is a projection, and whose mask is the silhouette."
    )
    further_planes: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Share of the other samples of which sections at other depths are known, too."
    )
    validation: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.15, description="Share of the cells that are used for validation and not for training."
    )
    validations: Annotated[int, Field(ge=1)] = Field(
        10, description="Number of validations during the training."
    )
    validation_cells: Annotated[int, Field(ge=1)] = Field(
        12, description="Largest number of cells in each validation."
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        0,
        description="The training ends after this number of validations in a row without a better one; 0: "
        "never.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="Seed of the weights, samples and noise."
    )
    device: Device = "auto"
    processes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Processes that share each step: one per GPU, or a few per CPU; 0: the fastest number.",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="Additional processes that prepare samples, for each process that trains."
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.scored and self.batch % 2:
            raise ValueError("scored steps draw shapes in pairs: take an even batch")
        if self.scored and self.method == "dispr":
            raise ValueError("the method dispr has no scored steps: set scored to 0")
        return self

    @property
    def budget(self) -> str:
        """How long to train, in words."""
        return f"{self.steps:,} steps" if self.minutes is None else f"{self.minutes:g} minutes"

    @property
    def flow_steps(self) -> int:
        """Number of steps before the scored ones, for a budget in steps."""
        return self.steps - round(self.scored * self.steps)


class ClassifySettings(Settings):
    """Settings of the classification experiment; the defaults are those of the paper."""

    fold_count: Annotated[int, Field(ge=2)] = Field(
        5, description="Number of folds, if no table of folds is given."
    )
    rare: Annotated[int, Field(ge=1)] = Field(
        3, description="Number of rare classes: the smallest classes, which get predicted shapes."
    )
    seeds: Annotated[int, Field(ge=1)] = Field(
        10, description="Number of repetitions; each has new forests and, if no folds are given, new folds."
    )
    trees: Annotated[int, Field(ge=1)] = Field(1000, description="Number of trees in each forest.")
    depth: Annotated[int, Field(ge=1)] = Field(10, description="Largest depth of a tree.")
    jobs: Annotated[int, Field(ge=0)] = Field(
        0, description="CPU cores that train a forest together; 0: all. The result does not depend on it."
    )


class RivalTrainSettings(Settings):
    """How SHAPR is trained: for ``minutes``, ``steps`` or, without both, for ``epochs``."""

    method: Literal["shapr", "topo-shapr"] = Field(
        "shapr", description="What is trained: shapr, or topo-shapr (with an additional topological loss)."
    )
    epochs: Annotated[int, Field(ge=1)] = Field(
        100, description="Number of epochs; each cell is used once per epoch."
    )
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Training time in minutes. It replaces the number of epochs."
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Number of optimiser steps. It replaces the number of epochs."
    )
    batch: Annotated[int, Field(ge=1)] = Field(6, description="Number of cells in each step.")
    adversarial: Annotated[float, Field(ge=0, lt=1)] = Field(
        1 / 3,
        description="Share of the budget, at its end, for adversarial training (with a discriminator).",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="Learning rate (Adam).")
    adversarial_learning_rate: Annotated[float, Field(gt=0)] = Field(
        2e-4, description="Learning rate of network and discriminator during the adversarial training."
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        8,
        description="Epochs without improvement after which the learning rate falls to a fifth. After three "
        "times this number a part of the training ends.",
    )
    topology: Annotated[float, Field(ge=0)] = Field(
        0.1,
        description="Weight of topo-shapr's topological loss (distance between persistence diagrams).",
    )
    dimension: Literal[0, 2] = Field(
        2,
        description="Dimension of the homology that topo-shapr compares: 2, the parts of a shape, or 0, its "
        "cavities.",
    )
    validation: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1, description="Share of the cells that are used to choose the best weights and not for training."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Seed of the weights and samples.")
    device: Device = "auto"

    @property
    def budget(self) -> str:
        """How long to train, in words."""
        if self.minutes is not None:
            return f"{self.minutes:g} minutes"
        return f"{self.epochs:,} epochs" if self.steps is None else f"{self.steps:,} steps"


#: Settings to start with, by name.
PRESETS: dict[str, TrainSettings] = {
    "quick": TrainSettings(minutes=5, batch=12, scored=0.4, validations=5, validation_cells=8),
    "standard": TrainSettings(minutes=15, batch=12, scored=0.4),
    "dispr": TrainSettings(
        method="dispr",
        steps=85_000,
        batch=1,
        scored=0.0,
        learning_rate=1e-4,
        adam_learning_rate=1e-4,
        warmup=0,
        decay=0.0,
        clip=None,
        ema=0.9999,
        resliced=0.0,
        blended=0.0,
        image_dropout=0.0,
        scale_dropout=0.0,
        projections=0.0,
        further_planes=0.0,
        validation_cells=2,
    ),
}
#: The same for the rivals that can be trained.
RIVAL_PRESETS: dict[str, RivalTrainSettings] = {
    "shapr": RivalTrainSettings(),
    "topo-shapr": RivalTrainSettings(method="topo-shapr"),
}
PRESET_HELP: dict[str, str] = {
    "quick": "5 minutes, to check the data and whether training helps.",
    "standard": "15 minutes on a laptop; more minutes make better models.",
    "dispr": "The paper's network, loss and optimiser, without augmentation: days on a GPU.",
}
