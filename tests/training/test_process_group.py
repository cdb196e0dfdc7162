"""Processes that share each step: two of them learn the same as one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_dispr import InputError
from napari_dispr.settings import TrainSettings
from napari_dispr.training.loop import iter_optimise
from napari_dispr.training.process_group import ProcessGroup, process_count, process_group

RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from support.simulated import cell_of
from support.models import TINY
from napari_dispr.diffusion import devices
from napari_dispr.training.process_group import process_group
from napari_dispr.training.state import State
from napari_dispr.training.loop import iter_optimise
from napari_dispr.settings import TrainSettings

torch.set_num_threads(1)
devices.fast_dtype = lambda device: torch.float32  # 16 bit rounds sums of one process and of two apart
update, norms = State.update, []

def noted(self, samples):
    norms.append(float(self.gradient.norm()))
    update(self, samples)

State.update = noted
cells = [cell_of("discocyte"), cell_of("stomatocyte", 1), cell_of("echinocyte", 2)]
settings = TrainSettings(steps=4, batch=4, warmup=2, scored=0.5)
out, processes = Path(sys.argv[1]), int(sys.argv[2])
command = [sys.executable, *sys.orig_argv[1:]]
with process_group(processes, torch.device("cpu"), command) as group:
    assert group.size == processes
    options = dict(config=TINY, group=group, report_every=1)
    for report in iter_optimise(cells, out / "checkpoint.pt", settings, **options):
        if group.rank == 0:
            print(json.dumps({{**asdict(report), "gradient": norms[-1]}}), flush=True)
"""


def run(tmp_path, processes, *launcher):
    script = tmp_path / "run.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parents[1])))
    out = tmp_path / f"{processes}-{len(launcher)}"
    command = [sys.executable, *launcher, str(script), str(out), str(processes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return reports, torch.load(out / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 1)


def assert_alike(one, other):
    (reports, state), (others, other_state) = one, other
    assert [r["step"] for r in reports] == [r["step"] for r in others] == [1, 2, 3, 4]
    assert [r["phase"] for r in others] == ["flow"] * 2 + ["scored"] * 2
    assert [r["loss"] for r in others] == pytest.approx([r["loss"] for r in reports], rel=1e-4)
    assert [r["gradient"] for r in others] == pytest.approx([r["gradient"] for r in reports], rel=0.01)
    assert others[0]["gradient"] == pytest.approx(reports[0]["gradient"], rel=1e-4)
    assert other_state["taken"] == state["taken"] == 2 * 4 + 2 * 2
    # Muon and Adam divide by the size of a gradient, so that rounding errors of small gradients grow.
    apart = sum(float((other_state["network"][n] - w).norm() ** 2) for n, w in state["network"].items())
    assert apart**0.5 <= 0.01 * sum(float(w.norm() ** 2) for w in state["network"].values()) ** 0.5


def test_two_processes_learn_what_one_does(alone, tmp_path):
    assert_alike(alone, run(tmp_path, 2))


def test_under_torchrun(alone, tmp_path):
    # Standalone: torchrun chooses a free port.
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert_alike(alone, run(tmp_path, 2, *launcher))


def test_a_process_that_ends_while_it_loads_is_an_error():
    ends = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(InputError, match="while it was loading"), process_group(2, torch.device("cpu"), ends):
        pass


def test_shares_are_all_there_is():
    shares = [ProcessGroup(rank, 3).share(range(8)) for rank in range(3)]
    assert sorted(i for share in shares for i in share) == list(range(8)) and shares[1] == [1, 4, 7]


def test_as_many_processes_as_cores_and_shapes():
    cpu = torch.device("cpu")
    expected = torch.get_num_threads() if sys.platform == "linux" else 1
    assert process_count(cpu, 64, scored=True) == min(32, expected)
    assert process_count(cpu, 2, scored=True) == 1
    assert process_count(torch.device("cuda"), 8, scored=True) == 1


def test_more_processes_than_shapes(tmp_path):
    with pytest.raises(InputError, match="3 processes need a batch"):
        from support.simulated import cell_of

        settings = TrainSettings(batch=4)
        next(iter_optimise([cell_of("discocyte")], tmp_path / "c.pt", settings, group=ProcessGroup(0, 3)))
