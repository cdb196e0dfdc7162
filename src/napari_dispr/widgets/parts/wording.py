"""How numbers and units are written in tables and plots. No Qt."""

from napari_dispr.shapes.measures import unit_sign


def spoken(name: str) -> str:
    """The name of a column in words."""
    return name.replace("_", " ")


def heading(name: str, unit: str, between: str = "\n") -> str:
    """Such as ``volume (µm³)``, on two lines for a table."""
    sign = unit_sign(unit)
    return f"{spoken(name)}{between}({sign})" if sign else spoken(name)


def estimate(mean: float, sd: float, low: float = float("nan"), high: float = float("nan")) -> str:
    """Such as ``92.1 [84.0, 103.5]`` with an interval, `mean_and_sd` without; ends as exact as the mean."""
    if not high >= low:
        return mean_and_sd(mean, sd)
    width = max(high - low, 1e-12 * abs(mean), 1e-300)
    places = max(0, 1 - int(f"{width:.1e}".split("e")[1]))
    return f"{mean:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def mean_and_sd(mean: float, sd: float) -> str:
    """Such as ``92.1 ± 4.3``: the sd with two digits, the mean with as many places; one member has no sd."""
    if not sd > 0:
        return plain(mean)
    places = max(0, 1 - int(f"{sd:.1e}".split("e")[1]))
    return f"{mean:.{places}f} ± {sd:.{places}f}"


def plain(value: float) -> str:
    """Four digits; nothing where there is no value."""
    return "" if value != value else f"{value:.4g}"


def gain_text(gain: float, relative: bool) -> str:
    """What a z-stack is expected to gain: a share in per cent, or in the measure's own unit."""
    return f"{gain:.0%}" if relative else plain(gain)
