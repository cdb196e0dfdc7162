"""What a user meets when a file is damaged: a result or one sentence, never a traceback, hang or crash.

Changes at random the files of a saved prediction, a model, pictures and tables, a batch, or a learned model
of synthesis, and gives each to the commands that read it. Every call runs in a process of its own, whose
end, time and memory are noted.

    python benchmarks/fuzz.py predictions|models|pictures|batches|synthesis [--cases 100] [--seed 0]

Prints what went wrong, then the number of calls for each end. Linux and macOS only.
"""

import argparse
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
import torch
from imageio.v3 import imwrite
from napari.components import ViewerModel
from napari.layers import Layer
from safetensors.torch import load_file, save_file

import napari_dispr as nd
from napari_dispr.commands.cli import main as command_line
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.models.library import read_card
from napari_dispr.synthesis.sources import learned_file
from napari_dispr.viewer.files import ensemble_reader
from napari_dispr.widgets.morphometry.batch_content import BatchContent

#: Seconds and bytes that a call may take.
LONGEST, MOST_MEMORY = 120, 2 * 2**30
NUMBERS = [-1, 0, 1, 2, 1.5, 1e-300, 1e-30, 1e9, 1e18, 1e60, 1e160, 1e308, -1e308, 2**31, 2**63, 2**64, 2**70]
NUMBERS += [float("nan"), float("inf"), -float("inf")]
TEXTS = ["", "\0", "x" * 10_000, "../x", "1+2j", "nan"]
ODD: list[Any] = [*NUMBERS, *TEXTS, None, True, [], {}, [[1]], {"a": 1}]
TYPES = ("?", "i1", "u1", "i2", "i4", "u8", "f2", "f8", "c16", "S3", "U3", "M8[s]", "V4", ">f4")
UNITS = ("µm", "nm", "x")
Calls = dict[str, Callable[[], Any]]
#: Writes a changed file into a folder; gives the change in words, and the calls that read the file.
Subject = Callable[[Path, random.Random], tuple[str, Calls]]


# --- changes ---------------------------------------------------------------------------------------------


def changed_bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(("empty", "cut", "bytes", "zeros", "text", "twice", "head"))
    start = data[: rng.randrange(len(data))]
    made = {"empty": b"", "cut": start, "zeros": start.ljust(len(data), b"\0"), "text": b"no such file"}
    if kind in ("bytes", "head"):
        array = bytearray(data)
        for _ in range(rng.choice((1, 5, 50))):
            array[rng.randrange(len(data) if kind == "bytes" else min(200, len(data)))] = rng.randrange(256)
        return kind, bytes(array)
    return kind, made.get(kind, data + data)


def changed_json(text: str, rng: random.Random) -> tuple[str, str]:
    """Replace or remove one value, as often near the root as deep inside."""
    content = json.loads(text)
    levels: dict[int, list[tuple[Any, Any, str]]] = {}

    def walk(node: Any, path: str, depth: int) -> None:
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            levels.setdefault(depth, []).append((node, key, f"{path}.{key}"))
            if isinstance(child, dict | list):
                walk(child, f"{path}.{key}", depth + 1)

    walk(content, "", 0)
    node, key, path = rng.choice(levels[rng.choice(sorted(levels))])
    if rng.random() < 0.2:
        del node[key]
        return f"{path} removed", json.dumps(content)
    node[key] = rng.choice(ODD)
    return f"{path} = {node[key]!r:.40}", json.dumps(content)


def changed_array(array: np.ndarray, rng: random.Random) -> tuple[str, np.ndarray]:
    kind = rng.choice(("type", "flat", "axis", "value", "all", "many", "none"))
    if kind == "type":
        wanted = rng.choice(TYPES)
        return f"as {wanted}", np.zeros(array.shape, "f4").astype("f4" if wanted == "V4" else wanted)
    if kind == "many":
        return kind, np.repeat(array[None], 300, 0) if array.size < 1e5 else np.concatenate([array] * 20)
    first = array.ravel()[: rng.choice((0, 1, 7))]
    simple = {"flat": first, "axis": array[None], "none": array[..., None][..., :0]}
    if kind in simple or array.dtype.kind not in "biuf" or not array.size:
        return kind, simple.get(kind, array[None])
    value = rng.choice((np.nan, np.inf, -1, 1e9, 1e30, 1e300, 255, 2.0**63))
    new = array.astype("f8")
    new.flat[... if kind == "all" else rng.randrange(array.size)] = value
    with np.errstate(all="ignore"):
        return f"{kind} {value}", new.astype(array.dtype) if array.dtype.kind == "f" else new


def changed_table(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    rows = [line.split(",") for line in data.decode().splitlines()]
    row = rng.choice(rows)
    column = rng.randrange(len(row))
    kind = rng.choice(("value", "header", "column", "row", "bytes", "quote", "encoding", "nul", "long"))
    if kind == "bytes":
        return changed_bytes(data, rng)
    new = {"value": str(rng.choice(ODD)), "quote": f'"{row[column]}', "nul": "\0", "long": "x" * 200_000}
    row[column] = new.get(kind, row[column])
    if kind == "header":
        rows[0] = rows[0][::-1]
    if kind in ("column", "row"):
        rows = [one[:column] + one[column + 1 :] for one in rows] if kind == "column" else rows[:1]
    text = "\n".join(",".join(one) for one in rows)
    return kind, text.encode("utf-16" if kind == "encoding" else "utf-8")


def change_file(path: Path, rng: random.Random) -> str:
    """Change a file in the way that suits its type, or just its bytes."""
    data = path.read_bytes()
    if path.suffix == ".csv":
        change, data = changed_table(data, rng)
    elif path.suffix == ".json" and rng.random() < 0.8:
        change, text = changed_json(data.decode(), rng)
        data = text.encode()
    elif path.suffix == ".npz" and rng.random() < 0.8:
        return _change_npz(path, rng)
    else:
        change, data = changed_bytes(data, rng)
    path.write_bytes(data)
    return f"{path.name}: {change}"


def _change_npz(path: Path, rng: random.Random) -> str:
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.15:
        change, _ = "removed", arrays.pop(name)
    elif arrays[name].dtype.kind == "U":
        arrays[name] = np.array(rng.choice(ODD), dtype=rng.choice(("U", object)))
        change = f"{arrays[name]!r:.60}"
    else:
        change, arrays[name] = changed_array(arrays[name], rng)
    np.savez_compressed(path, **arrays)
    return f"{path.name} {name}: {change}"


def changed_model(original: Path, file: Path, kind: str, rng: random.Random) -> str:
    """Write a model file with a change of its bytes, of a weight, or of the JSON text called `kind`."""
    data = original.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = data[8:start].decode()
    if kind == "bytes":
        change, changed = changed_bytes(data, rng)
        if rng.random() < 0.5:
            change, header = changed_json(header, rng)
            changed = len(header).to_bytes(8, "little") + header.encode() + data[start:]
        file.write_bytes(changed)
        return f"{kind}: {change}"
    texts, tensors = json.loads(header)["__metadata__"], load_file(original)
    if kind == "weights":
        name = rng.choice(sorted(tensors))
        change, array = changed_array(tensors.pop(name).numpy(), rng)
        if array.dtype.kind in "biuf" and array.dtype.isnative:
            tensors[name] = torch.from_numpy(array.copy())
    else:
        change, texts[kind] = changed_json(texts[kind], rng)
    save_file(tensors, file, texts)
    return f"{kind}: {change}"


# --- subjects --------------------------------------------------------------------------------------------


def field() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture with two cells, its labels, and a 3D segmentation."""
    z, y, x = np.indices((40, 60, 90))
    truth = np.zeros(z.shape, "u2")
    for label, centre in ((1, 24), (2, 66)):
        truth[(z - 20) ** 2 + (y - 30) ** 2 + (x - centre) ** 2 < 16**2] = label
    labels = truth[20]
    return (labels > 0) * 600.0 + np.random.default_rng(0).normal(100, 20, labels.shape), labels, truth


def command(*words: object) -> Callable[[], int]:
    return lambda: command_line([str(word) for word in words])


def opened_in_napari(saved: Path) -> None:
    viewer = ViewerModel()
    reader = ensemble_reader(str(saved))
    for layer in reader(str(saved)) if reader else ():
        if len(layer) > 1:
            viewer.add_layer(Layer.create(*layer))
    viewer.dims.ndisplay = 3


def predictions(folder: Path) -> Subject:
    """Saved predictions, given to everything that opens them."""
    image, labels, _ = field()
    original = folder / "prediction"
    nd.predict(image, labels, members=2, quality="fast").save(original)
    tifffile.imwrite(original / "picture.tif", image)
    tifffile.imwrite(original / "segmentation.tif", labels)

    def moved(saved: Path, rng: random.Random) -> str:
        """The same change of the affines in both files."""
        content = json.loads((saved / "prediction.json").read_text())
        factor, offset = rng.choice((1, 1e-9, 1e9, 1e18, 1e160)), rng.choice((0, 1e6, 1e12, 1e160))
        which = rng.choice(("cells", "picture", "both"))
        change = np.array(
            [[factor, 0, 0, offset], [0, factor, 0, offset], [0, 0, factor, offset], [0, 0, 0, 1]]
        )
        for label, cell in content["cells"].items() if which != "picture" else ():
            arrays = dict(np.load(saved / "cells" / f"{label}.npz"))
            arrays["grid_to_world"] = change @ arrays["grid_to_world"]
            cell["grid_to_world"] = arrays["grid_to_world"].tolist()
            np.savez(saved / "cells" / f"{label}.npz", **arrays)
        if which != "cells":
            content["image_to_world"] = (change[1:, 1:] @ content["image_to_world"]).tolist()
        (saved / "prediction.json").write_text(json.dumps(content))
        return f"affine of {which} times {factor:g} plus {offset:g}"

    def case(place: Path, rng: random.Random) -> tuple[str, Calls]:
        saved = shutil.copytree(original, place / "saved")
        names = ("prediction.json",) * 4 + ("cells/1.npz",) * 3 + ("morphometry.csv", "picture.tif", "")
        name = rng.choice(names)
        change = change_file(saved / name, rng) if name else moved(saved, rng)
        return change, {
            "reader": lambda: opened_in_napari(saved),
            "rank": command("rank", saved, "--out", place / "t.csv"),
            "report": command("report", saved, "--out", place / "page.html"),
            "export": command("export", saved, "--out", place / "out", "--members", 0),
            "measure": command("measure", saved, "--out", place / "t.csv"),
            "more": command("more", saved, "--cells", 1, "--members", 1),
        }

    return case


def models(folder: Path) -> Subject:
    """Model files: information, and one cell drawn."""
    torch.manual_seed(0)
    config = NetworkConfig(
        num_channels=32, channel_mult=(1, 1), attention_downsamplings=(), num_head_channels=32,
        use_scale_shift_norm=True, in_channels=1, out_channels=1, fold=8, isotropic=True, planes=4,
    )  # fmt: skip
    original = folder / "m.safetensors"
    nd.ShapeModel(UNet3D(config), RectifiedFlow(5.0), read_card("red-blood-cell")).save(original)
    np.save(folder / "i.npy", field()[0])
    np.save(folder / "l.npy", field()[1])

    def case(place: Path, rng: random.Random) -> tuple[str, Calls]:
        file, out = place / "m.safetensors", place / "out"
        kind = rng.choice(("network", "process", "card", "card", "weights", "bytes"))
        change = changed_model(original, file, kind, rng)
        one = (folder / "i.npy", folder / "l.npy", "--cells", 1, "--members", 1)
        return change, {
            "info": command("models", "info", file),
            "predict": command("predict", *one, "--model", file, "--out", out),
        }

    return case


def pictures(folder: Path) -> Subject:
    """Pictures, labels, stacks, datasets and tables, given to the commands that read them."""
    image, labels, truth = field()
    original = folder / "data"
    z, y, x = np.indices((64, 64, 64)) - 32
    rows = ["name,class,fold,kind"]
    for number in range(6):
        ball = ((z**2 + y**2 + x**2) < (12 + number) ** 2).astype("u1") * 255
        name, kind = f"{'abc'[number % 3]}{number}", "abc"[number % 3]
        rows.append(f"{name},{kind},{number % 2 + 1},real")
        planes = {"obj": ball, "mask": ball[32], "image": ball[32] // 2 + (x[32] + 32).astype("u1")}
        for what, array in planes.items():
            (original / "train" / what).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(original / "train" / what / f"{name}.tif", array)
    (original / "cells.csv").write_text("\n".join(rows))
    card = {"voxel_size": 0.1, "unit": "micrometer", "source": ["a"]}
    (original / "dataset.json").write_text(json.dumps(card))
    tifffile.imwrite(folder / "image.tif", image.astype("f4"), imagej=True, metadata={"unit": "um"})
    tifffile.imwrite(folder / "labels.tif", labels)

    def case(place: Path, rng: random.Random) -> tuple[str, Calls]:
        out = ("--out", place / "out")
        kind = rng.choice(("image", "labels", "stack", "dataset", "dataset"))
        if kind == "dataset":
            data = shutil.copytree(original, place / "data")
            file = rng.choice((data / "cells.csv", data / "dataset.json", *sorted(data.rglob("*.tif"))[::6]))
            few = ("--trees", 3, "--seeds", 1, "--fold-count", 2, "--class-table", data / "cells.csv")
            return change_file(file, rng), {
                "measure": command("measure", data, "--out", place / "t.csv"),
                "evaluate": command("evaluate", data, "--methods", "cylinder", *out),
                "classify": command("classify", data, *few, *out),
                "dataset": command("predict", data, "--model", "cylinder", *out),
            }
        array = {"image": image, "labels": labels, "stack": truth[::4, ::4, ::4]}[kind]
        path, change = _write_picture(place / kind, array, rng)
        if kind == "stack":
            measure, cut = ("measure", path, "--out", place / "t.csv"), ("dataset", path, path, *out)
            return change, {"measure": command(*measure), "cut": command(*cut)}
        pair = (path, folder / "labels.tif") if kind == "image" else (folder / "image.tif", path)
        predict = ("predict", *pair, "--model", "ellipsoid", *out)
        return change, {"predict": command(*predict), "split": command(*predict, "--split")}

    return case


def batches(folder: Path) -> Subject:
    """The fields of a batch, and finished and unfinished batches, given to all that reads them."""
    image, labels, _ = field()
    fields = folder / "fields"
    fields.mkdir()
    rows = ["name,image,labels,pixel_size,condition"]
    for number in range(3):
        tifffile.imwrite(fields / f"f{number}.tif", np.roll(image, number, 1).astype("f4"))
        tifffile.imwrite(fields / f"f{number}_masks.tif", np.roll(labels, number, 1))
        rows.append(f"f{number},f{number}.tif,f{number}_masks.tif,0.1,{'ab'[number % 2]}")
    (fields / "fields.csv").write_text("\n".join(rows))
    how = ("--workers", 0, "--model", "ellipsoid", "--group", "condition")
    command("batch", fields / "fields.csv", "--out", folder / "out", *how)()

    def case(place: Path, rng: random.Random) -> tuple[str, Calls]:
        given = shutil.copytree(fields, place / "fields")
        out = shutil.copytree(folder / "out", place / "batch")
        table = given / "fields.csv"
        if rng.random() < 0.4:
            file = rng.choice((table, table, given / "f0.tif", given / "f1_masks.tif"))
            shutil.rmtree(out)
        else:
            tables = ("batch.json", "cells.csv") * 2 + ("cells.columns.csv", "cells.parquet")
            cells = ("prediction.json", "cells.csv", "cells/1.npz")
            file = out / rng.choice((*tables, *(f"cells/f0/{name}" for name in cells)))
            if rng.random() < 0.5:  # its tables are written again, or read without Parquet
                (out / "cells.parquet").unlink()
            if rng.random() < 0.3:  # the run was killed
                shutil.move(out / "cells" / "f0", out / ".unfinished" / "f0")
                file = Path(str(file).replace("/cells/f0/", "/.unfinished/f0/"))
        change = change_file(file, rng) if file.is_file() else f"{file.name} is missing"
        calls = {
            "batch": command("batch", table, "--out", out, *how),
            "folder": command("batch", given, "--out", place / "out", *how[:-2]),
            "again": lambda: nd.report_batch(out),
            "window": lambda: BatchContent.read(out, lambda done, total: None),
            "field": lambda: [opened_in_napari(one) for one in sorted(out.glob("cells/*"))],
        }
        return change, {name: partial(_expected, call, place) for name, call in calls.items()}

    return case


def _expected(call: Callable[[], Any], place: Path) -> int:
    """Call; some failed fields are a result, unless the reason of one was not expected."""
    try:
        code = call()
    except nd.InputError as error:
        print(error, file=sys.stderr)
        return 2
    reasons = "".join(path.read_text() for path in place.glob("*/failed.csv"))
    if "An error that was not expected" in reasons:
        raise RuntimeError(reasons)
    return code if code == 2 else 0


def synthesis(folder: Path) -> Subject:
    """Learned models of synthesis, with which one small image is made, and folders of made images."""
    original = learned_file("sample")
    few = ("--images", 1, "--size", "96,96", "--cells", 2, "--mask-steps", 2, "--texture-steps", 1)
    for seed in range(3):
        command("synthesise", "make", "sample", "--out", folder / f"made{seed}", *few, "--seed", seed)()

    def case(place: Path, rng: random.Random) -> tuple[str, Calls]:
        file, made = place / "m.safetensors", place / "made"
        kind = rng.choice(("card", "card", "card", "masks", "textures", "weights", "bytes", "images"))
        if kind == "images":
            shutil.copytree(folder / "made0", made)
            change = change_file(rng.choice(sorted(one for one in made.rglob("*") if one.is_file())), rng)
            sets = rng.sample([made, folder / "made1", folder / "made2"], 3)
            judged = command("synthesise", "judge", *sets, "--steps", 1, "--seeds", 1, "--out", place / "out")
            again = command("synthesise", "make", "sample", "--out", made, *few)
            return f"{kind}: {change}", {"again": again, "judge": judged}
        change = changed_model(original, file, kind, rng)
        return change, {"make": command("synthesise", "make", file, "--out", place / "out", *few)}

    return case


def _write_picture(path: Path, array: np.ndarray, rng: random.Random) -> tuple[Path, str]:
    """A picture of any format, with a changed array, a changed size of its pixels, or changed bytes."""
    path = path.with_suffix(rng.choice((".tif", ".ome.tif", ".png", ".npy")))
    change, array = changed_array(array, rng) if rng.random() < 0.5 else ("whole", array)
    side, written = rng.choice(NUMBERS), io.BytesIO()
    try:
        if path.suffix == ".npy":
            np.save(written, array)
        elif path.suffix == ".png":
            imwrite(written, array, extension=".png")
        else:
            ome = path.name.endswith(".ome.tif")
            sizes = {"PhysicalSizeX": side, "PhysicalSizeY": side, "PhysicalSizeXUnit": rng.choice(UNITS)}
            tifffile.imwrite(written, array, ome=ome, metadata=sizes if ome else None)
    except Exception as error:  # no file can hold this
        written = io.BytesIO(f"{error} ".encode())
    data = written.getvalue()
    if change == "whole":
        change, data = changed_bytes(data, rng)
    path.write_bytes(data)
    return path, f"{path.name}: {change}, side {side:g}"


# --- running ---------------------------------------------------------------------------------------------


def outcome(call: Callable[[], Any], log: Path) -> tuple[str, str]:
    """Run a call in a process of its own; a word for its end (capitals: a fault), and what it wrote last."""
    start, child = time.monotonic(), os.fork()
    if child == 0:
        _run(call, log)
    watched = psutil.Process(child)
    while True:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - start > LONGEST or watched.memory_info().rss > MOST_MEMORY:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    lines = [line for line in re.split(r"[\r\n]+", log.read_text(errors="replace")) if line.strip()] or [""]
    memory = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    code = os.waitstatus_to_exitcode(status)
    if memory > MOST_MEMORY:
        return "MEMORY", f"{memory / 2**30:.1f} GB"
    if code < 0:
        return ("HANG" if code == -signal.SIGKILL else "CRASH"), f"signal {-code}; {lines[-1]}"
    if code not in (0, 2) or any(line.startswith("Traceback") for line in lines):
        return "TRACEBACK", lines[-1]
    if raw := [line for line in lines if "Warning: " in line]:
        return "RAW WARNING", raw[0]
    return ("refused", lines[-1]) if code == 2 else ("fine", "")


def _run(call: Callable[[], Any], log: Path) -> None:
    """In the child: all output goes to the log; never returns."""
    code: Any = 70
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = call()
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def cases(subject: Subject, seed: int, count: int) -> Iterator[tuple[str, str, str, str]]:
    """The call, its end, the change, and the words of each call."""
    for number in range(count):
        with tempfile.TemporaryDirectory() as place:
            change, calls = subject(Path(place), random.Random(f"{seed} {number}"))
            for name, call in calls.items():
                end, words = outcome(call, Path(place) / "log")
                yield name, end, f"{number} {change}", words
                shutil.rmtree(Path(place) / "out", ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    known = (predictions, models, pictures, batches, synthesis)
    subjects = {subject.__name__: subject for subject in known}
    parser.add_argument("subject", choices=subjects)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print all calls, not only faults")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ends: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        subject = subjects[options.subject](Path(folder))
        for name, end, change, words in cases(subject, options.seed, options.cases):
            ends[name, end] += 1
            if options.all or end.isupper():
                print(f"{end}: {name}: {change}: {words:.220}", flush=True)
    for (name, end), count in sorted(ends.items()):
        print(f"{name:10} {end:12} {count:5}")


if __name__ == "__main__":
    main()
