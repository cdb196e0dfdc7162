"""Speed and memory of batches: time of a cell against the sum of its parts; growth with fields and workers.

    python benchmarks/batch.py [--fields 10,100] [--cells 2] [--workers 0,1,2] [--model ellipsoid]

The parts (crop, draw, measure, write) are measured one after another in this process with one thread, for
some fields. A batch starts its processes and loads the model first: these seconds are given apart, as the
time until the first cell. All ratios are of time of the processors, of all processes together: other programs
that run on the machine change it less than the time by the clock.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

import napari_dispr as nd
from napari_dispr.prediction.batch import BatchStep
from napari_dispr.prediction.saving import save_cell, save_tables

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.screens import field, write_screen


class Watched(threading.Thread):
    """Peak memory (MiB) and processor time (s) of this process and its children together, sampled."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.going = 0.0, True
        self._seconds: dict[int, float] = {}
        self._own = 0.0  # of this thread: sampling is no part of a batch
        self._sampling = threading.Lock()

    def run(self) -> None:
        while self.going:
            self.sample()
            self._own = time.thread_time()
            time.sleep(2)

    def sample(self) -> float:
        """Processor time until now."""
        me = psutil.Process()
        with self._sampling:
            total = 0
            for one in (me, *me.children(recursive=True)):
                try:
                    memory, times = one.memory_full_info(), one.cpu_times()
                except psutil.Error:
                    continue
                total += getattr(memory, "pss", memory.rss)  # pages that processes share count once
                self._seconds[one.pid] = times.user + times.system
            self.peak = max(self.peak, total / 2**20)
            return sum(self._seconds.values()) - self._own


def seconds_of_parts(fields: int, cells: int, model: str, settings: dict) -> dict[str, float]:
    """Seconds a cell of drawing (with cropping), measuring and writing fields, of the processor."""
    torch.set_num_threads(1)
    nd.predict(*field(cells, 0), model=model, cells=[1], **settings)  # loads the model
    parts = dict.fromkeys(("crop and draw", "measure", "write"), 0.0)
    for number in range(fields):
        times = [time.process_time()]
        prediction = nd.predict(*field(cells, number), model=model, **settings)
        times.append(time.process_time())
        table = nd.measure(prediction)
        times.append(time.process_time())
        with tempfile.TemporaryDirectory() as folder:
            for label in prediction:
                save_cell(prediction, folder, label)
            save_tables(prediction, folder, table)
        times.append(time.process_time())
        for i, part in enumerate(parts):
            parts[part] += (times[i + 1] - times[i]) / cells / fields
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fields", default="10,100")
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--model", default="ellipsoid")
    parser.add_argument("--members", type=int, default=5)
    options = parser.parse_args()
    settings = {"members": options.members, "quality": "fast"}
    parts = seconds_of_parts(4, options.cells, options.model, settings)
    whole = sum(parts.values())
    print(
        ", ".join(f"{name} {1000 * took:.0f} ms" for name, took in parts.items()),
        f"= {whole * 1000:.0f} ms a cell",
    )
    for workers in (int(one) for one in options.workers.split(",")):
        for fields in (int(one) for one in options.fields.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                screen = write_screen(Path(folder) / "screen", fields, options.cells)
                marks: list[tuple[float, float]] = []
                watched = Watched()
                start = time.perf_counter()

                def note(
                    step: BatchStep, marks: list[tuple[float, float]] = marks, watched: Watched = watched
                ) -> None:
                    if (step.cells and not marks) or step.done == step.total:  # the workers are still there
                        marks.append((time.perf_counter(), watched.sample()))

                watched.start()
                nd.predict_batch(
                    screen,
                    Path(folder) / "out",
                    model=options.model,
                    workers=workers,
                    progress=note,
                    **settings,
                )
                marks.append((time.perf_counter(), watched.sample()))
                watched.going = False
                (began, before), (ended, used), (closed, _) = marks
                count = fields * options.cells - 1
                each, busy = (ended - began) / count, (used - before) / count
                print(
                    f"{workers} workers, {fields} fields: first cell after {began - start:.1f} s, then "
                    f"{1000 * busy:.0f} ms a cell of the processors ({busy / whole:.2f} of the sum of the "
                    f"parts), {1000 * each:.0f} ms by the clock, {3600 / each:,.0f} cells an hour, "
                    f"{closed - ended:.1f} s for the tables and to stop the workers, "
                    f"peak {watched.peak:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
