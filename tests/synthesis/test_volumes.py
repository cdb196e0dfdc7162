"""Volumes: the section of a volume is its mask; slices at any spacing hold the same shape."""

import shutil

import numpy as np
import pytest

from napari_dispr.events import Clock, result_of
from napari_dispr.models.library import load_model, model_path
from napari_dispr.synthesis import volumes
from napari_dispr.synthesis.settings import CellSettings
from napari_dispr.synthesis.volumes import Volume, from_harmonics, from_model

Z, Y, X = np.mgrid[:64, :64, :64].astype(np.float32) - 31.5
BALL = Volume((18 - np.sqrt(Z**2 + Y**2 + X**2)).astype(np.float32), voxel=0.25)


@pytest.mark.parametrize("spacing", [(0.25, 0.25, 0.25), (1.0, 0.3, 0.3), (0.7, 0.2, 0.4)])
def test_slices_have_the_volume_of_the_shape(spacing) -> None:
    shape = [int(11 / step) for step in spacing]
    inside = BALL.sampled(spacing, shape) > 0
    assert inside.sum() * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * 4.5**3, rel=0.03)


def test_a_stretched_shape_is_higher() -> None:
    high = Volume(BALL.signed_distance, 0.25, stretch=1.5)
    assert high.box[1] == pytest.approx([13.5, 9, 9], abs=0.6)
    inside = np.argwhere(high.sampled((0.5, 0.5, 0.5), (40, 24, 24)) > 0)
    assert np.ptp(inside, axis=0) + 1 == pytest.approx([27, 18, 18], abs=1)


def test_a_shift_moves_the_grid() -> None:
    grid = (0.5,) * 3, (30,) * 3
    centre = np.argwhere(BALL.sampled(*grid, shift=(0, 1.0, -0.5)) > 0).mean(axis=0)
    assert centre == pytest.approx([14.5, 12.5, 15.5], abs=0.1)


def test_the_middle_section_of_a_volume_is_the_mask() -> None:
    y, x = np.mgrid[:128, :128].astype(np.float32) - 63.5
    masks = [38 - np.hypot(y, x * 1.4), np.minimum(44 - np.hypot(y, x), np.hypot(y - 40, x) - 20)]
    masks = [mask.astype(np.float32) for mask in (*masks, masks[0])]
    volumes = result_of(from_model(masks, 0.1, [1, 2, 3], CellSettings(device="cpu")))
    for mask, volume in zip(masks, volumes, strict=True):
        assert volume is not None
        section = volume.signed_distance[32] > 0
        assert section.sum() * volume.voxel**2 == pytest.approx((mask > 0).sum() * 0.01, rel=0.06)
        assert volume.box[1][0] > 2
    assert not np.array_equal(volumes[0].signed_distance, volumes[2].signed_distance)


def test_a_model_file_that_was_replaced_is_read_again(tmp_path, monkeypatch) -> None:
    used = []

    def noted(crops, model, *_, **__):
        used.append(model.hash)
        yield Clock(1).step(1, 1)

    monkeypatch.setattr(volumes, "iter_predict_crops", noted)
    mask = BALL.signed_distance[32]
    file = tmp_path / "mine.safetensors"
    for model in ("generic", "red-blood-cell"):
        shutil.copy(model_path(model), file)
        next(from_model([mask], 0.1, [1], CellSettings(shape_model=str(file))))
    assert used == [load_model(model).hash for model in ("generic", "red-blood-cell")]


def test_harmonics_keep_the_area_of_a_mask() -> None:
    y, x = np.mgrid[:128, :128].astype(np.float32) - 63.5
    mask = (38 - np.hypot(y, x * 1.4)).astype(np.float32)
    one, other = result_of(from_harmonics([mask, mask], 0.1, [1, 2], CellSettings()))
    for volume in (one, other):
        area = (volume.signed_distance > 0).sum(axis=(1, 2)).max() * volume.voxel**2
        assert area == pytest.approx((mask > 0).sum() * 0.01, rel=0.01)
    assert not np.array_equal(one.signed_distance, other.signed_distance)
