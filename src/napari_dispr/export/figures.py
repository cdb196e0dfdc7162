"""Figures of matplotlib with names that users chose."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure  # not pyplot, which needs a screen

from napari_dispr.files import written_aside

#: Fonts that have the characters of many languages: one of them is installed on most systems.
_MORE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Hiragino Sans GB",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)


@contextmanager
def literal_texts() -> Iterator[None]:
    """Figures that are made and saved inside show each text as it is: a ``$`` begins no formula.

    Characters that matplotlib's own font lacks come from fonts of the system; without one they are boxes.
    """
    installed = set(font_manager.get_font_names())
    fonts = ["sans-serif", *(name for name in _MORE_FONTS if name in installed)]
    with rc_context({"text.parse_math": False, "font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


@contextmanager
def saved_figure(path: Path, width: float, height: float, dpi: int = 300) -> Iterator[Figure]:
    """A figure of this size in inches, with text of 8 points; saved as PNG when the block ends."""
    with literal_texts(), rc_context({"font.size": 8, "axes.linewidth": 0.6}):
        page = Figure((width, height), layout="constrained")
        yield page
        with written_aside(path) as aside:
            page.savefig(aside, dpi=dpi)
