"""How long an ensemble takes, as a ratio to one float32 forward pass of the original's network at 64^3.

    python benchmarks/speed.py [--members 5] [--device auto]

The original needs 1000 such passes for a shape. Both are measured in this run, on this machine, on a
simulated cell; what else runs on the machine changes both.
"""

import argparse
import time
from collections.abc import Callable

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = devices.choose(options.device)
    original = UNet3D(NetworkConfig()).eval().to(device)
    x, t = torch.randn(1, 3, 64, 64, 64, device=device), torch.tensor([500], device=device)
    with torch.inference_mode():
        reference = seconds(lambda: original(x, t).sum().item(), 1)
    print(f"{devices.available().get(str(device), str(device))}, torch {torch.__version__}")
    print(f"reference: one forward pass of the original's network: {reference:.2f} s")
    field = simulate_field(cells=1, shape=(128, 128), seed=0)
    model = nd.load_model("red-blood-cell")
    for quality in model.card.qualities:

        def work(quality: str = quality) -> object:
            return nd.predict(
                field.image, field.labels, model=model, members=options.members, quality=quality,
                device=options.device,
            )  # fmt: skip

        taken = seconds(work, 3)
        ratio = taken / reference
        print(f"{quality}: {options.members} members in {taken:.2f} s, {ratio:.3f} of the reference")


if __name__ == "__main__":
    main()
