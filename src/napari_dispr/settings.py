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
        if not first["loc"]:  # settings that do not go together
            reason = first["msg"].removeprefix("Value error, ")
            raise InputError(f"{reason[0].upper()}{reason[1:]}.") from None
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"There is no setting {name!r}: choose among {', '.join(kind.model_fields)}."
            ) from None
        # A setting that may be of several kinds has an error for each.
        said = [
            e["msg"][0].lower() + e["msg"][1:] for e in error.errors() if e["loc"][:1] == first["loc"][:1]
        ]
        raise InputError(
            f"The setting {name} cannot be {values.get(name)!r}: {', or '.join(said)}."
        ) from None


class PredictSettings(Settings):
    """How the members of each cell are drawn."""

    model: str = Field(
        "red-blood-cell",
        description="Shape model, or for comparison a SHAPR or a fit (cylinder, ellipsoid): a name of the "
        "list, or a model file.",
    )
    members: Annotated[int, Field(ge=1, le=100)] = Field(5, description="Shapes drawn for each cell.")
    quality: str = Field(
        "balanced", description="How carefully shapes are drawn: fast, balanced, or another of the model's."
    )
    sampler: str | None = Field(
        None, description="Sampler, in place of the quality's: dpm-solver++, ddim, euler or ddpm."
    )
    steps: Annotated[int, Field(ge=1, le=4000)] | None = Field(
        None, description="Evaluations of the network for each shape, in place of the quality's."
    )
    scale: Scale = Field(
        "auto",
        description="How large cells stand on the model's grid: auto (brought to the usual size), "
        "physical (by pixel size), or grid voxels per pixel.",
    )
    pixel_size: PixelSize | None = Field(
        None, description="Side of a pixel in the model's unit, for the scale physical."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="The same seed gives the same shapes of a cell, whatever else is drawn."
    )
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, cuda:1, mps, ...")


class EvaluateSettings(Settings):
    """How drawn shapes are compared with the known ones."""

    definitions: Literal["ours", "shapr", "both"] = Field(
        "both",
        description="Whose definitions of surface area, roughness and curvature: ours, shapr (those of its "
        "notebooks), or both.",
    )
    pixel_size: PixelSize | None = Field(
        None,
        description="Side of a voxel of the dataset in micrometer, for distances; otherwise the dataset's "
        "own, or voxels.",
    )


class CrossValidateSettings(Settings):
    """How cells are split into folds, and what is trained on the others of each."""

    folds: Annotated[int, Field(ge=2, le=100)] = Field(
        5, description="Cross-validation: number of folds; each is tested by models trained on the others."
    )
    preset: str = Field(
        "standard", description="With folds: the preset by which the method named model is trained."
    )
    init: str = Field(
        "auto", description="With folds: the model that it starts from, a name or a file; none: from scratch."
    )
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="With folds: how long each method is trained on each fold."
    )
    fold: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="With folds: train and test this one alone, as a held-out split; --resume adds others.",
    )


class TrainSettings(Settings):
    """How a shape model is trained. Without a budget in minutes there are ``steps``."""

    method: Literal["flow", "dispr"] = Field(
        "flow", description="What is trained: flow (ours), or dispr (the paper's network, process and loss)."
    )
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="How long to train, in place of a number of steps."
    )
    steps: Annotated[int, Field(ge=1)] = Field(2000, description="Optimiser steps.")
    batch: Annotated[int, Field(ge=1)] = Field(8, description="Shapes a step.")
    scored: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Share of the budget, at the end, that trains for few evaluations by energy score."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        0.01, description="Peak learning rate of the convolutions (Muon)."
    )
    adam_learning_rate: Annotated[float, Field(gt=0)] = Field(
        5e-4, description="Peak learning rate of all other parameters (AdamW)."
    )
    warmup: Annotated[int, Field(ge=0)] = Field(100, description="Steps over which the rate rises.")
    decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.4, description="Share of the budget, at the end, over which the rate falls to 0."
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="Length to which longer gradients are cut; none: unlimited."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.995, description="Decay a step of the averaged weights, which are the ones that are kept."
    )
    truncation: Annotated[float, Field(gt=0)] = Field(
        8.0, description="Signed distances are cut off at this many voxels."
    )
    shift: Annotated[float, Field(gt=0)] = Field(
        12.0, description="How far training and sampling times are pushed towards noise."
    )
    plane_weight: Annotated[float, Field(ge=0)] = Field(
        2.0, description="Extra weight of errors in the imaged plane."
    )
    resliced: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of samples that are turned in space and cut again."
    )
    image_dropout: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of the other samples that come without their image."
    )
    blended: Annotated[float, Field(ge=0, le=1)] = Field(
        0.15, description="Share of samples that are a shape between two cells, without image."
    )
    scale_dropout: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Share of samples for which the network does not get the true size of the cell."
    )
    validation: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.15, description="Share of the cells that is not trained on, to measure how good the model is."
    )
    validations: Annotated[int, Field(ge=1)] = Field(
        10, description="How often, over the budget, members of these cells are sampled."
    )
    validation_cells: Annotated[int, Field(ge=1)] = Field(12, description="Most cells sampled each time.")
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="End after this number of validations in a row without a better one; 0: never."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Seed of weights, samples and noise.")
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, cuda:1, mps, ...")
    processes: Annotated[int, Field(ge=0)] = Field(
        0, description="Processes that share each step, one a GPU or a few a CPU; 0: the fastest number."
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="Further processes that prepare samples for each of these."
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
        """Steps before those that are scored, of a budget in steps."""
        return self.steps - round(self.scored * self.steps)


class ClassifySettings(Settings):
    """The classification experiment, with the paper's defaults."""

    fold_count: Annotated[int, Field(ge=2)] = Field(
        5, description="Disjoint folds, where no table of folds is given."
    )
    rare: Annotated[int, Field(ge=1)] = Field(
        3, description="Number of the smallest classes that get predicted shapes."
    )
    seeds: Annotated[int, Field(ge=1)] = Field(
        10, description="Repetitions, each with new forests and, if no folds are given, new folds."
    )
    trees: Annotated[int, Field(ge=1)] = Field(1000, description="Trees of a forest.")
    depth: Annotated[int, Field(ge=1)] = Field(10, description="Depth of a tree, at most.")
    jobs: Annotated[int, Field(ge=0)] = Field(
        0, description="Cores that grow a forest together; 0: all. The result is the same."
    )


class RivalTrainSettings(Settings):
    """How SHAPR is trained. Without a budget in minutes or steps there are ``epochs``."""

    method: Literal["shapr", "topo-shapr"] = Field(
        "shapr", description="What is trained: shapr, or topo-shapr (with a loss of topology)."
    )
    epochs: Annotated[int, Field(ge=1)] = Field(100, description="How often each cell is used.")
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="How long to train, in place of a number of epochs."
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Optimiser steps, in place of a number of epochs."
    )
    batch: Annotated[int, Field(ge=1)] = Field(6, description="Cells a step.")
    adversarial: Annotated[float, Field(ge=0, lt=1)] = Field(
        1 / 3, description="Share of the budget, at the end, that trains against a discriminator."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="Learning rate (Adam).")
    adversarial_learning_rate: Annotated[float, Field(gt=0)] = Field(
        2e-4, description="Learning rate of network and discriminator in that share."
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        8,
        description="Epochs without a better one after which the learning rate falls to a fifth; after "
        "three times this number a part ends.",
    )
    topology: Annotated[float, Field(ge=0)] = Field(
        0.1, description="Weight of the distance between persistence diagrams, of topo-shapr."
    )
    dimension: Literal[0, 2] = Field(
        2, description="Homology compared by topo-shapr: 2, the parts of a shape, or 0, its cavities."
    )
    validation: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1, description="Share of the cells that is not trained on, to choose the best weights."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Seed of weights and samples.")
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, cuda:1, mps, ...")

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
        validation_cells=2,
    ),
}
#: The same for the rivals that can be trained.
RIVAL_PRESETS: dict[str, RivalTrainSettings] = {
    "shapr": RivalTrainSettings(),
    "topo-shapr": RivalTrainSettings(method="topo-shapr"),
}
PRESET_HELP: dict[str, str] = {
    "quick": "5 minutes: is the data all right, and does training help?",
    "standard": "15 minutes on a laptop; more minutes make better models.",
    "dispr": "The paper's network, loss and optimiser, without augmentation: days on a GPU.",
}
