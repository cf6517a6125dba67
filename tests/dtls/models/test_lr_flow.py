"""An untrained lr-flow is the normal distribution of the images it was fitted to; a trained one leads back to z."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dtls.errors import SizeError, TrainingError
from dtls.models.lr_flow import LRFlow
from dtls.training.recipe import Recipe, draw
from tests.dtls.models.drawing import seeds

SIDE, K = 4, 6


def made(**config: Any) -> LRFlow:
    torch.manual_seed(0)
    return LRFlow(**{"size": SIDE, "components": K, "width": 16, "blocks": 1, **config}).eval()


def normal_images(count: int) -> Tensor:
    """Images of K directions of their own, (count, 3, 4, 4), in the middle of [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(3 * SIDE**2, K, generator=generator))[0]
    spread = torch.randn(count, K, generator=generator) * torch.linspace(0.08, 0.02, K)
    return (0.5 + spread @ directions.T).unflatten(1, (3, SIDE, SIDE))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return normal_images(400)


@pytest.fixture
def fitted(images: Tensor) -> LRFlow:
    model = made()
    model.fit(images.split(70))
    return model


@pytest.fixture
def bent(fitted: LRFlow) -> LRFlow:
    """One whose network does something."""
    nn.init.normal_(fitted.net.last.weight, std=0.1)
    return fitted


@torch.inference_mode()
def flowed(model: LRFlow, z: Tensor, steps: int | None = None) -> Tensor:
    return model.way(None, steps).images(model, z, seeds(*range(len(z))), None)


def test_an_untrained_flow_has_the_mean_and_the_covariance_of_its_images(fitted: LRFlow, images: Tensor) -> None:
    flat = images.flatten(1)
    z = torch.linalg.qr(torch.randn(1000, K + 1) - 0.0)[0]  # of zero mean and unit covariance, exactly
    z = z - z.mean(0)
    z = torch.linalg.qr(z)[0][:, :K] * math.sqrt(1000)
    results = flowed(fitted, z).flatten(1)
    torch.testing.assert_close(results.mean(0), flat.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(results.T.cov(correction=0), flat.T.cov(correction=0), rtol=0, atol=1e-5)


def test_components_are_standard_normal_and_give_the_images_back(fitted: LRFlow, images: Tensor) -> None:
    c = fitted.encoded(images)
    torch.testing.assert_close(c.mean(0), torch.zeros(K), rtol=0, atol=1e-4)
    torch.testing.assert_close(c.T.cov(correction=0), torch.eye(K), rtol=0, atol=1e-3)
    torch.testing.assert_close(fitted.decoded(c), images, rtol=0, atol=1e-5)


def test_the_loss_of_an_untrained_flow_is_that_of_a_normal_distribution(fitted: LRFlow) -> None:
    drawn = draw(Recipe(flip=False), 0, 4000, fitted.timesteps)
    loss = fitted.loss(fitted, normal_images(4000), drawn, lambda *_: torch.zeros(()))
    assert loss.item() == pytest.approx(math.pi / 2, rel=0.03)  # the mean over t of 1 / σ²


@pytest.mark.slow
def test_images_of_different_contrast_are_learned_better_than_a_normal_distribution_does() -> None:
    def images(count: int, seed: int) -> Tensor:
        contrast = torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 1.9 + 0.1
        middle = normal_images(2 * count)[:count] if seed else normal_images(2 * count)[count:]
        return (middle - 0.5) * contrast[:, None, None, None] + 0.5

    train, held = images(2000, 0), images(2000, 1)
    model = made(width=32).train()
    model.fit([train])
    drawn = draw(Recipe(flip=False), 1000, 2000, model.timesteps)

    def held_out() -> float:
        with torch.no_grad():
            return model.loss(model, held, drawn, lambda *_: torch.zeros(())).item()

    before, optimizer = held_out(), torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(200):
        part = train[torch.arange(step * 200, step * 200 + 200) % 2000]
        loss = model.loss(model, part, draw(Recipe(), step, 200, model.timesteps), lambda *_: torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert held_out() < before - 0.05


@pytest.mark.parametrize("steps", [4, 32])
def test_backwards_the_flow_leads_to_z(steps: int, bent: LRFlow) -> None:
    z = torch.randn(20, K)
    images = flowed(bent, z, steps)
    assert (images - bent.decoded(z)).abs().max() > 1e-3
    way = bent.way("heun", steps).z
    assert way is not None
    with torch.inference_mode():
        assert (way(bent, images) - z).abs().max() < 1e-4


def test_steps_of_the_flow_are_of_second_order(bent: LRFlow) -> None:
    z = torch.randn(20, K)
    exact = flowed(bent, z, 256)
    errors = [(flowed(bent, z, steps) - exact).abs().max() for steps in (8, 16)]
    assert errors[1] < 0.35 * errors[0]


def test_a_callback_sees_the_flow_from_z_to_the_images(bent: LRFlow) -> None:
    z, seen = torch.randn(2, K), list[tuple[float, Tensor, Tensor]]()
    with torch.inference_mode():
        images = bent.way(None, 4).images(bent, z, seeds(0, 1), lambda *step: seen.append(step))
    assert [t for t, _, _ in seen] == [1, 0.75, 0.5, 0.25, 0]
    torch.testing.assert_close(seen[0][1], z)
    assert torch.equal(seen[-1][2], images)
    assert (seen[3][2] - images).abs().mean() < (seen[0][2] - images).abs().mean()


def test_grey_images_are_fitted_by_their_luma() -> None:
    model = made(channels=1)
    images = normal_images(200)
    model.fit([images])
    assert flowed(model, torch.zeros(1, K)).shape == (1, 1, SIDE, SIDE)
    torch.testing.assert_close(model.mean, model.of_colour(images).flatten(1).mean(0), rtol=0, atol=1e-5)


def test_rounding_does_not_choose_between_a_direction_and_its_opposite(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, random = torch.linalg.eigh, torch.Generator().manual_seed(0)

    def rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = exact(matrix)
        noise = 1e-9 * torch.randn(vectors.shape, generator=random)
        return values, (vectors + noise) * torch.randn(len(values), generator=random).sign()

    monkeypatch.setattr(torch.linalg, "eigh", rounded)
    both = torch.cat([images, images.flip(-1)])  # an antisymmetric direction is as large at both of its ends
    models = [made() for _ in range(4)]
    for model in models:
        model.fit([both])
        torch.testing.assert_close(model.directions, models[0].directions, rtol=0, atol=1e-6)


def test_images_that_are_too_few_or_too_alike_are_refused() -> None:
    with pytest.raises(
        TrainingError, match="5 images have 4 principal components, fewer than the 6 asked for; train"
    ):
        made().fit([normal_images(5)])
    with pytest.raises(TrainingError, match="30 images have 6 principal components, fewer than the 9 asked for"):
        made(components=9).fit([normal_images(30)])
    with pytest.raises(TrainingError, match="9 images have 0 principal components"):
        made().fit([torch.zeros(9, 3, SIDE, SIDE)])


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"components": 48}, "components are fewer than the 48 numbers of an image, not 48"),
        ({"components": 0}, "components is a whole number, at least 1, not 0"),
        ({"width": 2.5}, "width is a whole number, at least 1, not 2.5"),
        ({"size": 64}, "small images of at most 4,096 numbers, not 64×64×3; say --size 32 or less"),
        ({"channels": 4}, "channels are 1, for grey images, or 3, not 4"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SizeError, match=complaint):
        made(**config)


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", None), (None, 0), (None, 1001)])
def test_samplers_that_there_are_not_are_refused(sampler: str | None, steps: int | None) -> None:
    with pytest.raises(ValueError, match=r"lr-flow has no sampler ddim; there is heun|1 to 1,000, not"):
        made().way(sampler, steps)
