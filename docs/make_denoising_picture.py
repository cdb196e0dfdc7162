"""Make the picture of the steps from noise to shape, of a simulated red blood cell, for the guide.

python docs/make_denoising_picture.py

writes docs/images/denoising.png; needs no screen.
"""

from pathlib import Path

import napari_dispr as nd
from napari_dispr.export.pictures import save_denoising
from napari_dispr.viewer.samples import simulated_red_blood_cells

CELL = 2
IMAGES = Path(__file__).parent / "images"


def main() -> None:
    (image, settings, _), (labels, *_) = simulated_red_blood_cells()
    pixel = settings["scale"][0]
    prediction = nd.predict(image, labels, cells=[CELL], members=1, pixel_size=pixel, device="cpu")
    path = nd.denoising(prediction, CELL, device="cpu")
    save_denoising(IMAGES / "denoising.png", path)


if __name__ == "__main__":
    main()
