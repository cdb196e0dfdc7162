"""A report of a batch: one HTML page with the distributions of each group, failed fields and odd cells."""

import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from napari_dispr.cells.fields import Field
from napari_dispr.errors import InputError, counted, words_of
from napari_dispr.export.figures import literal_texts
from napari_dispr.export.html import data_url, figure, header, html_table, number, write_page
from napari_dispr.export.report import MEMBER
from napari_dispr.export.report_pictures import CROP, views
from napari_dispr.prediction.batch_tables import CELLS_TABLE, FAILED, FIELDS, damaged
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import columns_file, load_prediction
from napari_dispr.shapes.ensemble import Ensemble, pairwise_iou
from napari_dispr.shapes.measures import HEADLINE, unit_sign
from napari_dispr.shapes.shading import shaded
from napari_dispr.version import __version__

REPORT = "report.html"
_TITLE = "Cell shapes of a batch"
#: How many cells are shown of each kind; how many groups, and failed fields.
_CELLS, _GROUPS, _FAILED = 12, 24, 50


def check_group(fields: Sequence[Field], group: str | None) -> None:
    """Raise an `InputError` if the fields have no such column."""
    known = sorted({name for one in fields for name in one.columns})
    if group is not None and group not in known:
        raise InputError(
            f"The fields have no column {group!r} to compare groups: "
            + (f"choose among {', '.join(known)}." if known else "give a table (CSV) with this column.")
        )


def report_batch(
    folder: str | os.PathLike[str], fields: Sequence[Field] = (), *, group: str | None = None
) -> Path:
    """Write ``report.html`` into the folder of a batch.

    Parameters
    ----------
    fields : sequence of Field
        Those of the batch, to check ``group``.
    group : str, optional
        The column of the table of fields whose values are compared, such as a treatment.

    Returns
    -------
    Path
        The page, which needs neither network nor scripts.

    Raises
    ------
    InputError
        If the folder has no table of cells, or the fields have no such column.
    """
    folder = Path(folder)
    if fields:
        check_group(fields, group)
    if not (folder / CELLS_TABLE).is_file():
        raise InputError(f"{folder} holds no table {CELLS_TABLE}: give the folder of a finished batch.")
    try:
        cells, texts = _read(folder, group)
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise damaged(folder) from error
    shown = [str(name) for name in cells if str(name).endswith("_mean") or name == "ambiguity"]
    names = sorted(cells[group].unique(), key=_in_order) if group else []
    groups = {name or "(empty)": cells[cells[group] == name] for name in names} or {"all cells": cells}
    # Fits have no ambiguity.
    units = {name: unit_sign(str(texts.get(name, ""))) for name in shown if cells[name].notna().any()}
    odd = cells[cells["warning"] != ""]
    ambiguous = cells.sort_values("ambiguity", ascending=False, kind="stable", na_position="last")
    with literal_texts():
        boxes = _boxes(dict(list(groups.items())[:_GROUPS]), units)
    body = [
        _head(folder, cells, odd, group, len(groups)),
        _failed(folder),
        f"<h2>Distributions{f' by {escape(words_of(group))}' if group else ''}</h2>",
        boxes,
        "<p>The box holds the middle half of the cells, and the line reaches from the 5th to the 95th "
        "percentile, with a mark at the median. A dot is the median of one field.</p>",
        _medians(groups, units),
        _pictures(
            folder,
            ambiguous[ambiguous["ambiguity"].notna()].head(_CELLS),
            "The most ambiguous cells",
            "Very different shapes fit these cells: their measures are the least certain. The members are "
            "the two that differ most.",
        ),
        _pictures(
            folder,
            odd.iloc[np.linspace(0, len(odd) - 1, min(_CELLS, len(odd)), dtype=int)],
            "Cells unlike the training data",
            "Their ensembles may be certain and wrong: look at the segmentation, and at the kind of "
            "picture that the model was trained on.",
        ),
        f"<footer>Report by napari-dispr {__version__}.</footer>",
    ]
    write_page(folder / REPORT, _TITLE, body)
    return folder / REPORT


def _read(folder: Path, group: str | None) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """The columns of the table of cells that the report shows, and the units of all columns."""
    head = pd.read_csv(folder / CELLS_TABLE, nrows=0).columns
    if group is not None and group not in head:
        raise InputError(f"{folder / CELLS_TABLE} has no column {group!r}: choose a column of it as group.")
    texts = pd.read_csv(columns_file(folder / CELLS_TABLE), keep_default_na=False).set_index("column")
    shown = [*(f"{name}_mean" for name in HEADLINE if f"{name}_mean" in head), "ambiguity"]
    words = ["field", "warning", *([group] if group else [])]
    kinds = {**dict.fromkeys(shown, float), **dict.fromkeys(words, str), "label": int}
    cells = pd.read_csv(folder / CELLS_TABLE, usecols=[*kinds], dtype=kinds)
    cells[words] = cells[words].fillna("")
    return cells[[*kinds]], texts["unit"]


def _in_order(name: str) -> tuple[bool, float, str]:
    """Numbers by their value, before words."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _head(folder: Path, cells: pd.DataFrame, odd: pd.DataFrame, group: str | None, groups: int) -> str:
    made = load_prediction(folder / FIELDS / str(cells["field"].iloc[0])).provenance
    facts = [
        (f"{len(cells):,}".replace(",", "\u202f"), "cells"),
        (str(cells["field"].nunique()), "fields"),
        *([(str(groups), f"groups of {group}")] if group else []),
        (str(made.get("model", "unknown")), "method" if made.get("method") else "shape model"),
    ]
    if not made.get("method"):
        share = 100 * len(odd) / len(cells)
        facts.append((f"{share:.1f}\u2009%", "of the cells unlike the training data"))
    return header(
        _TITLE,
        [(escape(value), escape(name)) for value, name in facts],
        "Each cell was seen in one plane only. The numbers of a cell are means over the members of its "
        "ensemble. Cells of one field are not independent: compare groups by their fields.",
    )


def _failed(folder: Path) -> str:
    if not (folder / FAILED).exists():
        return ""
    failed = pd.read_csv(folder / FAILED, keep_default_na=False, dtype=str)
    rows = [[escape(row["field"]), escape(row["reason"])] for _, row in failed.head(_FAILED).iterrows()]
    more = f"<p>{FAILED} lists all of them.</p>" if len(failed) > _FAILED else ""
    title = f"{counted(len(failed), 'field')} failed"
    return f"<h2>{title}</h2>" + html_table(["field", "reason"], rows, "words") + more


def _boxes(groups: dict[str, pd.DataFrame], units: dict[str, str]) -> str:
    """A panel for each measure, with a box for each group, as a picture."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = 3
    rows = -(-len(units) // columns)
    height = 0.9 + 0.3 * len(groups)
    page = Figure(figsize=(10.4, rows * height), layout=ConstrainedLayoutEngine(h_pad=0.1))
    panels = page.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    places = np.arange(len(groups))[::-1]
    for panel in panels[len(units) :]:
        panel.set_axis_off()
    for panel, (name, unit) in zip(panels, units.items(), strict=False):
        for place, own in zip(places, groups.values(), strict=True):
            values = own[name].dropna()
            if not len(values):
                continue
            least, low, middle, high, most = values.quantile([0.05, 0.25, 0.5, 0.75, 0.95])
            panel.plot([least, most], [place, place], color="#2f6fb0", linewidth=1)
            panel.barh(place, high - low, 0.6, left=low, color="#c9dcef", edgecolor="#2f6fb0")
            panel.plot([middle], [place], "|", color="#1d2733", markersize=14, markeredgewidth=2, zorder=4)
            medians = own.groupby("field")[name].median().dropna().head(200)
            dots = {"color": "#b86e00", "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5}
            spread = np.resize((0.0, 0.18, -0.18, 0.09, -0.09), len(medians)) * (len(medians) > 8)
            panel.plot(medians, place + spread, "o", zorder=3, **dots)
        panel.set_yticks(places, list(groups), fontsize=8)
        panel.set_title(f"{words_of(name.removesuffix('_mean'))} {f'({unit})' if unit else ''}", fontsize=9)
        panel.tick_params(axis="x", labelsize=7)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    file = io.BytesIO()
    page.savefig(file, dpi=160, format="png")
    return f'<img style="width:100%" alt="distributions" src="{data_url(file)}">'


def _medians(groups: dict[str, pd.DataFrame], units: dict[str, str]) -> str:
    head = ["", "fields", "cells"]
    head += [f"{words_of(name.removesuffix('_mean'))} <i>{unit}</i>" for name, unit in units.items()]
    rows = []
    for name, own in groups.items():
        row = [f"<b>{escape(name)}</b>", str(own["field"].nunique()), str(len(own))]
        for measure in units:
            medians = own.groupby("field")[measure].median()
            low, middle, high = own[measure].quantile([0.25, 0.5, 0.75])
            ends = [(low, high), (medians.min(), medians.max())]
            text = "<br>".join(f"{number(first)}\u2009–\u2009{number(last)}" for first, last in ends)
            row.append(f'{number(middle)}<br><span class="interval">{text}</span>')
        rows.append(row)
    return html_table(head, rows, "numbers") + (
        "<p>Median of the cells, their quartiles, and the least and the largest median of a field.</p>"
    )


def _pictures(folder: Path, chosen: pd.DataFrame, title: str, text: str) -> str:
    """The chosen cells, each with its section and, if its members differ, the two that differ most."""
    if not len(chosen):
        return ""
    known: dict[str, Prediction] = {}
    cells = []
    for row in chosen.to_dict("records"):
        name, label = str(row["field"]), int(row["label"])
        if name not in known:
            known[name] = load_prediction(folder / FIELDS / name)
        figures = views(known[name], label) + _shapes(known[name][label])
        said = f"<b>{escape(name)}</b>, cell {label}"
        if np.isfinite(row["ambiguity"]):
            said += f", ambiguity {row['ambiguity']:.2f}"
        warning = f"<br>{escape(row['warning'])}" if row["warning"] else ""
        cells.append(f"<div><p>{said}{warning}</p>{''.join(figures)}</div>")
    return f'<h2>{title}</h2><p>{text}</p><div class="cells">{"".join(cells)}</div>'


def _shapes(ensemble: Ensemble) -> list[str]:
    """Figures of the two members that are least alike, or of the only one."""
    alike = pairwise_iou(ensemble.members)
    first, last = np.unravel_index(alike.argmin(), alike.shape)
    figures = []
    for place in sorted({int(first), int(last)}):
        name = f"member {ensemble.numbers[place] + 1}" if len(ensemble) > 1 else "the shape"
        view = shaded(ensemble.signed_distance[place], MEMBER, CROP)
        figures.append(figure(view, name, f"{name} of cell {ensemble.label}"))
    return figures
