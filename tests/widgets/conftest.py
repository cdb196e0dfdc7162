"""Tests of windows wait for conditions, not for times, and have settings of their own."""

from pathlib import Path

import pytest
from qtpy.QtCore import QSettings
from support.windows import qtbot as qtbot


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path) -> None:
    """Settings of the test alone; Qt looks the folder up once only."""
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path))
