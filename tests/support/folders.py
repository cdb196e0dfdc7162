"""Comparing folders of results."""

from hashlib import sha256
from pathlib import Path


def contents(folder: Path) -> dict[str, str]:
    """Checksum of each file of a folder, by its path in it."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
