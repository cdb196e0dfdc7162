"""Plan a training run, and make all quick checks of the request. No torch."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_dispr.errors import InputError
from napari_dispr.models import library
from napari_dispr.settings import PRESETS, RIVAL_PRESETS, RivalTrainSettings, TrainSettings, checked_settings
from napari_dispr.training.run import Plan, Run

#: The default for the model to start from.
DEFAULT_START = "auto"


def run_for(out: str | os.PathLike[str]) -> Run:
    """The run that makes the model file ``out``; an InputError if there is none."""
    return Run.open(Path(out).with_suffix(".training"))


def is_planned(out: str | os.PathLike[str]) -> bool:
    """Whether there is a run that makes the model file ``out``."""
    return Run.is_in(Path(out).with_suffix(".training"))


def planned(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    start: str | None = DEFAULT_START,
    preset: str = "standard",
    settings: TrainSettings | RivalTrainSettings | None = None,
    description: str = "",
    licence: str = "",
    data_note: str = "",
    **changes: Any,
) -> Run:
    """Plan a new run in a folder next to its model file, and make all quick checks.

    Raises an InputError if a name, a setting or a folder is wrong, or the model or the run already exists.
    """
    out = Path(out).absolute()
    library.check_new_file(out)
    if not Path(dataset).is_dir():
        raise InputError(f"There is no folder {dataset}: check its path.")
    if settings is None:
        settings = preset_settings(preset, **changes)
    check_extra(settings)
    plan = Plan(
        name=out.stem,
        dataset=str(Path(dataset).absolute()),
        out=str(out),
        start=start_of(start, settings),
        preset=preset,
        settings=settings,
        description=description,
        licence=licence,
        data_note=data_note,
    )
    return Run.create(out.with_suffix(".training"), plan)


def preset_settings(preset: str, **changes: Any) -> TrainSettings | RivalTrainSettings:
    """The settings of a preset with some changes; a number of steps replaces its minutes."""
    presets: dict[str, TrainSettings | RivalTrainSettings] = {**PRESETS, **RIVAL_PRESETS}
    if preset not in presets:
        raise InputError(f"There is no preset {preset!r}: choose one of {', '.join(presets)}.")
    own = presets[preset].model_dump()
    if changes.get("steps") is not None and changes.get("minutes") is None:
        own["minutes"] = None
    return checked_settings(type(presets[preset]), {**own, **changes})


def check_extra(settings: TrainSettings | RivalTrainSettings) -> None:
    """Raise an InputError if an optional package that the settings need is missing."""
    if settings.method == "topo-shapr" and find_spec("gudhi") is None:
        raise InputError(
            'Topological SHAPR needs one more package: run pip install "napari-dispr[topo]" and try again.'
        )


def start_of(start: str | None, settings: TrainSettings | RivalTrainSettings) -> str | None:
    """The model to start from: its name, its absolute path, or None to train from scratch."""
    if start == DEFAULT_START:
        return "generic" if settings.method == "flow" else None
    if start is None:
        return None
    if settings.method != "flow":
        raise InputError(
            f"The method {settings.method} trains from scratch: do not give a model to start from."
        )
    library.model_path(start)
    return start if start in library.available_models() else str(Path(start).absolute())
