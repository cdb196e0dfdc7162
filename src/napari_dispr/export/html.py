"""The parts that reports are made of, as HTML: numbers, tables, pictures, and the page around them.

A page contains its pictures and needs neither network nor scripts. Its style is ``report.css``.
"""

import io
import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.files import written_aside
from napari_dispr.version import __version__

Picture = NDArray[Any]


def write_page(file: str | os.PathLike[str], title: str, parts: Iterable[str]) -> None:
    """Write a page with some parts, which are HTML already."""
    style = (Path(__file__).parent / "report.css").read_text("utf-8")
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="napari-dispr {__version__}"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main></body></html>\n"
    )
    with written_aside(file) as aside:
        aside.write_text(page, encoding="utf-8")


def header(title: str, facts: Iterable[tuple[str, str]], text: str) -> str:
    """The title, facts (each a value and its name) and a paragraph; values, names and text are HTML."""
    items = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in facts)
    return f'<header><h1>{escape(title)}</h1><div class="facts">{items}</div><p>{text}</p></header>'


def number(value: Any) -> str:
    """A number with three significant digits."""
    value = float(value)
    if not np.isfinite(value):
        return "–"
    if abs(value) < 999.5:  # else rounded to 1,000
        return f"{value:#.3g}".rstrip(".") if value else "0"
    digits = int(np.floor(np.log10(abs(value)))) - 2
    return f"{round(value, -digits):,.0f}".replace(",", "\u202f")


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table; its cells are HTML already."""
    first = "".join(f"<th>{text}</th>" for text in head)
    rest = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>\n" for row in rows)
    content = f"<thead><tr>{first}</tr></thead>\n<tbody>{rest}</tbody>"
    return f'<div class="wide"><table class="{kind}">{content}</table></div>'


def data_url(png: io.BytesIO) -> str:
    """The content of a PNG file as an address."""
    return f"data:image/png;base64,{b64encode(png.getvalue()).decode()}"


def figure(picture: Picture, caption: str, text: str, over: str = "", kind: str = "") -> str:
    """A picture, (y, x) or with 3 or 4 channels, with an overlay (SVG, in its pixels), caption (HTML) and
    description (``text``).
    """
    from matplotlib.image import imsave

    height, width = picture.shape[:2]
    colours = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    png = io.BytesIO()
    imsave(png, np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8), format="png")
    image = f'<image href="{data_url(png)}" width="{width}" height="{height}"/>'
    return (
        f'<figure class="{kind}"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}">'
        f"{image}{over}</svg><figcaption>{caption}</figcaption></figure>"
    )


def outline(mask: Picture) -> str:
    """The border of a mask as a path, where pixel (0, 0) reaches from 0 to 1."""
    from skimage.measure import find_contours

    paths = []
    for contour in find_contours(np.pad(np.asarray(mask, dtype=float), 1), 0.5):
        points = " ".join(f"{x - 0.5:.1f},{y - 0.5:.1f}" for y, x in contour)
        paths.append(f"M{points}z")
    return f'<path class="outline" d="{" ".join(paths)}"/>'
