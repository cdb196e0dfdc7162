"""Files are written aside and renamed, so that nobody ever meets half of one; used by all that saves."""

import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under a temporary name beside its place; it takes its name only when it is whole.

    Parameters
    ----------
    path : path
        Where the finished file goes. Missing folders are made; a file already there stays as it is
        until the new one is whole.

    Yields
    ------
    Path
        Temporary, in the same folder (a rename across disks would be a copy) and with the same
        suffixes (writers choose a format by them). Renamed when the block ends, removed when it fails.

    Examples
    --------
    >>> with written_aside("table.csv") as temporary:
    ...     frame.to_csv(temporary)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: that makes files which only their owner may read.
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        _renamed(temporary, path)
    except OSError as error:
        error.filename = str(path)  # not the temporary one; that a disk is full comes without any
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Write the files of a folder beside their place; they go there when all of them are whole.

    Parameters
    ----------
    folder : path
        Where the finished files go; it may be there already, with others in it.

    Yields
    ------
    Path
        A temporary folder on the same disk. Its files are moved when the block ends; it is removed with
        all that is in it when the block fails, and the folder is as it was.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}")
    temporary.mkdir()
    try:
        yield temporary
        written = [path for path in temporary.rglob("*") if path.is_file()]
        # A JSON file says what a folder is: it comes last.
        for path in sorted(written, key=lambda path: (path.suffix == ".json", path)):
            place = folder / path.relative_to(temporary)
            place.parent.mkdir(parents=True, exist_ok=True)
            _renamed(path, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _renamed(temporary: Path, path: Path) -> None:
    """Also on Windows, where a file that somebody reads just now cannot be replaced."""
    patience = 2.0 if os.name == "nt" else 0.0
    until = time.monotonic() + patience
    while True:
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write JSON that any reader takes: UTF-8, NumPy values as plain ones, NaN and infinity as null."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    with written_aside(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """What JSON can hold: NumPy values as plain ones, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
