"""The multi-view model, the surface fitted to its views, and the way from a mask to a volume."""

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_dispr.commands.cli import main
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.errors import InputError
from napari_dispr.events import Step, result_of
from napari_dispr.synthesis import learn_views as training
from napari_dispr.synthesis import surface_fit, volumes
from napari_dispr.synthesis.learn_views import ViewsStep, iter_learn_views, learn_views
from napari_dispr.synthesis.settings import CellSettings
from napari_dispr.synthesis.silhouettes import FIRST, TRUNCATION, VIEWS, random_silhouettes
from napari_dispr.synthesis.views import iter_views, views_loss, views_model

ALL = (FIRST, *VIEWS)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for a few steps: too few for shapes, enough for everything that reads it."""
    path = tmp_path_factory.mktemp("views") / "views.safetensors"
    assert main(["synthesise", "views", "--out", str(path), "--steps", "4", "--batch", "2"]) == 0
    return path


def test_a_stopped_training_continues_to_the_same_model(model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.safetensors"
    events = iter_learn_views(path, steps=4, batch=2)
    assert [next(events) for _ in range(2)][-1] == ViewsStep(2, 4, pytest.approx(0.5, abs=0.5))
    with pytest.raises(InputError, match="Another process"):
        learn_views(path, steps=4, batch=2)
    events.close()
    with pytest.raises(InputError, match="another batch"):
        learn_views(path, steps=4, batch=3)
    again = learn_views(path, steps=4, batch=2)
    first = views_model(str(model_file)).network.state_dict()
    halves = {name: value.half().float() for name, value in again.network.state_dict().items()}
    assert all(torch.equal(first[name], value) for name, value in halves.items())
    with pytest.raises(InputError, match="already exists"):
        learn_views(path, steps=4, batch=2)


def test_noise_and_time_of_a_step_do_not_repeat_the_numbers_of_its_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the times would depend on how rough the bodies are."""
    drawn = []

    def kept(count: int, generator: torch.Generator) -> np.ndarray:
        drawn.append(generator.get_state())
        return random_silhouettes(count, generator)

    def loss(network: UNet3D, silhouettes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        of_bodies = torch.Generator().set_state(drawn[-1])
        assert not torch.equal(torch.rand(4, generator=of_bodies), torch.rand(4, generator=generator))
        return views_loss(network, silhouettes, generator)

    monkeypatch.setattr(training, "random_silhouettes", kept)
    monkeypatch.setattr(training, "views_loss", loss)
    learn_views(tmp_path / "views.safetensors", steps=1, batch=1)
    assert len(drawn) == 1


def test_views_depend_on_their_own_seed_alone(model_file: Path) -> None:
    first = random_silhouettes(2, torch.Generator().manual_seed(0))[:, 0]
    model = views_model(str(model_file))
    events = iter_views(model, first, [5, 6], steps=2)
    next(events)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    both = result_of(events)
    assert both.shape == (2, 16, 64, 64)
    assert np.abs(both).max() <= TRUNCATION
    same, other = (result_of(iter_views(model, first[1:], [seed], steps=2))[0] for seed in (6, 7))
    assert np.abs(both[1] - same).max() < 0.5 * np.abs(both[1] - other).max()


def test_other_files_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="synthesise views"):
        views_model("")
    other = Path(volumes.__file__).parent.parent / "weights" / "generic.safetensors"
    with pytest.raises(InputError, match="no multi-view model"):
        views_model(str(other))


def test_a_surface_fits_the_silhouettes_of_an_ellipsoid() -> None:
    half = np.array([14.0, 22.0, 17.0])  # z, y, x
    pixel = np.arange(64) - 31.5
    silhouettes = []
    for view in ALL:
        # The silhouette of an ellipsoid is the ellipse p^T (A S A^T)^-1 p = 1, S = diag(half^2).
        axes = view.axes[1:]
        form = np.linalg.inv(axes @ np.diag(half**2) @ axes.T)
        points = np.stack(np.meshgrid(pixel, pixel, indexing="ij"), axis=-1)
        level = np.sqrt(np.einsum("...i,ij,...j", points, form, points)) + 1e-9
        silhouettes.append((1 - level) / level * np.linalg.norm(points, axis=-1))
    silhouettes = np.clip(silhouettes, -TRUNCATION, TRUNCATION).astype(np.float32)
    drawn = result_of(surface_fit.iter_fit_surface(silhouettes, ALL, seed=0, steps=100))
    inside = drawn > 0
    assert drawn.shape == (64, 64, 64)
    assert abs(inside.sum() / (4 / 3 * np.pi * half.prod()) - 1) < 0.08
    extent = [np.ptp(np.nonzero(inside)[axis]) + 1 for axis in range(3)]
    assert np.allclose(extent, 2 * half, atol=3)
    assert np.allclose(np.argwhere(inside).mean(axis=0), (32, 31.5, 31.5), atol=0.7)
    rendered = surface_fit.rendered_silhouettes(drawn, ALL)
    overlap = (rendered & (silhouettes > 0)).sum() / (rendered | (silhouettes > 0)).sum()
    assert overlap > 0.93


def test_the_way_views_gives_a_volume_of_the_mask_in_its_unit(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "FIT_STEPS", 8)
    y, x = np.mgrid[:128, :128] - 63.5
    mask = (40 - np.hypot(y, x)).astype(np.float32)
    settings = CellSettings(way="views", views_model=str(model_file))
    events = volumes.from_views([mask], 0.2, [3], settings)
    steps = []
    made = result_of(events, steps.append)[0]
    assert all(isinstance(step, Step) for step in steps) and len(steps) > 3
    assert made is not None
    assert made.voxel == pytest.approx(0.2 * 80 / 40, rel=0.02)  # 80 pixels are 40 voxels
    assert made.signed_distance.shape == (64, 64, 64)
