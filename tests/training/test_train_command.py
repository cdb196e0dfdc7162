"""The command ``train``: signals, several processes, a full disk, wrong options."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from support.training import LITTLE

from napari_dispr.training.plan import run_for

ARGUMENTS = [f"--{name.replace('_', '-')}={value}" for name, value in LITTLE.items()]


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "napari_dispr", "train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def lines_until(process, kind):
    for line in process.stdout:
        if json.loads(line)["kind"] == kind:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_saves_and_ends_and_kill_9_loses_little(dataset, tmp_path):
    out = tmp_path / "m.safetensors"
    long = [argument for argument in ARGUMENTS if "steps" not in argument and "validations" not in argument]
    process = command(dataset, "--out", out, *long, "--steps=400", "--validations=1")
    lines_until(process, "step")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "continue with --resume" in errors and "Traceback" not in errors
    run = run_for(out)
    saved = torch.load(run.checkpoint, weights_only=True)["step"]
    assert saved >= 5 and run.state == "stopped"
    process = command("--resume", run.folder)
    lines_until(process, "step")
    process.kill()
    process.wait()
    assert run.state == "stopped" and not run.is_running
    assert torch.load(run.checkpoint, weights_only=True)["step"] >= saved


def test_two_processes_train_and_end_together(dataset, tmp_path):
    out = tmp_path / "m.safetensors"
    two = [argument for argument in ARGUMENTS if "processes" not in argument and "batch" not in argument]
    process = command(dataset, "--out", out, *two, "--processes=2", "--batch=4", "--steps=2")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[0]["processes"] == 2 and lines[-1]["kind"] == "end" and out.exists()
    assert sum(line["kind"] == "begin" for line in lines) == 1


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
def test_a_full_disk_is_reported(dataset, tmp_path):
    """A file can grow no larger than 20 MB: the checkpoint cannot be written."""
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))

    out = tmp_path / "m.safetensors"
    process = command(dataset, "--out", out, *ARGUMENTS, preexec_fn=limit)
    _, errors = process.communicate()
    assert process.returncode == 2 and "Traceback" not in errors
    assert errors.strip().splitlines()[-1].endswith("checkpoint.pt: File too large.")
    run = run_for(out)
    assert "File too large" in run.last("problem")["text"] and not run.checkpoint.exists()
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is nothing to train"),
        (["--resume"], "--resume needs a run: give --out"),
        (["--resume", "nowhere"], "There is no training run in"),
        (["--resume", "nowhere", "--steps", "3"], "keeps its settings: leave out steps"),
        (["cells", "--out", "model.pt"], "choose one that ends in .safetensors"),
        (["cells", "--out", "m.safetensors", "--finish"], "--finish needs a run"),
        (["nowhere", "--out", "m.safetensors"], "There is no folder"),
    ],
)
def test_wrong_commands_are_refused(arguments, message, tmp_path, monkeypatch, capsys):
    from napari_dispr.commands.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
