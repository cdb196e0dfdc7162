"""Errors of the measures on shapes with known answers; prints the tables of docs/measures.md.

Shapes have random positions and rotations. They are measured as signed distances on the grid (as models draw
them) and as voxels of a segmentation, with cubic voxels and with slices that are farther apart.

    python benchmarks/known_shapes.py
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ellipeinc, ellipkinc
from scipy.stats import special_ortho_group

from napari_dispr.shapes.label_volumes import measure_mask
from napari_dispr.shapes.one_shape import measure_shape

Coordinates = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
#: Signed distance (or a level with the same zero) as a function of coordinates, and the known measures.
Known = tuple[Callable[..., NDArray[np.float64]], dict[str, float]]

SHOWN = ("volume", "surface_area", "curvature", "bending_energy", "thickness",
         "largest_diameter", "least_width", "mean_width", "major_axis", "minor_axis", "solidity",
         "euler_number")  # fmt: skip
TURNS = 4


def sphere(r: float) -> Known:
    return lambda z, y, x: r - np.sqrt(z**2 + y**2 + x**2), {
        "volume": 4 / 3 * np.pi * r**3, "surface_area": 4 * np.pi * r**2, "curvature": 1 / r,
        "bending_energy": 1.0, "thickness": 2 * r, "largest_diameter": 2 * r,
        "least_width": 2 * r, "mean_width": 2 * r, "major_axis": 2 * r, "minor_axis": 2 * r, "solidity": 1.0,
        "euler_number": 1.0,
    }  # fmt: skip


def ellipsoid(c: float, b: float, a: float) -> Known:
    """Semi-axes ascending; area by elliptic integrals, mean width by the support function."""
    phi = np.arccos(c / a)
    m = a**2 * (b**2 - c**2) / (b**2 * (a**2 - c**2))
    elliptic = np.sin(phi) ** 2 * ellipeinc(phi, m) + np.cos(phi) ** 2 * ellipkinc(phi, m)
    area = 2 * np.pi * c**2 + 2 * np.pi * a * b / np.sin(phi) * elliptic
    i = np.arange(20_000) + 0.5
    polar, azimuth = np.arccos(1 - i / 10_000), np.pi * (1 + 5**0.5) * i
    n = np.cos(polar), np.sin(polar) * np.sin(azimuth), np.sin(polar) * np.cos(azimuth)
    width = 2 * np.sqrt((c * n[0]) ** 2 + (b * n[1]) ** 2 + (a * n[2]) ** 2).mean()
    return lambda z, y, x: (1 - np.sqrt((z / c) ** 2 + (y / b) ** 2 + (x / a) ** 2)) * c, {
        "volume": 4 / 3 * np.pi * a * b * c, "surface_area": area, "curvature": 2 * np.pi * width / area,
        "largest_diameter": 2 * a, "least_width": 2 * c,
        "mean_width": width, "major_axis": 2 * a, "minor_axis": 2 * c, "solidity": 1.0, "euler_number": 1.0,
    }  # fmt: skip


def torus(ring: float, tube: float) -> Known:
    area = 4 * np.pi**2 * ring * tube
    return lambda z, y, x: tube - np.hypot(np.hypot(y, x) - ring, z), {
        "volume": 2 * np.pi**2 * ring * tube**2, "surface_area": area, "curvature": 1 / (2 * tube),
        "bending_energy": np.pi / 4 * (ring / tube) ** 2 / np.sqrt((ring / tube) ** 2 - 1),
        "thickness": 2 * tube, "largest_diameter": 2 * (ring + tube), "least_width": 2 * tube,
        "major_axis": 2 * np.sqrt(5 * (ring**2 / 2 + 3 / 8 * tube**2)),
        "minor_axis": 2 * np.sqrt(5 * tube**2 / 4), "euler_number": 0.0,
    }  # fmt: skip


def cylinder(r: float, h: float) -> Known:
    area = 2 * np.pi * r**2 + 2 * np.pi * r * h

    def level(z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        side, end = r - np.hypot(y, x), h / 2 - abs(z)
        outside = np.hypot(np.minimum(side, 0), np.minimum(end, 0))
        return np.minimum(np.maximum(0, np.minimum(side, end)), np.inf) - outside

    width = h / 2 + np.pi * r / 2
    return level, {
        "volume": np.pi * r**2 * h, "surface_area": area, "curvature": 2 * np.pi * width / area,
        "largest_diameter": np.hypot(2 * r, h), "least_width": min(2 * r, h), "mean_width": width,
        "major_axis": 2 * np.sqrt(5 * max(h**2 / 12, r**2 / 4)),
        "minor_axis": 2 * np.sqrt(5 * min(h**2 / 12, r**2 / 4)), "solidity": 1.0, "euler_number": 1.0,
    }  # fmt: skip


def cube(a: float) -> Known:
    def level(*zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        q = np.stack([abs(v) - a / 2 for v in zyx])
        return -np.sqrt((np.maximum(q, 0) ** 2).sum(axis=0)) - np.minimum(q.max(axis=0), 0)

    return level, {
        "volume": a**3, "surface_area": 6 * a**2, "curvature": 2 * np.pi * 1.5 * a / (6 * a**2),
        "largest_diameter": np.sqrt(3) * a, "least_width": a, "mean_width": 1.5 * a,
        "major_axis": 2 * np.sqrt(5 / 12) * a, "minor_axis": 2 * np.sqrt(5 / 12) * a, "solidity": 1.0,
        "euler_number": 1.0,
    }  # fmt: skip


SHAPES = {
    "sphere, radius 6": sphere(6), "sphere, 12": sphere(12), "sphere, 24": sphere(24),
    "ellipsoid, 5 x 9 x 13": ellipsoid(5, 9, 13), "ellipsoid, 10 x 18 x 26": ellipsoid(10, 18, 26),
    "torus, 9 and 4": torus(9, 4), "torus, 18 and 8": torus(18, 8),
    "cylinder, radius 6, height 20": cylinder(6, 20), "cylinder, 12, 40": cylinder(12, 40),
    "cube, 12": cube(12), "cube, 24": cube(24),
}  # fmt: skip


def turned(spacing: NDArray[np.float64], reach: float, seed: int) -> Coordinates:
    """Coordinates of voxels in the frame of the shape: randomly rotated and shifted."""
    rng = np.random.default_rng(seed)
    halves = [int(np.ceil((reach + 3) / step)) for step in spacing]
    index = np.meshgrid(*(np.arange(-n, n + 1) for n in halves), indexing="ij")
    place = np.stack([i * step for i, step in zip(index, spacing, strict=True)], axis=-1)
    place = (place + rng.uniform(-0.5, 0.5, 3) * spacing) @ special_ortho_group.rvs(3, random_state=rng)
    return place[..., 0], place[..., 1], place[..., 2]


def errors(spacing: tuple[float, float, float], *, voxels: bool) -> dict[str, dict[str, float]]:
    """Largest error over the rotations, by shape and measure: relative, for the Euler number absolute."""
    steps, table = np.array(spacing), {}
    for name, (level, known) in SHAPES.items():
        worst = dict.fromkeys(known, 0.0)
        for seed in range(TURNS):
            distance = level(*turned(steps, known["largest_diameter"] / 2, seed))
            if voxels:
                found = measure_mask(distance > 0, steps)
            else:
                found = measure_shape(distance, steps, only=known)
            for measure, value in known.items():
                error = abs(found[measure] - value) / (1 if measure == "euler_number" else value)
                worst[measure] = max(worst[measure], float(error))
        table[name] = worst
    return table


def main() -> None:
    """Print a table for each kind of input."""
    for title, spacing, voxels in (
        ("Signed distances", (1, 1, 1), False),
        ("Voxels, cubes", (1, 1, 1), True),
        ("Voxels, slices 3 apart", (3, 1, 1), True),
    ):
        print(f"\n### {title}\n\n| shape | {' | '.join(SHOWN)} |\n| --- |{' ---: |' * len(SHOWN)}")
        for name, worst in errors(spacing, voxels=voxels).items():
            cells = [
                "" if m not in worst else f"{worst[m]:.0f}" if m == "euler_number" else f"{worst[m]:.1%}"
                for m in SHOWN
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
