"""Runs as folders: plans, logs that are read while they grow, processes that are found and killed."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from napari_dispr import InputError
from napari_dispr.files import locked
from napari_dispr.training import run as runs
from napari_dispr.training.run import Plan, Run


@pytest.fixture
def run(tmp_path):
    plan = Plan(name="nuclei", dataset=str(tmp_path / "cells"), out=str(tmp_path / "nuclei.safetensors"))
    return Run.create(tmp_path / "nuclei.training", plan)


def test_a_plan_comes_back(run):
    again = Run.open(run.folder)
    assert again.plan == run.plan and again.state == "planned"
    assert again.plan.settings.batch == 8


def test_a_folder_holds_one_run(run):
    with pytest.raises(InputError, match="already holds a training run"):
        Run.create(run.folder, run.plan)


def test_a_run_that_failed_to_start_is_replaced(run):
    run.write("problem", text="There is no folder cells: check its path.")
    again = Run.create(run.folder, run.plan)
    assert again.state == "planned" and again.last("problem") is None
    again.write("begin")
    again.write("problem", text="The disk is full.")
    with pytest.raises(InputError, match="already holds a training run"):
        Run.create(run.folder, run.plan)


def test_cells_that_an_unfinished_run_needs_are_not_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "runs_folder", lambda: tmp_path)
    plan = Plan(
        name="first", dataset=str(tmp_path / "first" / "cells"), out=str(tmp_path / "first.safetensors")
    )
    first = Run.create(tmp_path / "first", plan)
    further = Run.create(tmp_path / "further", plan.model_copy(update={"name": "further"}))
    with pytest.raises(InputError, match="'further' is not finished and needs the cells of 'first': delete"):
        first.delete()
    further.write("end", reason="finished", model="x.safetensors")
    first.delete()
    assert not first.folder.exists() and further.folder.exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no training run in"):
        Run.open(tmp_path)
    for wrong in (b'{"name": 3}', b"\xff\xfe\x00", b"{"):
        (tmp_path / "plan.json").write_bytes(wrong)
        with pytest.raises(InputError, match="cannot be read as a plan of this version: start a new run"):
            Run.open(tmp_path)


def test_a_log_is_read_while_it_grows(run):
    assert run.reports() == ([], 0)
    run.write("begin", step=0)
    first, read = run.reports()
    assert first == [{"kind": "begin", "step": 0}]
    log = run.folder / "log.jsonl"
    with log.open("a") as file:
        file.write('{"kind": "step", "st')
    assert run.reports(read) == ([], read)  # half a line is for the next time
    with log.open("a") as file:
        file.write('ep": 1}\n')
    second, read = run.reports(read)
    assert second == [{"kind": "step", "step": 1}] and read == log.stat().st_size
    assert run.last("begin") == first[0] and run.last("end") is None


def test_half_a_line_of_a_crash_spoils_nothing(run):
    (run.folder / "log.jsonl").write_text('{"kind": "st\n{"kind": "begin"}\n')
    assert run.reports()[0] == [{"kind": "begin"}]


def test_states(run):
    run.write("begin")
    assert run.state == "stopped"
    with run.owned():
        assert run.state == "running" and run.is_running
    assert run.state == "stopped"
    run.write("end", reason="stopped", model=None)
    assert run.state == "stopped"
    run.write("end", reason="finished", model="x.safetensors")
    assert run.state == "finished"


def test_the_state_of_a_long_log_is_read_fast(run, monkeypatch):
    for step in range(50):
        run.write("step", step=step)
    parsed = []
    monkeypatch.setattr(runs.json, "loads", lambda line, loads=json.loads: parsed.append(line) or loads(line))
    assert run.state == "stopped" and not parsed
    run.write("end", reason="finished", model="x.safetensors")
    assert run.state == "finished" and len(parsed) == 1


def test_two_processes_do_not_train_one_run(run):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        run._own(other.pid)
        assert run.is_running
        with pytest.raises(InputError, match="is being trained already"), run.owned():
            pass
        with pytest.raises(InputError, match="is being trained already"):
            run.start()
        run.kill()
        assert other.wait() and not run.is_running
    finally:
        other.kill()
        other.wait()


def test_no_other_process_can_begin_between_the_check_and_the_mark(run, monkeypatch):
    marked = []

    def mark(self, pid):
        with pytest.raises(InputError, match="Another process is writing"), locked(run.folder / "lock"):
            pass
        marked.append(pid)

    monkeypatch.setattr(Run, "_own", mark)
    monkeypatch.setattr(Run, "command", lambda self, finish: [sys.executable, "-c", ""])
    with run.owned():
        pass
    started = run.start()
    started.wait()
    assert marked == [os.getpid(), started.pid]


def test_the_process_of_another_day_does_not_count(run):
    since = psutil.Process().create_time()
    (run.folder / "process.json").write_text(json.dumps({"pid": os.getpid(), "since": since - 3600}))
    assert not run.is_running


def test_a_process_of_another_machine_counts_while_it_writes(run):
    (run.folder / "process.json").write_text(json.dumps({"pid": 1, "since": 0, "host": "elsewhere"}))
    run.write("step")
    assert run.is_running and run.state == "running"
    with pytest.raises(InputError, match="is being trained already"), run.owned():
        pass
    for name in ("process.json", "log.jsonl"):
        os.utime(run.folder / name, (0, 0))
    assert not run.is_running


def test_what_is_no_number_is_no_json_either(run):
    run.write("step", loss=float("nan"))
    assert run.reports()[0] == [{"kind": "step", "loss": None}]


def test_the_line_after_half_a_line_counts(run):
    (run.folder / "log.jsonl").write_text('{"kind": "st')
    run.write("end", model="m")
    assert run.state == "finished"


def test_a_process_that_cannot_begin_says_why_and_keeps_a_request_to_stop(run):
    run.request_stop()  # of another process
    process = run.start()
    assert not run.stop_requested
    run.request_stop()
    assert process.wait() == 2 and run.stop_requested
    assert "There is no folder" in run.output.read_text() and not run.is_running
    assert "There is no folder" in run.last("problem")["text"]


def test_runs_are_listed_newest_first(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "user_data_path", lambda *a, **k: tmp_path)
    assert runs.all_runs() == []
    for name in ("one", "two"):
        Run.create(runs.runs_folder() / name, Plan(name=name, dataset="d", out="o.safetensors"))
        os.utime(runs.runs_folder() / name / "plan.json", (2, 2) if name == "one" else (1, 1))
    (runs.runs_folder() / "none").mkdir()
    assert [run.plan.name for run in runs.all_runs()] == ["one", "two"]
