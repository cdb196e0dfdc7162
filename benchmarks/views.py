"""Compare the two ways from a mask to a volume on bodies whose volume is known.

    napari-dispr synthesise views --out VIEWS.safetensors
    python benchmarks/views.py VIEWS.safetensors --bodies 4

The mask of a body is its silhouette along z. Bodies are spherical harmonics, of which the multi-view
model has seen others, and simulated cells of kinds that it has not seen. Prints for each kind and way the
medians over the bodies: seconds for a body; overlap (IoU) of the mask with the volume's silhouette;
relative error of the volume, with its sign; overlap of the volume with the body; and, for views, the overlap
of the 16 predicted views with the silhouettes of the fitted surface. Many bodies fit to one mask, so volume
and body cannot agree perfectly.
"""

import argparse
import time
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from napari_dispr import signed_distance
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.events import result_of
from napari_dispr.synthesis import silhouettes
from napari_dispr.synthesis.generic import simulated_cell
from napari_dispr.synthesis.settings import CellSettings
from napari_dispr.synthesis.silhouettes import FIRST, VIEWS
from napari_dispr.synthesis.surface_fit import iter_fit_surface, rendered_silhouettes
from napari_dispr.synthesis.views import iter_views, views_model
from napari_dispr.synthesis.volumes import Volume, enlarged, from_model

KINDS = ("ellipsoid", "bent", "pear", "chain", "block")


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def scores(drawn: Volume, body: NDArray[np.bool_], mask: NDArray[np.float32]) -> list[float]:
    """Overlap with the mask, relative error of the volume, overlap with the body."""
    truth = Volume(signed_distance.from_level(body), 1.0)
    shape = (80, 80, 80)
    true, made = (one.sampled((1.0, 1.0, 1.0), shape) > 0 for one in (truth, drawn))
    flat = Volume(mask, 1.0).sampled((1.0, 1.0), shape[1:]) > 0
    return [overlap(np.asarray(made.any(axis=0)), flat), made.sum() / true.sum() - 1, overlap(made, true)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("views")
    parser.add_argument("--bodies", type=int, default=4, help="of each kind")
    options = parser.parse_args()
    model, settings = views_model(options.views), CellSettings()
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for number in range(options.bodies):
        bodies = {"harmonics": silhouettes.random_body(10**9 + number)}
        bodies |= {kind: simulated_cell(kind, np.random.default_rng(number))[0] > 127 for kind in KINDS}
        for kind, body in bodies.items():
            mask = signed_distance.from_level(body.any(axis=0))
            start = time.perf_counter()
            drawn = result_of(from_model([mask], 1.0, [number], settings))[0]
            seconds = time.perf_counter() - start
            if drawn is not None:
                rows[kind, "model"].append([seconds, *scores(drawn, body, mask), np.nan])
            start = time.perf_counter()
            rows[kind, "views"].append(by_views(model, mask, body, number, start))
    print("kind       way    seconds  mask  volume  body  views")
    for (kind, way), values in sorted(rows.items()):
        seconds, flat, error, same, agreement = np.median(values, axis=0)
        print(f"{kind:10s} {way:6s} {seconds:7.1f} {flat:5.2f} {error:+7.2f} {same:5.2f} {agreement:6.2f}")


def by_views(
    model: ShapeModel, mask: NDArray[np.float32], body: NDArray[np.bool_], seed: int, start: float
) -> list[float]:
    """The way views, with the agreement of the predicted views with the fitted surface."""
    first, zoom = enlarged(mask)
    others = result_of(iter_views(model, first[None], [seed]))[0]
    seen = np.concatenate([first[None], others])
    drawn = result_of(iter_fit_surface(seen, (FIRST, *VIEWS), seed))
    seconds = time.perf_counter() - start
    rendered = rendered_silhouettes(drawn, VIEWS)
    agreement = np.mean([overlap(one, other > 0) for one, other in zip(rendered, others, strict=True)])
    return [seconds, *scores(Volume(drawn, 1 / zoom), body, mask), float(agreement)]


if __name__ == "__main__":
    main()
