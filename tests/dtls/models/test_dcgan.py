"""DCGAN: generator and critic learn against each other in the one training loop."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.errors import SizeError
from dtls.models.dcgan import DCGAN
from dtls.networks.critic import ImageCritic
from dtls.training.presets import preset_of
from dtls.training.recipe import Recipe, check_recipe, draw
from dtls.training.trainer import Trainer
from tests.dtls import one_cpu


def made(**config: Any) -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(**{"size": 16, "width": 8, **config})


def trainer(**config: Any) -> Trainer[DCGAN]:
    recipe = replace(preset_of("dcgan").recipe, steps=60, learning_rate=2e-3)
    return Trainer(made(**config), recipe, one_cpu.fabric())


def flat(value: int, count: int) -> Tensor:
    """Images that are almost of one grey."""
    noise = torch.randint(-9, 10, (count, 3, 16, 16), generator=torch.Generator().manual_seed(3))
    return (value + noise).to(torch.uint8)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (28, 1), (30, 3), (64, 3)])
def test_images_have_the_size_and_the_channels_asked_for(size: int, channels: int) -> None:
    model = made(size=size, channels=channels, width=2)
    images = model(torch.randn(2, 100), torch.zeros(2))
    assert images.shape == (2, channels, size, size)
    assert images.min() >= 0
    assert images.max() <= 1
    critic = model.critic()
    assert critic(images).shape == (2, 1, 1, 1)


def test_layers_and_their_weights_are_those_of_the_paper() -> None:
    model = made(size=64, width=64)
    assert [tuple(p.shape) for p in model.layers.parameters() if p.ndim == 4] == [
        (100, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 64, 4, 4), (64, 3, 4, 4),
    ]  # fmt: skip
    critic = model.critic()
    assert [tuple(p.shape) for p in critic.layers.parameters() if p.ndim == 4] == [
        (64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4),
    ]  # fmt: skip
    assert abs(model.state_dict()["layers.0.weight"].std().item() - 0.02) < 1e-3
    recipe = preset_of("dcgan").recipe
    assert (recipe.beta1, recipe.learning_rate) == (0.5, 2e-4)


def test_the_losses_are_those_of_a_gan_and_each_moves_its_own_weights() -> None:
    critic, images = ImageCritic(16, 3, 4), torch.rand(4, 3, 16, 16)
    predicted = torch.rand(4, 3, 16, 16, requires_grad=True)
    fooled, mistaken = critic.losses(predicted, images)
    ones, zeros = torch.ones(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
    torch.testing.assert_close(fooled, F.binary_cross_entropy_with_logits(critic(predicted), ones))
    of_both = F.binary_cross_entropy_with_logits(critic(images), ones)
    torch.testing.assert_close(mistaken, of_both + F.binary_cross_entropy_with_logits(critic(predicted), zeros))
    fooled.backward()
    assert predicted.grad is not None
    assert {weight.grad for weight in critic.parameters()} == {None}
    predicted.grad = None
    mistaken.backward()
    assert predicted.grad is None
    assert None not in {weight.grad for weight in critic.parameters()}


@pytest.mark.slow
def test_images_come_to_be_like_those_it_learns_from() -> None:
    running = trainer()
    before = running.model.eval().way(None, None).images(running.model, torch.randn(8, 100), torch.zeros(8), None)
    running.model.train()
    for step in range(60):
        running.step(flat(220, 64).roll(step, 0)[:16])
    model = running.averaged()
    after = model.way(None, None).images(model, torch.randn(8, 100), torch.zeros(8), None)
    assert abs(before.mean() - 0.5) < 0.1
    assert abs(after.mean() - 220 / 255) < 0.1


def test_what_batches_have_counted_is_averaged_as_weights_are() -> None:
    running = trainer()
    for _ in range(3):
        running.step(flat(100, 4))
    average, model = running.averaged(), running.model
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    assert average.state_dict()["layers.1.num_batches_tracked"] == 3


def test_a_choice_of_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="dcgan learns by its own loss, not between images"):
        check_recipe(DCGAN, Recipe(adversarial=0.1))
    with pytest.raises(ValueError, match="dcgan makes images in one step, by no sampler"):
        made().way("ddim", None)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"size": 4}, "size is at least 8 pixels, not 4"),
        ({"width": 0}, "width is a whole number, at least 1, not 0"),
        ({"numbers": 1.5}, "numbers is a whole number, at least 1, not 1.5"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SizeError, match=complaint):
        made(**config)


def test_each_image_has_noise_of_its_own_seed() -> None:
    model, images = made(channels=1).eval(), torch.rand(6, 3, 16, 16)
    drawn, seen = draw(Recipe(), 0, 6, 1), []

    def compare(predicted: Tensor, true: Tensor) -> Tensor:
        seen.append((predicted, true))
        return predicted.mean()

    model.loss(model, images, drawn, compare)
    model.loss(model, images[2:3], drawn.part(slice(2, 3)), compare)
    torch.testing.assert_close(seen[1][0], seen[0][0][2:3], rtol=0, atol=1e-6)
    assert seen[0][1].shape == (6, 1, 16, 16)
