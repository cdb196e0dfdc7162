"""The runner of long jobs: plans, resuming, and results in small files."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

#: A job that ends early in its first run and finishes when it is resumed.
SCRIPT = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
resumed = "--resume" in sys.argv
(folder / "checkpoint.pt").write_bytes(bytes(range(100)))
(folder / "held_out").mkdir(exist_ok=True)
(folder / "held_out" / "errors.csv").write_text("resumed" if resumed else "first")
sys.exit(0 if resumed else 1)
"""


@pytest.fixture(scope="module")
def on_gpu():
    spec = importlib.util.spec_from_file_location("on_gpu", BENCHMARKS / "on_gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["on_gpu"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "minutes"), [("short", 25), ("long", None)])
def test_plans_name_scripts_and_fit_their_time(on_gpu, tmp_path, name, minutes):
    jobs = on_gpu.plan_of(name, tmp_path, tmp_path, tmp_path, tiny=False)
    assert len({job.name for job in jobs}) == len(jobs)
    assert all((BENCHMARKS / job.script).is_file() for job in jobs)
    if minutes:
        assert sum(job.minutes for job in jobs) <= minutes


def test_scripts_have_the_options_of_the_plans(on_gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    jobs = [
        job
        for name in ("short", "long")
        for job in on_gpu.plan_of(name, tmp_path, tmp_path, tmp_path, tiny=False)
    ]
    for script in {job.script for job in jobs}:
        monkeypatch.setattr(sys, "argv", [script, "--help"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        known = {word.strip("[],") for word in capsys.readouterr().out.split()}
        used = {word for job in jobs if job.script == script for word in job.arguments if word[:2] == "--"}
        assert used | {"--device"} <= known, script


def test_a_plan_resumes_and_skips_what_is_finished(on_gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu, "LARGEST", 64)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, "utf-8")
    here, there = tmp_path / "here", tmp_path / "there"

    def run(out):
        jobs = [on_gpu.Job("job", 1, str(script), (str(out / "jobs" / "job"),))]
        return on_gpu.run_plan(jobs, out, 1, "cpu", state=True)

    assert not run(here)
    parts = sorted(path.name for path in (here / "results" / "job").glob("checkpoint*"))
    assert parts == ["checkpoint.pt.part000", "checkpoint.pt.part001"]
    # Another machine has only the results.
    (here / "results").rename(tmp_path / "moved")
    there.mkdir()
    (tmp_path / "moved").rename(there / "results")
    assert run(there)
    assert (there / "results" / "job" / "held_out" / "errors.csv").read_text() == "resumed"
    assert (there / "jobs" / "job" / "checkpoint.pt").read_bytes() == bytes(range(100))
    (there / "jobs" / "job" / "output.txt").unlink()
    assert run(there)  # nothing to do
    assert not (there / "jobs" / "job" / "output.txt").exists()
    assert "not finished" in capsys.readouterr().out
