"""Which shape models there are: those shipped with the package, the user's own, and files by path.

Lists them and reads their cards without torch.
"""

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path
from pydantic import ValidationError

from napari_dispr.card import Card
from napari_dispr.errors import InputError

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel

_SHIPPED = Path(__file__).parent / "weights"
_SUFFIX = ".safetensors"
#: No header of ours is nearly as long; a file that claims more is none.
_LONGEST_HEADER = 10_000_000


def user_folder() -> Path:
    """Where the user's own models lie: a file put there is a model by its file's name."""
    return user_data_path("napari-dispr", appauthor=False) / "models"


def available_models() -> dict[str, Path]:
    """Model files by name, the shipped ones first; a user's file does not replace a shipped model."""
    models: dict[str, Path] = {}
    for folder in (_SHIPPED, user_folder()):
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            models.setdefault(path.name.removesuffix(_SUFFIX), path)
    return models


def model_path(name_or_path: str | os.PathLike[str]) -> Path:
    """File of a model given by name or by path.

    Raises
    ------
    InputError
        If there is neither a model of that name nor such a file.
    """
    models = available_models()
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"There is no model {str(name_or_path)!r}: choose one of {', '.join(models)}, or a model file."
        )
    return path


def read_card(name_or_path: str | os.PathLike[str]) -> Card:
    """The card of a model; reads the head of its file only.

    Raises
    ------
    InputError
        If there is no such model, or the file is no shape model.
    """
    path = model_path(name_or_path)
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("no header")
            return Card.model_validate_json(json.loads(file.read(length))["__metadata__"]["card"])
    except (OSError, ValueError, KeyError, TypeError, struct.error, ValidationError) as error:
        raise InputError(
            f"{path} is not a shape model of napari-dispr: choose a {_SUFFIX} file that it wrote, "
            "or import an original checkpoint first."
        ) from error


def load_model(name_or_path: str | os.PathLike[str]) -> "ShapeModel":
    """Load a shape model by name or path.

    Parameters
    ----------
    name_or_path : str or path
        Such as ``"red-blood-cell"``.

    Raises
    ------
    InputError
        If there is no such model, or the file is no shape model.
    """
    path = model_path(name_or_path)
    from napari_dispr.diffusion.model import ShapeModel

    return ShapeModel.load(path)


def available_devices() -> dict[str, str]:
    """Names that the setting ``device`` takes on this machine, each with what it is. Loads torch."""
    from napari_dispr.diffusion.devices import available

    return available()
