"""Remembers what the user chose, from one session to the next."""

from collections.abc import Mapping

from qtpy.QtCore import QSettings


def _store() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-dispr", "napari-dispr")


def remember(texts: Mapping[str, str]) -> None:
    """Keep texts, by key, for the next session."""
    store = _store()
    for key, text in texts.items():
        store.setValue(key, text)


def recall(key: str) -> str:
    """The text last remembered under ``key``; empty if there is none."""
    return str(_store().value(key, "") or "")
