"""Time and peak memory of an ensemble; the time also as a ratio to one pass of the original's network.

    python benchmarks/speed.py [--members 5] [--device auto]

The reference is one float32 forward pass of the original's network at 64^3, of which the original needs 1000
for a shape. Both are measured in this run, on this machine, on a simulated cell; other programs that run on
the machine change both.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import napari_dispr as nd
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.synthesis.phantoms import simulate_field


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median over ``repeats``, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_memory() -> float:
    """The most memory that this process has held, in MiB; NaN on Windows."""
    # Not getrusage on Linux: it includes the peak of the parent process.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1024
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = devices.choose(options.device)
    field = simulate_field(cells=1, shape=(128, 128), seed=0)
    libraries = peak_memory()
    model = nd.load_model("red-blood-cell")
    taken = {}
    for quality in model.card.qualities:

        def work(quality: str = quality) -> object:
            return nd.predict(
                field.image, field.labels, model=model, members=options.members, quality=quality,
                device=options.device,
            )  # fmt: skip

        taken[quality] = seconds(work, 3)
    peak = peak_memory()
    original = UNet3D(NetworkConfig()).eval().to(device)
    x, t = torch.randn(1, 3, 64, 64, 64, device=device), torch.tensor([500], device=device)
    with torch.inference_mode():
        reference = seconds(lambda: original(x, t).sum().item(), 1)
    print(f"{devices.available().get(str(device), str(device))}, torch {torch.__version__}")
    print(f"reference: one forward pass of the original's network: {reference:.2f} s")
    for quality, time_taken in taken.items():
        ratio = time_taken / reference
        print(f"{quality}: {options.members} members in {time_taken:.2f} s, {ratio:.3f} of the reference")
    print(f"peak memory: {peak:.0f} MiB, of which libraries and cell {libraries:.0f} MiB")


if __name__ == "__main__":
    main()
