"""Tests of windows wait for conditions, not for times."""

from support.windows import qtbot as qtbot
