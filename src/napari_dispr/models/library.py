"""Which models there are: those shipped with the package, the user's own, rivals, and files by path.

Lists them, reads their cards, and copies them into the user's folder and out of it, without torch.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from platformdirs import user_data_path

from napari_dispr.card import Card
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.models.fits import Fit
    from napari_dispr.models.shapr import SHAPRModel

    #: What draws shapes of crops: a shape model, or a rival.
    Model = ShapeModel | SHAPRModel | Fit

_SHIPPED = Path(__file__).parent.parent / "weights"
_SUFFIX = ".safetensors"
#: No header of ours is nearly as long; a file that claims more is none.
_LONGEST_HEADER = 10_000_000
_LONGEST_NAME = 64
#: Names that Windows keeps for devices, with whatever follows them after a dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_CHUNK = 1 << 20


def user_folder() -> Path:
    """Where the user's own models lie: a file put there is a model by its file's name."""
    return user_data_path("napari-dispr", appauthor=False) / "models"


def available_models() -> dict[str, Path]:
    """Model files by name, the shipped ones first; a user's file does not replace a shipped model."""
    models: dict[str, Path] = {}
    for folder in (_SHIPPED, user_folder()):
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            if not path.name.startswith(".") and path.is_file():  # else it is still being written
                models.setdefault(path.name.removesuffix(_SUFFIX), path)
    return models


def available_fits() -> dict[str, str]:
    """The fits that stand beside the models, by name, each with what it is."""
    from napari_dispr.models.fits import FIT_RIVALS

    return {name: fit.description for name, fit in FIT_RIVALS.items()}


def is_shipped(path: Path) -> bool:
    """Whether a model file is one of those that come with the package."""
    return path.parent == _SHIPPED


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
        if str(name_or_path) in available_fits():
            raise InputError(f"{str(name_or_path)!r} is a fit, which is built in: there is no file of it.")
        raise InputError(
            f"There is no model {str(name_or_path)!r}: choose one of {', '.join(models)}, or a model file."
        )
    return path


def read_card(name_or_path: str | os.PathLike[str]) -> Card:
    """The card of a model, also of a rival; reads the head of its file only.

    Raises
    ------
    InputError
        If there is no such model, or the file is no shape model.
    """
    from napari_dispr.models.fits import FIT_RIVALS

    if str(name_or_path) in FIT_RIVALS:
        return FIT_RIVALS[str(name_or_path)].card
    return _read_head(model_path(name_or_path)).card


def load_model(name_or_path: str | os.PathLike[str]) -> "Model":
    """Load a shape model, or a rival, by name or path.

    Parameters
    ----------
    name_or_path : str or path
        Such as ``"red-blood-cell"``; ``"cylinder"`` and the other names of `available_fits` need no file.

    Returns
    -------
    ShapeModel, SHAPRModel or Fit

    Raises
    ------
    InputError
        If there is no such model, or the file is no shape model.
    """
    from napari_dispr.models.fits import FIT_RIVALS

    if str(name_or_path) in FIT_RIVALS:
        return FIT_RIVALS[str(name_or_path)]
    path = model_path(name_or_path)
    if path.is_file() and _is_rival(path):
        from napari_dispr.models.shapr import SHAPRModel

        return SHAPRModel.load(path)
    from napari_dispr.diffusion.model import ShapeModel

    return ShapeModel.load(path)


def _is_rival(path: Path) -> bool:
    try:
        return _read_head(path).card.rival is not None
    except InputError:  # is said where it is loaded
        return False


def available_devices() -> dict[str, str]:
    """Names that the setting ``device`` takes on this machine, each with what it is. Loads torch."""
    from napari_dispr.diffusion.devices import available

    return available()


# --- the user's own models --------------------------------------------------------------------------


class Imported(NamedTuple):
    """A model that is now among the user's.

    Attributes
    ----------
    name : str
    path : Path
    new : bool
        Whether it was not there before.
    """

    name: str
    path: Path
    new: bool


def check_name(name: str) -> str:
    """A model's name, which is that of its file too, without spaces around it or the file's ending.

    Raises
    ------
    InputError
        If a file could not have that name on every system.
    """
    plain = unicodedata.normalize("NFC", name).strip().removesuffix(_SUFFIX)
    if not re.fullmatch(r"\w([\w .-]*[\w-])?", plain) or len(plain) > _LONGEST_NAME:
        raise InputError(
            f"{name!r} cannot be a model's name: take at most {_LONGEST_NAME} letters, digits, spaces, "
            "hyphens, underscores and dots, with a letter or digit first."
        )
    if plain.casefold() in available_fits():
        raise InputError(f"{name!r} cannot be a model's name, since it is a fit's: take another.")
    if _DEVICES.fullmatch(plain):
        raise InputError(f"{name!r} cannot be a model's name, since Windows keeps it: take another.")
    return plain


def import_model(
    path: str | os.PathLike[str], name: str | None = None, *, numbered: bool = False, load: bool = True
) -> Imported:
    """Copy a model file, such as a colleague's, into the user's folder: a model by name from then on.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file that :meth:`ShapeModel.save` or :func:`export_model` wrote.
    name : str, optional
        Its name from now on, also in the copy's card; without it that in its card.
    numbered : bool
        Where another model has that name already, take the first of NAME-2, NAME-3, ... that is free.
    load : bool
        Load it once, to see whether it works, which takes torch. Otherwise the file's head and length
        are looked at.

    Returns
    -------
    Imported
        With ``new`` False where the same content has that name already.

    Raises
    ------
    InputError
        If there is no such file, it is no shape model or not whole, the name cannot be one, or another
        model has it.
    """
    source = Path(path)
    card = _check_whole(source)
    name = check_name(card.name if name is None else name)
    if load:
        load_model(source.absolute())  # as a path: there may be a model of the same name
    for candidate in _numbered(name) if numbered else (name,):
        other = _model_like(candidate)
        if other is None:
            out = user_folder() / f"{candidate}{_SUFFIX}"
            _copy(source, out, candidate)
            return Imported(candidate, out, new=True)
        if _same_content(source, other[1]):
            return Imported(*other, new=False)
    free = next(one for one in _numbered(name) if _model_like(one) is None)
    raise InputError(
        f"There is another model called {name!r} already: import this one under another name, as with "
        f'--name "{free}".'
    )


def export_model(name_or_path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Copy a model into one file to hand over; the name in its card is the one that it goes by here.

    Parameters
    ----------
    name_or_path : str or path
    out : path
        A file that is not there yet, or a folder, in which the file is called NAME.safetensors.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If there is no such model, or the file cannot be written there.
    """
    source = model_path(name_or_path)
    card = _check_whole(source)
    name = str(name_or_path) if str(name_or_path) in available_models() else card.name
    out = Path(out)
    if out.is_dir():
        out = out / f"{check_name(name)}{_SUFFIX}"
    if out.suffix != _SUFFIX:
        raise InputError(f"{out} is no name for a model file: let it end in {_SUFFIX}.")
    if out.exists():
        raise InputError(f"There is a file {out} already: give another name, or remove it first.")
    _copy(source, out, name)
    return out


def remove_model(name: str) -> Path:
    """Delete one of the user's own models.

    Returns
    -------
    Path
        The file that was there.

    Raises
    ------
    InputError
        If the user has no model of that name.
    """
    models = available_models()
    own = [other for other, path in models.items() if not is_shipped(path)]
    if name not in models:
        yours = f"yours are {', '.join(own)}" if own else "you have none of your own"
        raise InputError(f"There is no model {name!r} to remove: {yours}.")
    if name not in own:
        raise InputError(f"{name!r} comes with napari-dispr and stays: only models of your own are removed.")
    models[name].unlink()
    return models[name]


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        ending = f"-{number}"
        yield name[: _LONGEST_NAME - len(ending)].rstrip(" .") + ending


def _model_like(name: str) -> tuple[str, Path] | None:
    """The model of this name, in upper or lower case, which some file systems take for the same."""
    models = available_models().items()
    return next(((n, path) for n, path in models if n.casefold() == name.casefold()), None)


# --- files ------------------------------------------------------------------------------------------


class _Head(NamedTuple):
    """What stands before the tensors, which begin at byte ``end``."""

    content: dict[str, Any]
    card: Card
    end: int


def _read_head(path: Path) -> _Head:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("no header")
            content = json.loads(file.read(length))
        return _Head(content, Card.model_validate_json(content["__metadata__"]["card"]), 8 + length)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, struct.error) as error:
        raise InputError(
            f"{path} is not a shape model of napari-dispr: choose a {_SUFFIX} file that it wrote, "
            "or import an original checkpoint first."
        ) from error


def _check_whole(path: Path) -> Card:
    """The card of a file whose tensors are all there."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"There is no file {path}: check the name.")
    card = _read_head(path).card
    try:
        with safe_open(path, framework="numpy"):  # compares the head with the file's length
            return card
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is a shape model but damaged or cut off: copy it anew.") from error


def _copy(source: Path, out: Path, name: str) -> None:
    """Copy a model file, with ``name`` in its card."""
    head = _read_head(source)
    with source.open("rb") as file, written_aside(out) as aside, aside.open("wb") as copy:
        if head.card.name != name:
            metadata = head.content["__metadata__"]
            metadata["card"] = json.dumps({**json.loads(metadata["card"]), "name": name})
            content = json.dumps(head.content).encode()
            content += b" " * (-len(content) % 8)  # tensors are aligned
            copy.write(struct.pack("<Q", len(content)) + content)
            file.seek(head.end)
        shutil.copyfileobj(file, copy, _CHUNK)


def _same_content(one: Path, other: Path) -> bool:
    """Whether two model files differ in their names at most."""
    try:
        return _content(one) == _content(other)
    except InputError:  # a broken file is not the same as any
        return False


def _content(path: Path) -> tuple[dict[str, Any], str]:
    head = _read_head(path)
    metadata = head.content["__metadata__"]
    metadata["card"] = {**json.loads(metadata["card"]), "name": None}
    with path.open("rb") as file:
        file.seek(head.end)
        return head.content, hashlib.file_digest(file, "sha256").hexdigest()
