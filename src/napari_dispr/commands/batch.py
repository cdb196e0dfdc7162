"""``napari-dispr batch``: the cells of many fields, on all cores of this machine or on a cluster."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands import common
from napari_dispr.errors import counted, duration
from napari_dispr.settings import PredictSettings

if TYPE_CHECKING:
    from napari_dispr.prediction.batch import Batch, BatchStep

#: Exit status if some fields failed.
_SOME_FAILED = 3
_NO_WORKERS = (
    "the scheduler has no worker, so the batch waits for one. Start workers (dask worker {}), or wait until "
    "your cluster does. Ctrl-C stops; the same command goes on later."
)


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "batch", batch, "predict the cells of many fields; the same command continues after a stop"
    )
    command.add_argument(
        "fields",
        type=Path,
        help="folder with pairs of image and labels, CSV with columns image and labels, or OME-Zarr plate",
    )
    command.add_argument("--out", type=Path, required=True, help="folder for the results")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=int,
        help="processes on this machine (as its cores and memory allow); 0: only this one, without Dask",
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="your own Dask cluster, such as tcp://10.0.0.1:8786"
    )
    command.add_argument(
        "--group", metavar="COLUMN", help="compare the groups of this column of the table in the report"
    )
    common.add_channel(command)
    common.add_split(command)
    common.add_settings(command, PredictSettings)


def batch(options: argparse.Namespace) -> int:
    settings = common.given_settings(options, PredictSettings)
    common.check_folder(options.out, "batch.json")
    from napari_dispr.cells.fields import list_fields
    from napari_dispr.export.batch_report import check_group, report_batch
    from napari_dispr.prediction.batch import iter_predict_batch

    listed = list_fields(options.fields)
    check_group(listed, options.group)
    events = iter_predict_batch(
        listed,
        options.out,
        workers=options.workers,
        scheduler=options.scheduler,
        channel=options.channel,
        split=options.split,
        **settings.model_dump(),
    )
    done = _run(events, options.scheduler)
    if done.cells:
        report_batch(options.out, listed, group=options.group)
    print(f"{counted(done.cells, 'cell')} of {counted(len(done.fields), 'field')}: {options.out}")
    if done.failed:
        which, why = next(iter(done.failed.items()))
        such = f"{which}: {why}" if len(done.failed) == 1 else f"such as {which}: {why}"
        common.warn(
            f"{counted(len(done.failed), 'field')} failed, {such} All are in {options.out / 'failed.csv'}."
        )
    return _SOME_FAILED if done.failed else 0


def _run(events: Any, scheduler: str | None) -> "Batch":
    """Run with a progress bar for fields, which also counts cells."""
    from tqdm import tqdm

    from napari_dispr.events import result_of
    from napari_dispr.prediction.workers import PATIENCE

    with tqdm(unit="field", disable=None, leave=False) as bar:
        said, alone = "", False

        def show(step: "BatchStep") -> None:
            nonlocal said, alone
            if step.dashboard != said:
                said = step.dashboard
                common.warn(f"what the workers do is shown at {said}")
            if step.alone > PATIENCE and not alone:
                common.warn(_NO_WORKERS.format(scheduler))
            alone = step.alone > PATIENCE
            bar.total = step.total
            left = "" if step.seconds_left is None else f", {duration(step.seconds_left)} left"
            if alone:
                left = ", waiting for a worker"
            bar.set_postfix_str(f"{step.cells} cells, {step.failed} failed{left}", refresh=False)
            bar.update(step.done - bar.n)
            bar.refresh()

        done: Batch = result_of(events, show)
        return done
