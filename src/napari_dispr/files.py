"""Write files under a temporary name and rename them, so that nobody ever reads half of one.

`reading` makes the sentence for a file that cannot be read.
"""

import csv
import errno
import json
import math
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_dispr.errors import InputError

if TYPE_CHECKING:
    from tifffile import TiffFile


#: Endings of files that tifffile reads: TIFF, and the formats of microscopes that are TIFF inside.
TIFF = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".ndpi", ".qptiff", ".scn", ".stk", ".svs")


def as_file_name(name: str) -> str:
    """A name without the characters that some systems do not allow in file names; empty if none is left."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip(". ")


def in_natural_order(name: str) -> list[tuple[int, str]]:
    """A key to sort names by, with ``f2`` before ``f10``."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


@contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under a temporary name in its folder; it gets its name when the block ends.

    The temporary file has the same suffixes, since writers choose a format by them; it is removed if the
    block fails. Missing folders are created; an older file stays until the new one is complete.

    Examples
    --------
    >>> with written_aside("table.csv") as temporary:
    ...     frame.to_csv(temporary)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: only the owner may read its files.
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        _renamed(temporary, path)
    except OSError as error:
        error.filename = str(path)  # not the temporary one; a full disk comes without a name
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Write the files of a folder in a temporary one on the same disk; they are moved when all of them are
    complete.

    The folder may exist and hold other files. If the block fails it is unchanged. Raises an InputError if a
    file cannot be moved, as when another program has the old one open; all new files are kept in a folder
    that the error names.
    """
    folder = Path(folder).absolute()  # the current folder, as ".", has no name
    token = secrets.token_hex(4)
    # Inside a folder that exists: it may be a link to another disk, or a disk itself.
    temporary = (folder if folder.is_dir() else folder.parent) / f".{token}.{folder.name}"
    temporary.mkdir(parents=True)
    moved: list[tuple[Path, Path]] = []
    try:
        yield temporary
        written = [path for path in temporary.rglob("*") if path.is_file()]
        # A JSON file marks a complete folder: it is moved last.
        for path in sorted(written, key=lambda path: (path.suffix == ".json", path)):
            place = folder / path.relative_to(temporary)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                _renamed(path, place)
            except OSError as error:
                for new, old in moved:
                    os.replace(new, old)
                kept = temporary.with_name(f"{folder.name}-{token}")
                os.replace(temporary, kept)
                raise InputError(
                    f"{place} cannot be replaced ({error.strerror}): close the program that has it open. All "
                    f"new files are in {kept}."
                ) from error
            moved.append((place, path))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(file: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is made if needed; the system frees it when the process ends, however.

    Raises an InputError if another process holds the lock, and this one does not wait.
    """
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "ab") as held:
            if (free := _lock(held.fileno())) and _is_there(path, held.fileno()):
                yield  # closing the file frees the lock
                return
        if not (free or wait):
            raise InputError(
                f"Another process is writing into {path.parent}: wait for it, or choose another folder."
            )
        time.sleep(0.5)


@contextmanager
def folder_locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of a folder, which is made if needed, and removed again if it is new and stays empty.

    Raises an InputError if another process holds the lock.
    """
    folder = Path(folder)
    lock, is_new = folder / ".lock", not folder.exists()
    try:
        with locked(lock):
            try:
                yield
            finally:
                with suppress(OSError):
                    lock.unlink()
    finally:
        with suppress(OSError):
            if os.name == "nt":
                lock.unlink(missing_ok=True)
            if is_new:
                folder.rmdir()


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether an open file still has its name; the process that held its lock may have removed it."""
    try:
        return os.name == "nt" or os.path.samefile(path, descriptor)  # Windows removes no file that is open
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Lock an open file; False if another process holds the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks: there, files are written without.
        return error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)
    return True


def check_no_other_files(folder: Path, *ours: str) -> None:
    """Raise an InputError if a folder for results is a file, or holds files but none of these names."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose a folder to write to.")
    if not folder.is_dir() or any((folder / name).is_file() for name in ours):
        return
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if others:
        raise InputError(f"{folder} holds other files, such as {others[0]}: choose a new or an empty folder.")


def remove_temporary(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for path in Path(folder).glob(".*"):
        if re.match(r"\.[0-9a-f]{8}\..", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _renamed(temporary: Path, path: Path) -> None:
    """Rename. Windows cannot replace a file that is being read: try again for a while."""
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
    """Write standard JSON: UTF-8, NumPy values as plain ones, NaN and infinity as null."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    with written_aside(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def append_json(path: Path, data: Mapping[str, Any]) -> None:
    """Add a line of JSON, as of `write_json`, to a file; half a line that a crash left stays a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(plain(data), allow_nan=False).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def write_rows(
    path: str | os.PathLike[str], columns: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write a table as CSV: floats with all their digits."""
    with written_aside(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_rows(path: str | os.PathLike[str], columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV table as text; none if there is no such table, or it has other columns."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            return list(table) if table.fieldnames == list(columns) else []
    except (OSError, ValueError, csv.Error):
        return []


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


def separator_of(text: str) -> str:
    """What separates the columns of a table: the most frequent of ",", ";" and tab in its first line."""
    return max(",;\t", key=text.partition("\n")[0].count)


#: For `reading`: a table, and the cure of a damaged one.
A_TABLE = ("a table", "save it as CSV with UTF-8")
_MISSING = "There is no file {}: check the name."
#: More planes than a file has.
_MOST_PLANES = 10**6
_PLANES_MISSING = "{} says that it has more planes than there are: save it again, with all files of its set."
_NOT_ALLOWED = "There is no permission to read {}: change it, or choose another file."


def check_readable(path: str | os.PathLike[str]) -> None:
    """Raise an InputError if there is no such file, or no permission to read it.

    For readers that do not tell these from a damaged file, as safetensors does not.
    """
    _check_regular(path)
    if not os.path.isfile(path):
        raise InputError(_MISSING.format(path))
    if not os.access(path, os.R_OK):
        raise InputError(_NOT_ALLOWED.format(path))


def _check_regular(path: str | os.PathLike[str]) -> None:
    """Raise an InputError for a pipe, which could be waited for without end, and for a device."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path} is a pipe or a device, not a file: save what it gives as a file first.")


@contextmanager
def reading(path: Path, kind: str, cure: str = "save it again") -> Iterator[None]:
    """Make a sentence for the user of what a reader of a file raises: a damaged file can raise anything.

    ``kind`` is what the file is read as, such as ``TIFF``, ``cure`` what to do with a damaged one.
    """
    _check_regular(path)
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"There is not enough memory to read {path}: crop it, or close other programs."
        ) from error
    except Exception as error:
        if not os.path.exists(path):
            raise InputError(_MISSING.format(path)) from error
        if isinstance(error, PermissionError) or not os.access(path, os.R_OK):
            raise InputError(_NOT_ALLOWED.format(path)) from error
        if os.path.isfile(path) and not os.path.getsize(path):
            raise InputError(f"The file {path} is empty: copy or save it again.") from error
        if kind.endswith("TIFF") and ("imagecodecs" in str(error) or isinstance(error, ImportError)):
            raise InputError(_compressed(path)) from error
        raise InputError(f"The file {path} cannot be read as {kind}: {cure}.") from error


@contextmanager
def open_tiff(path: str | os.PathLike[str]) -> "Iterator[TiffFile]":
    """Open a TIFF. Unlike tifffile, this gives no zeros for planes that the metadata state but no file holds.

    Raises an InputError if planes are missing.
    """
    import tifffile

    _check_regular(path)
    with tifffile.TiffFile(path) as tiff:
        if tiff.is_ome and tiff.ome_metadata:
            for pixels in ElementTree.fromstring(tiff.ome_metadata).findall(".//{*}Pixels"):
                # tifffile makes a list of them, before it looks for them
                if math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "CZT") > _MOST_PLANES:
                    raise InputError(_PLANES_MISSING.format(path))
            if any(page is None for series in tiff.series for page in series.pages):
                raise InputError(_PLANES_MISSING.format(path))
        yield tiff


def _compressed(path: Path) -> str:
    """Which package reads a TIFF file whose compression tifffile alone does not know."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        compression = tifffile.COMPRESSION(tiff.pages.first.compression).name
    return (
        f"{path} is compressed with {compression}, which needs one more package: run "
        "pip install imagecodecs, or save the file without compression."
    )
