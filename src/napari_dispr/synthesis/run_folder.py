"""The folder of a run that can be continued: it is new, or it was started with the same inputs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_dispr.errors import InputError
from napari_dispr.files import check_no_other_files, folder_locked, plain, remove_temporary


@contextmanager
def run_folder(folder: Path, name: str, request: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Hold the lock of the folder of a run.

    Yields the card that a run wrote before into the folder, as a JSON file; None for a new or empty folder.
    Its entry "request" has all that the results depend on. Raises an InputError if the folder holds files
    that are not of such a run, or a run with another request, or another process writes into it.
    """
    check_no_other_files(folder, name)
    with folder_locked(folder):
        yield _earlier_card(folder, name, request)


def _earlier_card(folder: Path, name: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    if (folder / name).is_file():
        try:
            card: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
            same = card["request"] == plain(request) and isinstance(card.get("notes", {}), dict)
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise InputError(
                f"{folder} holds the results of a run with other inputs, another seed or other settings: "
                "choose another folder, or delete this one."
            )
        for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            remove_temporary(place)
        return card
    return None
