"""Which models there are: those shipped with the package, the user's own, fits, and files by path.

Lists and loads them, reads their cards, imports, exports and removes them. Only loading needs torch.
"""

import itertools
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from platformdirs import user_data_path

from napari_dispr.card import Card
from napari_dispr.errors import InputError
from napari_dispr.files import check_readable, written_aside

if TYPE_CHECKING:
    from napari_dispr.models.fits import Fit
    from napari_dispr.models.interpolation import Interpolation
    from napari_dispr.models.sampling import Model as Model

_SHIPPED = Path(__file__).parent.parent / "weights"
_SUFFIX = ".safetensors"
_LONGEST_NAME = 64
#: Names that Windows reserves for devices, also with an extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def user_folder() -> Path:
    """Folder of the user's own models: each file in it is a model with the name of the file."""
    return user_data_path("napari-dispr", appauthor=False) / "models"


def available_models() -> dict[str, Path]:
    """Model files by name, the shipped ones first; a user's file does not replace a shipped model."""
    models: dict[str, Path] = {}
    for folder in (_SHIPPED, user_folder()):
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            if not path.name.startswith(".") and path.is_file():  # otherwise it is still being written
                models.setdefault(path.name.removesuffix(_SUFFIX), path)
    return models


def available_fits() -> dict[str, str]:
    """Descriptions of the fits, by name."""
    return {name: fit.card.description for name, fit in _fits().items()}


def _fits() -> "dict[str, Fit | Interpolation]":
    """The fits of one section and of several, by name."""
    from napari_dispr.models.fits import FITS
    from napari_dispr.models.interpolation import INTERPOLATION

    return {**FITS, INTERPOLATION.name: INTERPOLATION}


def is_shipped(path: Path) -> bool:
    """Whether a model file is one of those that come with the package."""
    return path.parent == _SHIPPED


def model_path(name_or_path: str | os.PathLike[str]) -> Path:
    """File of a model given by name or by path.

    Raises an InputError if there is neither a model of that name nor such a file.
    """
    models = available_models()
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        if str(name_or_path) in available_fits():
            raise InputError(
                f"{str(name_or_path)!r} is a fit, which is built in and has no file: choose a model."
            )
        raise InputError(
            f"There is no model {str(name_or_path)!r}: choose one of {', '.join(models)}, or a model file."
        )
    return path


def model_version(name_or_path: str | os.PathLike[str]) -> tuple[object, ...]:
    """Changes when the model does, and when its file does; also for a name without a model."""
    try:
        path = model_path(name_or_path)
        status = path.stat()
    except (InputError, OSError):
        return (name_or_path,)
    return name_or_path, path, status.st_mtime_ns, status.st_size


def check_new_file(path: Path) -> None:
    """Raise an InputError if a new model cannot get this file."""
    if path.suffix != _SUFFIX:
        raise InputError(f"{path} cannot be the name of a model file: choose one that ends in {_SUFFIX}.")
    check_name(path.stem)
    if path.exists():
        raise InputError(f"The model {path} already exists: remove it, or choose another name.")


def read_card(name_or_path: str | os.PathLike[str]) -> Card:
    """The card of a model or fit; reads only the header of its file.

    Raises an InputError if there is no such model, or the file is no shape model.
    """
    if fit := _fits().get(str(name_or_path)):
        return fit.card
    return _read_card(model_path(name_or_path))


def load_model(name_or_path: str | os.PathLike[str]) -> "Model":
    """Load a model or fit by name or path.

    Parameters
    ----------
    name_or_path : str or path
        Such as ``"red-blood-cell"``, or ``"cylinder"`` and the other names of `available_fits`.

    Returns
    -------
    ShapeModel, SHAPRModel or Fit

    Raises
    ------
    InputError
        If there is no such model, or the file is no model of this package.
    """
    if fit := _fits().get(str(name_or_path)):
        return fit
    path = model_path(name_or_path)
    if _read_card(path).rival is not None:
        from napari_dispr.models.shapr import SHAPRModel

        return SHAPRModel.load(path)
    from napari_dispr.diffusion.model import ShapeModel

    return ShapeModel.load(path)


def available_devices() -> dict[str, str]:
    """Values of the setting ``device`` on this machine, each with a description. Loads torch."""
    from napari_dispr.diffusion.devices import available

    return available()


# --- the user's own models --------------------------------------------------------------------------


class Imported(NamedTuple):
    """A model that is now among the user's; ``new``: it was not there before."""

    name: str
    path: Path
    new: bool


def check_name(name: str) -> str:
    """The name of a model and of its file, without spaces around it and without the file's ending.

    Raises an InputError if a file could not have that name on every system.
    """
    plain = unicodedata.normalize("NFC", name).strip().removesuffix(_SUFFIX)
    if not re.fullmatch(r"\w([\w .-]*[\w-])?", plain) or len(plain) > _LONGEST_NAME:
        raise InputError(
            f"{name!r} cannot be a model's name: take at most {_LONGEST_NAME} letters, digits, spaces, "
            "hyphens, underscores and dots, with a letter or digit first."
        )
    if plain.casefold() in available_fits():
        raise InputError(f"{name!r} cannot be a model's name, since a fit has it: choose another.")
    if _DEVICES.fullmatch(plain):
        raise InputError(f"{name!r} cannot be a model's name, since Windows reserves it: choose another.")
    return plain


def new_model_path(name: str) -> Path:
    """File for a new model of the user.

    Raises an InputError if a file cannot have this name, or there is a model of this name.
    """
    name = check_name(name)
    if _model_like(name) is not None:
        raise InputError(f"There is a model {name!r} already: choose another name.")
    return user_folder() / f"{name}{_SUFFIX}"


def import_model(
    path: str | os.PathLike[str], name: str | None = None, *, numbered: bool = False, load: bool = True
) -> Imported:
    """Copy a model file, for example a colleague's, into the user's folder, so that it has a name.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file that :meth:`ShapeModel.save` or :func:`export_model` wrote.
    name : str, optional
        Its name here and in the copy's card; by default the name in its card.
    numbered : bool
        If another model has that name, take the first free one of NAME-2, NAME-3, ...
    load : bool
        Load it once to check that it works, which needs torch. Otherwise only the header and the length of
        the file are checked.

    Returns
    -------
    Imported
        ``new`` is False if the same model already has that name.

    Raises
    ------
    InputError
        If there is no such file, it is no shape model or not whole, the name cannot be one, or another
        model has it.
    """
    source = Path(path)
    card = _read_card(source)
    name = check_name(card.name if name is None else name)
    if load:
        load_model(source.absolute())  # as a path: there may be a model of the same name
    for candidate in numbered_names(name) if numbered else (name,):
        other = _model_like(candidate)
        if other is None:
            out = user_folder() / f"{candidate}{_SUFFIX}"
            _copy(source, out, candidate)
            return Imported(candidate, out, new=True)
        if _same_content(source, other[1]):
            return Imported(*other, new=False)
    free = next(one for one in numbered_names(name) if _model_like(one) is None)
    raise InputError(
        f"There is another model called {name!r} already: import this one under another name, as with "
        f'--name "{free}".'
    )


def export_model(name_or_path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Copy a model into a file to share; the card gets the name that the model has here.

    Parameters
    ----------
    out : path
        A new file, or a folder, in which the file is called NAME.safetensors.

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
    card = _read_card(source)
    name = str(name_or_path) if str(name_or_path) in available_models() else card.name
    out = Path(out)
    if out.is_dir():
        out = out / f"{check_name(name)}{_SUFFIX}"
    if out.suffix != _SUFFIX:
        raise InputError(f"{out} is no name for a model file: let it end in {_SUFFIX}.")
    if out.exists():
        raise InputError(f"There is a file {out} already: choose another name, or remove it first.")
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
        raise InputError(f"{name!r} comes with napari-dispr and cannot be removed: choose one of your own.")
    models[name].unlink()
    return models[name]


def numbered_names(name: str) -> Iterator[str]:
    """NAME, NAME-2, NAME-3, ..., each short enough for a model."""
    yield name
    for number in itertools.count(2):
        ending = f"-{number}"
        yield name[: _LONGEST_NAME - len(ending)].rstrip(" .") + ending


def _model_like(name: str) -> tuple[str, Path] | None:
    """The model of this name in any case: some file systems do not distinguish upper and lower case."""
    models = available_models().items()
    return next(((n, path) for n, path in models if n.casefold() == name.casefold()), None)


# --- files ------------------------------------------------------------------------------------------


def _read_card(path: Path) -> Card:
    return _read(path, tensors=False)[0]


def _read(path: Path, *, tensors: bool = True) -> tuple[Card, dict[str, str], dict[str, Any]]:
    """Card, metadata and, if wanted, the tensors (NumPy) of a model file.

    Raises an InputError if there is no such file, it is no model of this package, or it is not whole.
    """
    from safetensors import SafetensorError, safe_open

    check_readable(path)
    try:
        with safe_open(path, framework="numpy") as file:  # compares the header with the file's length
            metadata = file.metadata() or {}
            card = Card.model_validate_json(metadata["card"])
            names = file.keys() if tensors else ()
            return card, metadata, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is not a shape model of napari-dispr: choose a {_SUFFIX} file that it wrote and that is "
            "not cut off, or import an original checkpoint first."
        ) from error


def _copy(source: Path, out: Path, name: str) -> None:
    """Copy a model file, with ``name`` in its card."""
    from safetensors.numpy import save

    card, metadata, tensors = _read(source)
    with written_aside(out) as aside:
        if card.name == name:
            shutil.copyfile(source, aside)
        else:
            aside.write_bytes(save(tensors, {**metadata, "card": _renamed(metadata, name)}))


def _renamed(metadata: dict[str, str], name: str) -> str:
    # Not from a Card, which would add the defaults of this version.
    return json.dumps({**json.loads(metadata["card"]), "name": name})


def _same_content(one: Path, other: Path) -> bool:
    """Whether two model files differ at most in their names."""
    try:
        return _content(one) == _content(other)
    except InputError:  # a damaged file is not the same as any other
        return False


def _content(path: Path) -> tuple[Any, ...]:
    _, metadata, tensors = _read(path)
    arrays = {name: (array.dtype, array.shape, array.tobytes()) for name, array in tensors.items()}
    return {**metadata, "card": json.loads(_renamed(metadata, ""))}, arrays
