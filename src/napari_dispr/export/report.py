"""A report of a prediction: one HTML page with pictures, measures, warnings and the command to repeat it."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from napari_dispr import grid
from napari_dispr.errors import words_of
from napari_dispr.export.html import figure, header, html_table, number, write_page
from napari_dispr.export.report_pictures import Field, overview, views, volume_chart
from napari_dispr.prediction.notes import sentences
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.measures import HEADLINE, unit_sign
from napari_dispr.shapes.shading import shaded
from napari_dispr.version import __version__

#: Pixels per voxel in the picture of a shape, and the colours of shapes.
_ENLARGED = 3
MEMBER, _CONSENSUS = (0.52, 0.72, 0.92), (0.95, 0.72, 0.42)
#: Of more cells, this many are shown one by one, the most ambiguous: no browser opens pages of thousands.
DETAILED = 200
#: Placeholders for files that the provenance does not name.
_IMAGE, _LABELS = "IMAGE.tif", "LABELS.tif"


def report(
    prediction: Prediction,
    file: str | os.PathLike[str],
    image: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    *,
    title: str = "Cell shapes",
    measures: pd.DataFrame | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a report of a prediction as one HTML file.

    Parameters
    ----------
    image, labels : (y, x) or (plane, y, x) arrays, optional
        Input of the prediction, to show where each cell is.
    measures : DataFrame
        Table of `measure`, if it was measured before.
    progress : callable, optional
        Called with the number of finished cells and of all cells.

    Raises
    ------
    InputError
        If the prediction holds no cell, or the picture or the table is not that of the prediction.
    """
    prediction.check_has_cells()
    field = Field(prediction, image, labels)
    table = measure(prediction) if measures is None else measures
    prediction.check_measures(table, "volume")
    cells = measure_cells(prediction, table).set_index("label")
    sections = []
    detailed = _detailed(cells)
    for done, label in enumerate(detailed, start=1):
        own: Any = cells.loc[label]
        sections.append(_cell(prediction, label, table[table["label"] == label], own, field))
        if progress is not None:
            progress(done, len(detailed))
    body = [
        _head(prediction, cells, title),
        _warnings(prediction),
        overview(prediction, field),
        _summary(prediction, cells, detailed),
        volume_chart(prediction, table, cells),
        '<h2 id="cells">Cell by cell</h2>',
        f"<p>The {DETAILED} most ambiguous cells.</p>" if len(detailed) < len(prediction) else "",
        *sections,
        _repeat(prediction),
        _meanings(prediction, table, cells),
    ]
    write_page(file, title, body)


def _detailed(cells: pd.DataFrame) -> list[int]:
    """The cells that are shown one by one, in their order: all, or the `DETAILED` most ambiguous."""
    least = cells["ambiguity"].sort_values(ascending=False, kind="stable", na_position="last").index
    chosen = set(least[:DETAILED])
    return [int(label) for label in cells.index if label in chosen]


# --- words and numbers ----------------------------------------------------------------------------------


def _named(prediction: Prediction, label: int) -> str:
    return prediction.names.get(label) or f"Cell {label}"


def _value(row: "pd.Series[Any]", name: str) -> str:
    """Mean with its interval, or with its standard deviation where there is none."""
    text = f"<b>{number(row[f'{name}_mean'])}</b>"
    if interval := _interval(row, name):
        return f'{text} <span class="interval">{interval}</span>'
    return f'{text} <span class="interval">± {number(row[f"{name}_sd"])}</span>'


def _interval(row: "pd.Series[Any]", name: str) -> str:
    """The two ends; empty if the measure has no interval, or it does not hold for the cell."""
    ends = [row.get(f"{name}_{end}", np.nan) for end in ("low", "high")]
    return "\u2009–\u2009".join(map(number, ends)) if np.isfinite(ends).all() else ""


def _modes(ensemble: Ensemble) -> str:
    """How many kinds of shape fit, and how often each was sampled."""
    modes = ensemble.modes
    if len(modes) == 1:
        return "One kind of shape fits." if len(ensemble) > 1 else ""
    shares = " / ".join(f"{100 * len(mode) / len(ensemble):.0f}\u2009%" for mode in modes)
    return f"{len(modes)} kinds of shape fit: {shares}."


# --- parts of the page ----------------------------------------------------------------------------------


def _head(prediction: Prediction, cells: pd.DataFrame, title: str) -> str:
    made = prediction.provenance
    facts = [
        (str(len(prediction)), "cell" if len(prediction) == 1 else "cells"),
        (str(prediction.members), "shapes each" if prediction.members > 1 else "shape each"),
        (escape(str(made.get("model", "unknown"))), "method" if made.get("method") else "shape model"),
    ]
    unlike = sum(bool(text) and label in prediction for label, text in prediction.unlike.items())
    facts.append((str(unlike), "unlike the training data"))
    if cells["ambiguity"].notna().any():
        most, share = int(str(cells["ambiguity"].idxmax())), float(cells["ambiguity"].max())
        link = f'<a href="#cell-{most}">{escape(_named(prediction, most))}</a>'
        facts.append((link, f"most ambiguous ({share:.2f})"))
    several = "depths" in made
    text = f"Each cell was seen in {'a few planes' if several else 'one plane'} only. "
    if made.get("method"):
        text += "The method predicts one shape per cell, which does not show its uncertainty."
    else:
        text += (
            f"A diffusion model drew several 3D shapes that all agree with {'these' if several else 'that'} "
            f"plane{'s' * several}, the members of the cell's ensemble. Numbers are means over the members"
        )
        text += (
            f"; ranges are calibrated {LEVEL:.0%} intervals: for nine in ten cells like those that the "
            "model was made for, the true value lies inside."
            if prediction.has_intervals
            else ", with their standard deviation, which shows how similar the members are, not how correct."
        )
    return header(title, facts, text)


def _warnings(prediction: Prediction) -> str:
    general = [note for note in prediction.notes if note.kind != "unlike"]
    texts = [escape(text) for text in sentences(general, prediction.names, len(prediction))]
    texts += [
        f'<a href="#cell-{label}">{escape(_named(prediction, label))}</a>: {escape(text)}.'
        for label, text in prediction.unlike.items()
        if text and label in prediction
    ]
    if not texts:
        return '<section class="fine">No warnings: all cells are like the training data.</section>'
    items = "".join(f"<li>{text}</li>" for text in texts)
    return f'<section class="warnings"><h2>Warnings</h2><ul>{items}</ul></section>'


def _summary(prediction: Prediction, cells: pd.DataFrame, detailed: list[int]) -> str:
    columns = cells.attrs["columns"]
    shown = [name for name in HEADLINE if f"{name}_mean" in cells and name != "curvature"]
    units = {name: unit_sign(columns[f"{name}_mean"].partition(":")[0]) for name in shown}
    head = ["cell", *(f"{words_of(name)} <i>{units[name]}</i>" for name in shown), "ambiguity", "kinds"]
    rows, elsewhere = [], {*detailed}
    for label, row in cells.iterrows():
        warning = escape(str(row["warning"]))
        sign = f' <span class="sign" title="{warning}">⚠</span>' if warning else ""
        name = escape(prediction.names.get(int(str(label)), str(label)))
        place = f'href="#cell-{label}"' if label in elsewhere else f'id="cell-{label}"'
        link = f"<a {place}>{name}</a>{sign}"
        share = row["ambiguity"]
        bar = f'{share:.2f}<span class="bar" style="width:{3 * share:.2f}em"></span>'
        bar = bar if np.isfinite(share) else "–"
        rows.append([link, *(_value(row, name) for name in shown), bar, str(int(row["modes"]))])
    return "<h2>All cells</h2>" + html_table(head, rows, "numbers")


def _tick(kept: bool) -> str:
    return " ✓ kept" if kept else ""


def _cell(
    prediction: Prediction, label: int, members: pd.DataFrame, row: "pd.Series[Any]", field: Field
) -> str:
    ensemble = prediction[label]
    name, columns = _named(prediction, label), members.attrs.get("columns", {})
    unit = unit_sign(columns.get("volume", "").partition(":")[0])
    figures = views(prediction, label, field)
    consensus = shaded(ensemble.consensus_distance, _CONSENSUS, _ENLARGED)
    kept = prediction.kept.get(label)
    figures.append(figure(consensus, f"consensus{_tick(kept == 'consensus')}", f"consensus of {name}"))
    volumes = dict(zip(members["member"], members["volume"], strict=True))
    for mode in ensemble.modes:
        for index in mode:
            member = ensemble.numbers[index]
            view = shaded(ensemble.signed_distance[index], MEMBER, _ENLARGED)
            words = f"member {member + 1}{_tick(kept == member)}"
            caption = f"{words}<br><b>{number(volumes[member])}</b> {unit}"
            figures.append(figure(view, caption, f"member {member + 1} of {name}"))
    rows = []
    for measure_name in HEADLINE:
        if f"{measure_name}_mean" in row:
            own = unit_sign(columns.get(measure_name, "no unit").partition(":")[0])
            interval = _interval(row, measure_name)
            mean, sd = number(row[f"{measure_name}_mean"]), number(row[f"{measure_name}_sd"])
            rows.append([words_of(measure_name), f"<b>{mean}</b>", sd, interval, f"<i>{own}</i>"])
    ends = f"{LEVEL:.0%} interval" if prediction.has_intervals else ""
    head = ["measure", "mean", "sd of members", ends, "unit"]
    notes = [_modes(ensemble)]
    if ensemble.section is not None and ensemble.section.planes:
        notes.append(f"Predicted from {1 + len(ensemble.section.planes)} planes.")
    if np.isfinite(row["ambiguity"]):
        notes.append(f"Ambiguity {row['ambiguity']:.2f}.")
    if kept is not None:
        notes.append(f"Kept: {'the consensus' if kept == 'consensus' else f'member {kept + 1}'}.")
    if gone := prediction.rejected.get(label):
        which = ("members " if len(gone) > 1 else "member ") + ", ".join(str(one + 1) for one in gone)
        notes.append(f"Rejected by hand: {which}; so there is no interval.")
    warning = f'<p class="warning">⚠ {escape(str(row["warning"]))}</p>' if row["warning"] else ""
    return (
        f'<section class="cell" id="cell-{label}"><h3>{escape(name)}</h3>'
        f"<p>{' '.join(filter(None, notes))}</p>{warning}"
        f'<div class="shapes">{"".join(figures)}</div>{html_table(head, rows, "numbers small")}</section>'
    )


def _repeat(prediction: Prediction) -> str:
    """Everything that is needed to repeat the prediction."""
    made = dict(prediction.provenance)
    command, code = command_line(prediction), python_call(prediction)
    parts = ["<h2>How to repeat it</h2>"]
    if command:
        parts.append(f"<p>On the command line:</p><pre>{escape(command)}</pre>")
    if command and is_moved(prediction):
        parts.append(
            "<p>The picture was moved or turned in its world: the command draws the same shapes, at the "
            "picture's own pixels; the Python call puts them into the same place.</p>"
        )
    if code:
        parts.append(f"<p>In Python:</p><pre>{escape(code)}</pre>")
    settings = made.pop("settings", {})
    rows = [(name, value) for name, value in settings.items()]
    rows += [(name, value) for name, value in made.items() if not isinstance(value, Mapping)]
    rows += [("unit", prediction.unit), ("image shape", " x ".join(str(n) for n in prediction.image_shape))]
    rows.append(("image to world (y, x)", np.array2string(prediction.image_to_world, precision=9)))
    texts = [
        [escape(words_of(str(name))), escape("–" if value in (None, "") else str(value))]
        for name, value in rows
    ]
    return "".join(parts) + html_table(["setting", "value"], texts, "settings")


def _meanings(prediction: Prediction, table: pd.DataFrame, cells: pd.DataFrame) -> str:
    columns = {**table.attrs.get("columns", {}), **cells.attrs["columns"]}
    rows = []
    for name in (*HEADLINE, "ambiguity", "modes"):
        if name in columns:
            unit, _, meaning = columns[name].partition(": ")
            rows.append([escape(words_of(name)), escape(unit_sign(unit)), escape(meaning)])
    more = (
        "The tables <code>cells.csv</code> and <code>morphometry.csv</code> of a saved prediction hold all "
        "measures; they count members from 0, so that member 1 of this page is member 0 there."
    )
    software = escape(str(prediction.provenance.get("software", f"napari-dispr {__version__}")))
    foot = f"<footer>Made with {software}; report by napari-dispr {__version__}.</footer>"
    return (
        "<h2>What was measured</h2>"
        + html_table(["measure", "unit", "meaning"], rows, "words")
        + f"<p>{more}</p>{foot}"
    )


# --- how to repeat the prediction ---------------------------------------------------------------------------


def command_line(prediction: Prediction) -> str:
    """The command that draws the same shapes again.

    It contains the size of the pixels, but not the place of the picture in its world; `python_call` contains
    both. Empty if no command does that: for a field of a series, without an image, and for planes whose
    numbers in their stack are not known.
    """
    made, settings = prediction.provenance, _settings(prediction)
    if made.get("place") or _lacks_image(prediction) or ("depths" in made and "planes" not in made):
        return ""
    # Without a size in the settings of a command, the file states it.
    known = "pixel_size" in settings or made.get("image_file")
    if not known and prediction.unit == "micrometer":
        settings["pixel_size"] = _plain(grid.in_plane_scale(prediction.image_to_world))
    if made.get("dataset"):
        inputs = [str(made["dataset"])]
        settings.pop("scale", None)  # the cells of a dataset are used as they are
    else:
        inputs = [str(made.get("image_file") or _IMAGE), str(made.get("labels_file") or _LABELS)]
        settings = {"cells": ",".join(str(label) for label in prediction), **settings}
    options = [
        part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    split = ["--split"] if made.get("split") else []
    channel = ["--channel", str(made["channel"])] if made.get("channel") is not None else []
    stack = []
    if "planes" in made:
        stack = ["--planes", _listed(made["planes"]), "--spacing", _listed(made["spacing"])]
        stack += [] if prediction.unit == "micrometer" else ["--unit", prediction.unit]
    return shlex.join(
        ["napari-dispr", "predict", *inputs, "--out", "FOLDER", *channel, *split, *stack, *options]
    )


def python_call(prediction: Prediction) -> str:
    """The Python code that makes the same prediction again; empty for cells of a dataset folder."""
    made = prediction.provenance
    if made.get("dataset"):
        return ""
    arguments: dict[str, Any] = {"cells": list(prediction), **_settings(prediction)}
    if not np.array_equal(prediction.image_to_world, np.eye(3)):
        arguments["image_to_world"] = [[_plain(x) for x in row] for row in prediction.image_to_world.tolist()]
    if prediction.unit != "pixel":
        arguments["unit"] = prediction.unit
    files = [str(made.get("image_file") or _IMAGE), str(made.get("labels_file") or _LABELS)]
    channel, place = made.get("channel"), made.get("place") or {}
    lines = ["import napari_dispr as nd"]
    if channel is None and not place and all(file.lower().endswith((".tif", ".tiff")) for file in files):
        image, labels = (f"tifffile.imread({file!r})" for file in files)
        lines.append("import tifffile")
    elif "planes" in made:
        stack = f"read_stack({files[0]!r}, {files[1]!r}, channel={channel})"
        image, labels = f"{stack}.image", f"{stack}.labels"
        lines.append("from napari_dispr.cells.stack_files import read_stack")
    else:  # read as the command does
        image = f"read_plane(Path({files[0]!r}), {place}, {channel})"
        labels = f"read_plane(Path({files[1]!r}), {place}, labels=True)"
        lines = ["from pathlib import Path", "", *lines, "from napari_dispr.cells.pictures import read_plane"]
    if _lacks_image(prediction):
        image = "None"
    if made.get("split"):
        labels = f"split_parts({labels})"
        lines.append("from napari_dispr.labels import split_parts")
    if "depths" in made:
        arguments["depths"] = made["depths"]
        if "planes" in made:
            image, labels = (f"{stack}[{made['planes']}]" for stack in (image, labels))
    lines += ["", "prediction = nd.predict(", f"    {image},", f"    {labels},"]
    lines += [f"    {name}={value!r}," for name, value in arguments.items()]
    return "\n".join([*lines, ")"])


def _lacks_image(prediction: Prediction) -> bool:
    """Whether it was made from a file of labels alone."""
    made = prediction.provenance
    return bool(made.get("labels_file")) and not made.get("image_file")


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def is_moved(prediction: Prediction) -> bool:
    """Whether the picture was moved, turned or sheared in its world."""
    pixel = grid.in_plane_scale(prediction.image_to_world)
    return not np.allclose(prediction.image_to_world, np.diag([pixel, pixel, 1.0]), atol=1e-9 * pixel)


def _settings(prediction: Prediction) -> dict[str, Any]:
    """The settings that have a value."""
    settings = dict(prediction.provenance.get("settings", {}))
    if prediction.intervals or prediction.plane_intervals:  # only if sampler and steps are the quality's own
        settings = {name: value for name, value in settings.items() if name not in ("sampler", "steps")}
    if "members" in settings and prediction.numbers:  # more may have been drawn since
        settings["members"] = max(prediction.numbers) + 1
    return {name: value for name, value in settings.items() if value is not None}


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
