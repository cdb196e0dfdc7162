"""Batches: the same files whatever the workers and whatever was killed; bad fields do not end the others."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet
import pytest
import tifffile
from distributed import Client, LocalCluster, WorkerPlugin
from support.folders import contents
from support.screens import field, write_screen

import napari_dispr as nd
from napari_dispr.cells.fields import Field, list_fields, read_field
from napari_dispr.commands import batch as batch_command
from napari_dispr.commands.cli import main
from napari_dispr.errors import InputError
from napari_dispr.events import Running
from napari_dispr.export import batch_report
from napari_dispr.files import locked
from napari_dispr.prediction import field_run, workers
from napari_dispr.prediction.batch import Batch, BatchStep, iter_predict_batch, predict_batch
from napari_dispr.prediction.batch_tables import write_tables
from napari_dispr.prediction.field_run import field_seed

FIELDS, CELLS = 3, 2
HERE = {"model": "ellipsoid", "workers": 0}


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return write_screen(tmp_path_factory.mktemp("screen"), FIELDS, CELLS)


@pytest.fixture(scope="module")
def whole(screen, tmp_path_factory):
    """An undisturbed batch."""
    return predict_batch(screen, tmp_path_factory.mktemp("whole"), **HERE)


def test_tables_and_fields(screen, whole):
    assert whole.cells == FIELDS * CELLS and whole.fields == ("f0", "f1", "f2") and not whole.failed
    table = whole.table
    assert table["field"].tolist() == ["f0", "f0", "f1", "f1", "f2", "f2"]
    prediction = nd.load_prediction(whole.field("f1"))
    cells = nd.measure_cells(prediction)
    own = table[table["field"] == "f1"].reset_index(drop=True)
    np.testing.assert_array_equal(own["volume_mean"], cells["volume_mean"])
    parquet = pyarrow.parquet.read_table(whole.folder / "cells.parquet").to_pandas()
    assert list(parquet.columns) == list(table.columns) and parquet["label"].tolist() == [1, 2] * FIELDS
    np.testing.assert_array_equal(parquet["volume_mean"], table["volume_mean"])
    columns = pd.read_csv(whole.folder / "cells.columns.csv").set_index("column")
    assert columns.loc["volume_mean", "unit"] == "pixel^3" and "field" in columns.index
    # The field alone, with its own seed, is the same.
    seed = prediction.provenance["settings"]["seed"]
    assert seed == field_seed(0, "f1") != field_seed(0, "f2")
    alone = nd.predict(*field(CELLS, 1), model="ellipsoid", seed=seed)
    np.testing.assert_array_equal(alone[2].members, prediction[2].members)


@pytest.mark.parametrize("at", ["cell", "field"])
def test_a_cancelled_batch_goes_on(screen, whole, tmp_path, at):
    with closing(iter_predict_batch(screen, tmp_path, **HERE)) as events:
        for step in events:
            if (step.cells if at == "cell" else step.done) == 1:
                break
    assert (tmp_path / ".unfinished" / "f0").exists() == (at == "cell")
    before = step.done
    steps: list = []
    predict_batch(screen, tmp_path, progress=steps.append, **HERE)
    assert steps[0].done == before and steps[-1].done == FIELDS
    assert contents(tmp_path) == contents(whole.folder)


def test_a_full_disk_stops_a_batch_that_goes_on_later(screen, whole, tmp_path, monkeypatch):
    def full(prediction, folder, label):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"No space left .* run the same"):
        patch.setattr("napari_dispr.prediction.growing.save_cell", full)
        predict_batch(screen, tmp_path, **HERE)
    assert not list(tmp_path.glob("cells/*"))
    predict_batch(screen, tmp_path, **HERE)
    assert contents(tmp_path) == contents(whole.folder)


_RUN = """
import sys
from napari_dispr.prediction.batch import predict_batch
if __name__ == "__main__":
    predict_batch(sys.argv[1], sys.argv[2], model="ellipsoid", workers=int(sys.argv[3]))
"""


def started(screen, out, workers):
    """A batch in a process of its own."""
    script = out.with_suffix(".py")
    script.write_text(_RUN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, script, screen, out, str(workers)], env=environment)


def wait_for(found, process):
    while not found() and process.poll() is None:
        time.sleep(0.02)
    assert found()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_killed_workers_and_a_killed_batch(screen, whole, tmp_path):
    """A worker is killed when the first cell is finished, the whole batch when a field is."""
    out = tmp_path / "out"
    process = started(screen, out, 2)
    wait_for(lambda: list(out.glob(".unfinished/*/cells.jsonl")), process)
    workers = [
        one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())
    ]
    workers[0].send_signal(signal.SIGKILL)
    wait_for(lambda: list(out.glob("cells/*")), process)
    process.kill()
    process.wait()
    psutil.wait_procs(workers)  # they end with the batch
    batch = predict_batch(screen, out, **HERE)
    assert not batch.failed and contents(out) == contents(whole.folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_scheduler_without_workers_and_a_field_that_kills_them(screen, whole, tmp_path, monkeypatch):
    """The batch waits for a worker; the field that waits behind the deadly one is predicted."""

    class Deadly(WorkerPlugin):
        """Kills a worker that reads the second field, as a system does that is short of memory."""

        def setup(self, worker):
            def read(one, channel):
                if one.name == "f1":
                    os.kill(os.getpid(), signal.SIGKILL)
                return read_field(one, channel)

            field_run.read_field = read

    monkeypatch.setattr(workers, "_MOST_STARTS", 2)
    choices = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.worker.daemon": False,
        "distributed.scheduler.allowed-failures": 0,
    }
    with dask.config.set(choices), LocalCluster(n_workers=0, threads_per_worker=1) as cluster:
        with Client(cluster) as client:
            client.register_plugin(Deadly())
        steps = []
        here = {"model": "ellipsoid", "scheduler": cluster.scheduler_address}
        with closing(iter_predict_batch(screen, tmp_path, **here)) as going:
            for step in (events := Running(going)):
                steps.append(step)
                if step.alone > 1 and not cluster.workers:
                    cluster.scale(1)
    assert set(events.result.failed) == {"f1"} and "killed again and again" in events.result.failed["f1"]
    assert steps[-1].alone == 0 and steps[-1].done == FIELDS
    for name in ("f0", "f2"):
        assert contents(events.result.field(name)) == contents(whole.field(name))


def test_missing_workers_are_reported_each_time(tmp_path, capsys):
    def steps():
        for alone in (0, 59, 61, 62, 0, 61):
            yield BatchStep(0, 3, 0, 0, None, "http://here:1/status", alone)
        return Batch(tmp_path, (), {}, 0)

    assert batch_command._run(steps(), "tcp://here:2").cells == 0
    said = capsys.readouterr().err
    assert said.count("Start workers (dask worker tcp://here:2)") == 2 and said.count("is shown at") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_all_processes_without_a_traceback(screen, whole, tmp_path):
    """A terminal sends Ctrl-C to the workers, too."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "napari_dispr", "batch", screen, "--out", out, "--model", "ellipsoid"]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(lambda: list(out.glob(".unfinished/*/cells.jsonl")), process)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "finished results are kept" in said
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    psutil.wait_procs(workers)
    assert not predict_batch(screen, out, **HERE).failed


def test_two_batches_in_one_folder_are_refused(screen, whole, tmp_path):
    with (
        locked(whole.folder / ".lock"),
        pytest.raises(InputError, match="Another process is writing"),
    ):
        predict_batch(screen, whole.folder, **HERE)
    with pytest.raises(InputError, match="has the members 5, not 4"):
        predict_batch(screen, whole.folder, members=4, **HERE)
    first = iter_predict_batch(screen, tmp_path / "z", **HERE)
    next(first)
    first.close()  # no field is finished, so that other settings are as good
    assert predict_batch(list_fields(screen)[:1], tmp_path / "z", members=4, **HERE).cells == CELLS
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(InputError, match=r"other files, such as thesis\.doc"):
        predict_batch(screen, tmp_path, **HERE)


def test_bad_fields_are_listed_and_the_others_are_done(tmp_path, capsys):
    screen, out = write_screen(tmp_path / "screen", 5, 1), tmp_path / "out"
    whole = (screen / "f1.tif").read_bytes()
    (screen / "f1.tif").write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(screen / "f2_masks.tif", np.zeros((48, 136), np.uint16))
    tifffile.imwrite(screen / "f3_masks.tif", field(1, 3)[1][:-4])
    (screen / "f4_masks.tif").rename(screen / "Müller Zelle_masks.tif")
    tifffile.imwrite(screen / "Müller Zelle.tif", field(1, 4)[0])
    command = ["batch", str(screen), "--out", str(out), "--model", "ellipsoid", "--workers", "0"]
    assert main(command) == 3
    failed = pd.read_csv(out / "failed.csv").set_index("field")["reason"]
    assert list(failed.index) == ["f1", "f2", "f3", "f4"]
    for reason, words in zip(
        failed, ("cannot be read as TIFF", "empty", "the labels (44, 136)", "has no labels"), strict=True
    ):
        assert words in reason
    assert pd.read_csv(out / "cells.csv")["field"].tolist() == ["Müller Zelle", "f0"]
    assert "4 fields failed" in capsys.readouterr().err
    assert "corrupt" not in (out / "report.html").read_text("utf-8")
    (screen / "f1.tif").write_bytes(whole)
    for name in ("f2", "f3", "f4"):
        for path in screen.glob(f"{name}*"):
            path.unlink()
    assert main(command) == 0
    assert not (out / "failed.csv").exists() and len(pd.read_csv(out / "cells.csv")) == 3
    for change in (bytes.upper, lambda _: b""):
        table = out / "cells" / "f0" / "cells.csv"
        table.write_bytes(change(table.read_bytes()))
        assert main(command) == 2 and "f0 is damaged: remove this folder" in capsys.readouterr().err
    (out / "cells.csv").write_bytes(b"field\n1")
    with pytest.raises(InputError, match="is damaged"):
        nd.report_batch(out)


def test_tables_stay_as_they_were_if_new_ones_cannot_be_written(whole, tmp_path):
    out = Path(shutil.copytree(whole.folder, tmp_path / "out"))
    before = contents(out)
    fields = [(Field(name, None, None), out / "cells" / name) for name in whole.fields]
    table = out / "cells" / "f1" / "cells.csv"
    table.write_bytes(table.read_bytes() + 9000 * b"0" + b"\xff\n")  # behind what is read with the head
    with pytest.raises(InputError, match="f1 is damaged"):
        write_tables(out, fields)
    after = contents(out)
    assert all(after[name] == before[name] for name in ("cells.csv", "cells.columns.csv", "cells.parquet"))


def test_fields_of_another_unit_are_not_in_the_table(tmp_path, capsys):
    screen, out = write_screen(tmp_path / "screen", 3, 1), tmp_path / "out"
    for path in (screen / "f0.tif", screen / "f2.tif"):
        known = {"imagej": True, "resolution": (5, 5), "metadata": {"unit": "um"}}
        tifffile.imwrite(path, tifffile.imread(path), **known)
    assert main(["batch", str(screen), "--out", str(out), "--model", "ellipsoid", "--workers", "0"]) == 3
    assert re.search(r"1 field failed, .*: .*\. All are in .*failed\.csv\.", capsys.readouterr().err)
    table = pd.read_csv(out / "cells.csv")
    assert table["field"].tolist() == ["f0", "f2"] and table["volume_mean"].max() < 1000
    failed = pd.read_csv(out / "failed.csv").set_index("field")["reason"]
    assert "in pixel, those of most fields in micrometer" in failed["f1"]
    columns = pd.read_csv(out / "cells.columns.csv").set_index("column")
    assert columns.loc["volume_mean", "unit"] == "micrometer^3"


def test_a_table_carries_its_columns_into_the_results(tmp_path, capsys):
    write_screen(tmp_path / "screen", 3, 1)
    rows = [f"screen/f{n}.tif,screen/f{n}_masks.tif,0.1,{drug},{dose}" for n, drug, dose in
            ((0, "none", 0), (1, "对照 $x{$", 1.5), (2, "对照 $x{$", 3))]  # fmt: skip
    table = tmp_path / "fields.csv"
    table.write_text("\n".join(["image,labels,pixel_size,drug,dose", *rows]), "utf-8")
    command = ["batch", str(table), "--out", str(tmp_path / "out"), "--model", "ellipsoid", "--workers", "0"]
    assert main([*command, "--group", "colour"]) == 2
    assert "no column 'colour'" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as of characters that matplotlib's font lacks
        assert main([*command, "--group", "drug"]) == 0
    cells = pyarrow.parquet.read_table(tmp_path / "out" / "cells.parquet").to_pandas()
    assert cells["drug"].tolist() == ["none", "对照 $x{$", "对照 $x{$"]
    assert cells["dose"].tolist() == [0, 1.5, 3]
    assert nd.load_prediction(tmp_path / "out" / "cells" / "f1").unit == "micrometer"
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Distributions by drug" in page and "<b>对照 $x{$</b>" in page
    text = table.read_text("utf-8")
    table.write_text(text.replace("0.1,none", "0.2,none"), "utf-8")
    assert main(command) == 2, "a finished field has another pixel size now"
    assert "The field f0 was predicted from" in (said := capsys.readouterr().err) and "size 0.1, not" in said
    table.write_text(text.replace("dose", "volume_mean"), "utf-8")
    with pytest.raises(InputError, match="'volume_mean', as the results have: rename it"):
        predict_batch(table, tmp_path / "other", **HERE)


def test_the_pictures_of_a_report_read_each_field_once(whole, monkeypatch):
    read = []
    monkeypatch.setattr(
        batch_report, "load_prediction", lambda folder: read.append(folder.name) or nd.load_prediction(folder)
    )
    rows = {"field": ["f0", "f0", "f1"], "label": [1, 2, 1], "ambiguity": np.nan, "warning": ""}
    assert batch_report._pictures(whole.folder, pd.DataFrame(rows), "", "").count("the shape of cell") == 3
    assert read == ["f0", "f1"]


def test_wrong_workers(screen, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("napari_dispr.prediction.batch.started", lambda count, scheduler: 1 // (count - FIELDS))
        predict_batch(screen, tmp_path / "many", model="ellipsoid", workers=10**9)
    with pytest.raises(InputError, match="has no quality 'none': choose"):
        predict_batch(screen, tmp_path / "out", workers=0, quality="none")
    with pytest.raises(InputError, match="workers is -1"):
        predict_batch(list_fields(screen), tmp_path, model="ellipsoid", workers=-1)
    one, *_ = list_fields(screen)
    for fields, words in (
        ([one, replace(one, name="F0")], "The batch has two fields with the name F0"),
        ([replace(one, name="../f0")], "The field name '../f0' cannot be that of a folder"),
    ):
        with pytest.raises(InputError, match=words):
            predict_batch(fields, tmp_path / "names", **HERE)
    with pytest.raises(InputError, match="No Dask scheduler answers at 'tcp://127"):
        predict_batch(screen, tmp_path / "none", model="ellipsoid", scheduler="tcp://127.0.0.1:9")
