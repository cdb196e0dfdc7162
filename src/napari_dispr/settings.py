"""One pydantic model for each verb: defaults, ranges and help texts for widget and command line."""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from napari_dispr.errors import InputError
from napari_dispr.grid import LARGEST, SMALLEST


class Settings(BaseModel):
    """Common behaviour: unknown names are errors, numbers finite, values cannot be changed in place.

    The text below a field is its help on the command line and its tooltip.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def about(cls, name: str) -> str:
        """The help of a field."""
        kinds = (kind for kind in cls.__mro__ if issubclass(kind, Settings))
        texts = (_texts(kind.__module__).get((kind.__name__, name)) for kind in kinds)
        return next(filter(None, texts), None) or cls.model_fields[name].description or ""


@cache
def _texts(module: str) -> dict[tuple[str, str], str]:
    """The text below each field, by class and field.

    pydantic can read them while a class is made. It looks at all modules of napari then: 0.1 s in which the
    window does not react.
    """
    return {
        (kind.name, field.target.id): inspect.cleandoc(text.value.value)
        for kind in ast.parse(inspect.getsource(sys.modules[module])).body
        if isinstance(kind, ast.ClassDef)
        for field, text in pairwise(kind.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr)
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


SettingsKind = TypeVar("SettingsKind", bound=Settings)
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
PixelSize = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
Scale = Annotated[float, Field(ge=SMALLEST, le=LARGEST)] | Literal["auto", "physical"]
Device = Annotated[
    str, Field(description="Device that computes: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ...")
]
#: What a picture shows: a plane through the cells, or their projection, with their silhouettes as masks.
PictureKind = Literal["section", "projection"]


def checked_settings(kind: type[SettingsKind], values: Mapping[str, Any]) -> SettingsKind:
    """Settings of a verb from what a user gave.

    Raises an InputError if a name is unknown or a value is out of its range.
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
        reasons = [
            f"{message[0].lower()}{message[1:]}"
            for e in error.errors()
            if e["loc"][:1] == first["loc"][:1]
            for message in [e["msg"].removeprefix("Value error, ")]
        ]
        raise InputError(
            f"The setting {name} cannot be {values.get(name)!r}: {', or '.join(reasons)}."
        ) from None


def first_fault(error: ValidationError) -> str:
    """The first fault of a file in words: where it is, and what."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


class PredictSettings(Settings):
    """How the members of each cell are sampled."""

    model: str = "red-blood-cell"
    """Shape model, by name or file. For comparison also a fit (cylinder, ellipsoid) or SHAPR."""
    members: Annotated[int, Field(ge=1, le=100)] = 5
    """Number of members (sampled shapes) of each cell."""
    quality: str = "balanced"
    """How carefully shapes are sampled: fast, balanced, or another quality of the model."""
    sampler: str | None = None
    """Sampler: dpm-solver++, ddim, euler or ddpm. It replaces the sampler of the quality."""
    steps: Annotated[int, Field(ge=1, le=4000)] | None = None
    """Evaluations of the network for each shape. They replace the number of the quality."""
    scale: Scale | None = None
    """Size of the cells on the model grid: physical (true sizes, from the pixel size), auto (all cells get
    the usual size), or a number of grid voxels per pixel. By default physical if the sizes of pixel and voxel
    are known, and otherwise auto.
    """
    pixel_size: PixelSize | None = None
    """Side of a pixel in the unit of the model. Needed for the scale physical."""
    picture: PictureKind = "section"
    """What the picture shows: section (one plane, as a confocal microscope gives it) or projection (the whole
    depth, as a widefield picture or a maximum projection; the masks are silhouettes).
    """
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the noise. It gives a cell the same shapes, whichever other cells are predicted."""
    device: Device = "auto"


class EvaluateSettings(Settings):
    """How predicted shapes are compared with true ones."""

    definitions: Literal["ours", "shapr", "both"] = "both"
    """Definitions of surface area, roughness and curvature: ours, shapr (those of the SHAPR notebooks), or
    both.
    """
    pixel_size: PixelSize | None = None
    """Side of a voxel of the dataset in micrometer, for distances. Without it: the size that the dataset
    states, or else distances in voxels.
    """


class CrossValidateSettings(Settings):
    """How cells are split into folds, and how methods are trained for each fold."""

    folds: Annotated[int, Field(ge=2, le=100)] = 5
    """Cross-validate with this number of folds; each is tested with models trained on the others."""
    preset: str = "standard"
    """With --folds: the preset for training the method named model."""
    init: str = "auto"
    """With --folds: the model from which this training starts, a name or a file; none: from scratch."""
    minutes: PositiveFloat | None = None
    """With --folds: training time of each method for each fold, in minutes."""
    fold: PositiveInt | None = None
    """With --folds: train and test for this fold only; --resume adds other folds."""


class TrainSettings(Settings):
    """How a shape model is trained: for ``minutes`` or, without them, for ``steps``."""

    method: Literal["flow", "dispr"] = "flow"
    """What is trained: flow (ours), or dispr (the network, process and loss of the paper)."""
    minutes: PositiveFloat | None = None
    """Training time in minutes. It replaces the number of steps."""
    steps: PositiveInt = 2000
    """Number of optimiser steps."""
    batch: PositiveInt = 8
    """Number of shapes in each step."""
    scored: Share = 0.3
    """Share of the budget, at its end, that trains by the energy score, for sampling with few evaluations."""
    learning_rate: PositiveFloat = 0.01
    """Peak learning rate of the convolutions (Muon)."""
    adam_learning_rate: PositiveFloat = 5e-4
    """Peak learning rate of all other parameters (AdamW)."""
    warmup: NonNegativeInt = 100
    """Steps during which the learning rate rises to its peak."""
    decay: Share = 0.4
    """Share of the budget, at its end, during which the learning rate falls to 0."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; longer gradients are cut to it. none: no limit."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay per step of the moving average of the weights. The model gets this average."""
    truncation: PositiveFloat = 8.0
    """Signed distances are truncated at this number of voxels."""
    shift: PositiveFloat = 12.0
    """How far the times of training and sampling are shifted towards noise."""
    plane_weight: NonNegativeFloat = 2.0
    """Additional weight of errors in the imaged plane."""
    resliced: Share = 0.1
    """Share of samples that are rotated in space and get a new section."""
    image_dropout: Share = 0.1
    """Share of the other samples that have no image."""
    blended: Share = 0.15
    """Share of samples that are a shape between two cells; they have no image."""
    scale_dropout: Share = 0.3
    """Share of samples for which the network does not get the true size of the cell."""
    projections: Share = 0.12
    """Share of samples whose picture is a projection, and whose mask is the silhouette."""
    further_planes: Share = 0.5
    """Share of the other samples of which sections at other depths are known, too."""
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of the cells that are used for validation and not for training."""
    validations: PositiveInt = 10
    """Number of validations during the training."""
    validation_cells: PositiveInt = 12
    """Largest number of cells in each validation."""
    patience: NonNegativeInt = 0
    """The training ends after this number of validations in a row without a better one; 0: never."""
    seed: Seed = 0
    """Seed of the weights, samples and noise."""
    device: Device = "auto"
    processes: NonNegativeInt = 0
    """Processes that share each step: one per GPU, or a few per CPU; 0: the fastest number."""
    workers: NonNegativeInt = 0
    """Additional processes that prepare samples, for each process that trains."""

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
        return f"{self.steps:,} steps" if self.minutes is None else f"{self.minutes:g} min"

    @property
    def flow_steps(self) -> int:
        """Number of steps before the scored ones, for a budget in steps."""
        return self.steps - round(self.scored * self.steps)


class ClassifySettings(Settings):
    """Settings of the classification experiment; the defaults are those of the paper."""

    fold_count: Annotated[int, Field(ge=2)] = 5
    """Number of folds, if no table of folds is given."""
    rare: PositiveInt = 3
    """Number of rare classes: the smallest classes, which get predicted shapes."""
    seeds: PositiveInt = 10
    """Number of repetitions; each has new forests and, if no folds are given, new folds."""
    trees: PositiveInt = 1000
    """Number of trees in each forest."""
    depth: PositiveInt = 10
    """Largest depth of a tree."""
    jobs: NonNegativeInt = 0
    """CPU cores that train a forest together; 0: all. The result does not depend on it."""


class RivalTrainSettings(Settings):
    """How SHAPR is trained: for ``minutes``, ``steps`` or, without both, for ``epochs``."""

    method: Literal["shapr", "topo-shapr"] = "shapr"
    """What is trained: shapr, or topo-shapr (with an additional topological loss)."""
    epochs: PositiveInt = 100
    """Number of epochs; each cell is used once per epoch."""
    minutes: PositiveFloat | None = None
    """Training time in minutes. It replaces the number of epochs."""
    steps: PositiveInt | None = None
    """Number of optimiser steps. It replaces the number of epochs."""
    batch: PositiveInt = 6
    """Number of cells in each step."""
    adversarial: Annotated[float, Field(ge=0, lt=1)] = 1 / 3
    """Share of the budget, at its end, for adversarial training (with a discriminator)."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate (Adam)."""
    adversarial_learning_rate: PositiveFloat = 2e-4
    """Learning rate of network and discriminator during the adversarial training."""
    patience: PositiveInt = 8
    """Epochs without improvement after which the learning rate falls to a fifth. After three times this
    number a part of the training ends.
    """
    topology: NonNegativeFloat = 0.1
    """Weight of topo-shapr's topological loss (distance between persistence diagrams)."""
    dimension: Literal[0, 2] = 2
    """Dimension of the homology that topo-shapr compares: 2, the parts of a shape, or 0, its cavities."""
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the cells that are used to choose the best weights and not for training."""
    seed: Seed = 0
    """Seed of the weights and samples."""
    device: Device = "auto"

    @property
    def budget(self) -> str:
        """How long to train, in words."""
        if self.minutes is not None:
            return f"{self.minutes:g} min"
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
