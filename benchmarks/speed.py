"""Time and peak memory of an ensemble; the time also as a ratio to one pass of the original's network.

    python benchmarks/speed.py [--members 5] [--device auto] [--slow-processor]

The reference is one float32 forward pass of the original's network at 64^3, of which the original needs 1000
for a shape. Both are measured in this run, on this machine, on a simulated cell; other programs that run on
the machine change both. ``--slow-processor`` computes as a CPU without 16-bit arithmetic; to also compute
without AVX-512, set ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 (or AVX2_VNNI).
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
    parser.add_argument("--cells", type=int, default=0, help="also time so many cells at once")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--slow-processor", action="store_true", help="do not compute in bfloat16")
    options = parser.parse_args()
    if options.slow_processor:
        devices.fast_dtype = lambda device: torch.float32
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
    if options.cells:
        side = 128 * (int(options.cells**0.5) + 1)
        many = simulate_field(cells=options.cells, shape=(side, side), seed=0)
        start = time.perf_counter()
        found = nd.predict(
            many.image, many.labels, model=model, members=options.members, device=options.device
        )
        print(f"balanced: {len(found)} cells x {options.members} in {time.perf_counter() - start:.1f} s")
    print(f"peak memory: {peak:.0f} MiB, of which libraries and cell {libraries:.0f} MiB")


if __name__ == "__main__":
    main()
