"""Estimates and their units as text. No Qt."""

import re

from napari_dispr.errors import words_of
from napari_dispr.shapes.measures import unit_sign

#: napari opens labels in TIFF files as images.
AS_LABELS = (
    "If the labels are open as an image, right-click it in the layer list and choose Convert to Labels."
)


#: A place where a word may be broken (zero width space), and the longest piece of a word without one.
BREAK, _LONGEST_PIECE = "\u200b", 30


def breakable(text: str) -> str:
    """Plain text in which long words may be broken; Qt breaks only between words."""
    return re.sub(rf"\S{{{_LONGEST_PIECE}}}(?=\S)", rf"\g<0>{BREAK}", text)


def shortened(name: str) -> str:
    """A name with its middle left out, if it has more than 22 characters."""
    return name if len(name) <= 22 else f"{name[:11]}…{name[-10:]}"


def heading(name: str, unit: str, between: str = "\n") -> str:
    """Such as ``volume (µm³)``, on two lines for a table."""
    sign = unit_sign(unit)
    return f"{words_of(name)}{between}({sign})" if sign else words_of(name)


def estimate(mean: float, sd: float, low: float = float("nan"), high: float = float("nan")) -> str:
    """Such as ``92.1 [84.0, 103.5]``; without an interval ``92.1 ± 4.3``; one member has no sd either.

    Interval and sd have two digits.
    """
    known = high >= low
    if not (known or sd > 0):
        return plain(mean)
    width = max(high - low, 1e-12 * abs(mean), 1e-300) if known else sd
    places = max(0, 1 - int(f"{width:.1e}".split("e")[1]))
    spread = f"[{low:.{places}f}, {high:.{places}f}]" if known else f"± {sd:.{places}f}"
    return f"{mean:.{places}f} {spread}"


def plain(value: float) -> str:
    """Four digits, more for whole parts up to a million; empty if there is no value."""
    if value != value:
        return ""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"


def gain_text(gain: float, relative: bool) -> str:
    """The expected gain of a z-stack in per cent, or in the measure's unit."""
    return f"{gain:.0%}" if relative else plain(gain)
