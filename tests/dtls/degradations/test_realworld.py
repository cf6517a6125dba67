"""Each part of realworld does what it says, and what is drawn depends on an image's seed alone, its order too."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.degradations import realworld as parts
from dtls.degradations.realworld import BLUR, MODES, NOISE, QUALITY, realworld
from dtls.degradations.seeds import seeds_of
from dtls.errors import SizeError
from dtls.inference.degrade import Downscaling
from dtls.models.base import Draws
from dtls.registry import model_class

TURN = math.pi / 6
NAMES = ("blurred", "blurred_along", "reduced", "with_noise", "compressed")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(kernel: Tensor) -> Tensor:
    """Of an image (1, 1, n, n) as a distribution over (across, down): (2, 2)."""
    weights = kernel[0, 0].double() / kernel.double().sum()
    place = torch.arange(len(weights), dtype=torch.float64) - len(weights) // 2
    at = torch.stack([place.expand_as(weights), place[:, None].expand_as(weights)])
    return torch.einsum("hw,ahw,bhw->ab", weights, at, at)


@pytest.fixture
def hr(images: Tensor) -> Tensor:
    """Four photographs, (4, 3, 64, 64) in [0, 1]."""
    return images[:4].float() / 255


BLURS = pytest.mark.parametrize(
    ("blur", "expected"),
    [
        (lambda x: parts.blurred(x, 3.0), [[9.0, 0.0], [0.0, 9.0]]),
        (
            lambda x: parts.blurred_along(x, (4.0, 2.0), TURN),  # R diag(16, 4) Rᵀ
            [[13.0, 12 * math.sin(TURN) * math.cos(TURN)], [12 * math.sin(TURN) * math.cos(TURN), 7.0]],
        ),
    ],
)


@BLURS
def test_a_point_becomes_a_gaussian_of_that_covariance(
    blur: Callable[[Tensor], Tensor], expected: list[list[float]]
) -> None:
    point = torch.zeros(1, 1, 65, 65)
    point[..., 32, 32] = 1
    made = blur(point)
    assert made.sum().item() == pytest.approx(1, abs=1e-5)
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(covariance(made), 0.973 * wanted, atol=0.08, rtol=0.02)  # 0.973: cut off at 3 σ


@BLURS
@pytest.mark.parametrize("size", [(24, 40), (3, 2), (1, 1)])
def test_blur_leaves_an_even_image_as_it_is(
    blur: Callable[[Tensor], Tensor], expected: object, size: tuple[int, int]
) -> None:
    even = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(1, 3, *size)
    torch.testing.assert_close(blur(even), even, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_down_sampling_is_pillows(hr: Tensor, mode: str) -> None:
    made = parts.reduced(hr[:1], (16, 20), mode)
    how = Image.Resampling[mode.upper()]
    expected = [np.asarray(Image.fromarray(channel.numpy()).resize((20, 16), how)) for channel in hr[0]]
    np.testing.assert_allclose(made[0], np.stack(expected), atol=1e-5)


def test_noise_is_white_and_has_its_sigma(hr: Tensor) -> None:
    wide = hr[:1].repeat(1, 1, 4, 4)
    noise = (parts.with_noise(wide, 0.04, generator()) - wide)[0]
    assert noise.std().item() == pytest.approx(0.04, rel=0.02)
    assert abs(noise.mean().item()) < 1e-3
    neighbours = [(noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1]), (noise[1:], noise[:-1])]
    for a, b in neighbours:
        assert abs((a * b).mean().item()) < 0.02 * 0.04**2


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_costs_more_at_a_lower_quality(hr: Tensor, channels: int) -> None:
    x = hr[:1, :channels]
    errors = [(parts.compressed(x, quality) - x).square().mean().item() for quality in (95, 80, 50, 20)]
    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[-1] / 4
    made = parts.compressed(x, 50)
    assert made.shape == x.shape
    torch.testing.assert_close(made * 255, (made * 255).round(), atol=1e-4, rtol=0)


def test_jpeg_takes_what_lies_beyond_black_and_white(hr: Tensor) -> None:
    x = 3 * hr[:1] - 1
    assert torch.equal(parts.compressed(x, 90), parts.compressed(x.clamp(0, 1), 90))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, tuple[Any, ...]]]:
    """What is done to images, in its order: the part, the side of the image before it, and what it is told."""
    calls: list[tuple[str, int, tuple[Any, ...]]] = []

    def told(name: str) -> Callable[..., Tensor]:
        def part(x: Tensor, *told: Any) -> Tensor:
            calls.append((name, x.shape[-1], told))
            return x[..., : told[0][0], : told[0][1]] if name == "reduced" else x

        return part

    for name in NAMES:
        monkeypatch.setattr(parts, name, told(name))
    return calls


@pytest.mark.slow
def test_the_five_parts_come_in_every_order_equally_often(seen: list[tuple[str, int, tuple[Any, ...]]]) -> None:
    count = 2400
    realworld(torch.zeros(count, 1, 2, 2), (1, 1), torch.arange(count))
    orders = [tuple(name for name, *_ in seen[start : start + 5]) for start in range(0, len(seen), 5)]
    assert len(orders) == count
    assert all(set(order) == set(NAMES) for order in orders)
    assert len(set(orders)) == math.factorial(5)
    for name in NAMES:
        for times in Counter(order.index(name) for order in orders).values():
            assert abs(times - count / 5) < 4 * math.sqrt(count * 0.2 * 0.8)


def test_draws_fill_their_ranges_and_blur_is_as_strong_in_any_order(
    seen: list[tuple[str, int, tuple[Any, ...]]],
) -> None:
    realworld(torch.zeros(1000, 1, 8, 8), (2, 2), torch.arange(1000))
    told = {name: [(side, args) for part, side, args in seen if part == name] for name in NAMES}
    drawn = {
        "isotropic": ([args[0] / (side / 2) for side, args in told["blurred"]], BLUR),
        "across": ([args[0][0] / (side / 2) for side, args in told["blurred_along"]], BLUR),
        "down": ([args[0][1] / (side / 2) for side, args in told["blurred_along"]], BLUR),
        "turn": ([args[1] for _, args in told["blurred_along"]], (0, math.pi)),
        "noise": ([args[0] for _, args in told["with_noise"]], NOISE),
        "quality": ([args[0] for _, args in told["compressed"]], QUALITY),
    }
    for values, (low, high) in drawn.values():
        assert low <= min(values) <= low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) <= max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert {args[0] for _, args in told["reduced"]} == {(2, 2)}
    assert Counter(args[1] for _, args in told["reduced"])["bilinear"] == pytest.approx(500, abs=60)
    assert {side for side, _ in told["blurred"]} == {2, 8}


def test_an_image_is_the_same_by_its_seed_in_any_batch(hr: Tensor) -> None:
    seeds = torch.tensor([5, 2**61 + 1, 7, 2**61 + 2**40 + 1])
    before = torch.get_rng_state()
    made = realworld(hr, (16, 16), seeds)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(realworld(hr.flip(0), (16, 16), seeds.flip(0)).flip(0), made)
    for place in range(4):
        assert torch.equal(realworld(hr[place, None], (16, 16), seeds[place, None])[0], made[place])
    one = realworld(hr[:1].expand(4, -1, -1, -1), (16, 16), seeds)
    assert len({x.numpy().tobytes() for x in one}) == 4


def test_what_it_draws_is_not_the_noise_that_models_draw_of_the_same_seed(
    seen: list[tuple[str, int, tuple[Any, ...]]],
) -> None:
    realworld(torch.zeros(1, 1, 2, 2), (1, 1), torch.tensor([3]))
    (drawn,) = (args[1] for name, _, args in seen if name == "with_noise")
    assert drawn.initial_seed() != 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size", "low"), [((33, 57), (11, 19)), ((7, 5), (7, 5)), ((3, 8), (1, 2)), ((1, 1), (1, 1))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_has_images_of_numbers_in_range(
    size: tuple[int, int], low: tuple[int, int], channels: int, dtype: torch.dtype
) -> None:
    x = torch.rand(12, channels, *size, generator=generator(), dtype=dtype).round()  # black and white: it overshoots
    made = realworld(x, low, torch.arange(12))
    assert made.shape == (12, channels, *low)
    assert made.dtype == dtype
    assert made.min() >= 0
    assert made.max() <= 1


def test_what_comes_out_still_shows_what_went_in(hr: Tensor) -> None:
    made = realworld(hr, (16, 16), torch.arange(4))
    plain = Downscaling("antialias")(hr, (16, 16))
    errors = (made - plain).square().mean(dim=(1, 2, 3)).sqrt()
    assert (errors > 0.005).all()
    assert (errors < 0.15).all()


def test_seeds_are_of_the_pixels_and_of_the_runs_seed(hr: Tensor) -> None:
    seeds = seeds_of(hr, 0)
    assert len(set(seeds.tolist())) == 4
    assert torch.equal(seeds_of(hr.flip(0), 0).flip(0), seeds)
    assert torch.equal(seeds_of(hr[1:2], 0), seeds[1:2])
    assert set(seeds_of(hr, 1).tolist()).isdisjoint(seeds.tolist())
    touched = hr.clone()
    touched[2, 1, 0, 0] += 1 / 255
    assert seeds_of(touched, 0).ne(seeds).tolist() == [False, False, True, False]


def test_downscaling_says_its_seed_where_it_draws(hr: Tensor) -> None:
    first, other = Downscaling("realworld"), Downscaling("realworld", 1)
    assert first.identity == {"method": "downscale-realworld", "protocol": "realworld", "seed": "0"}
    assert "seed" not in Downscaling("antialias").identity
    made = first(hr, (16, 16))
    assert torch.equal(made[1:2], first(hr[1:2], (16, 16)))
    assert not torch.equal(made, other(hr, (16, 16)))
    assert first(hr[:, :1], (16, 16)).shape == (4, 1, 16, 16)
    with pytest.raises(SizeError, match="one scale is needed"):
        first(hr, (16, 32))


def test_training_has_its_lr_images_in_8_bits(hr: Tensor) -> None:
    torch.manual_seed(0)
    model = model_class("edsr")(size=32, lr_size=8, protocol="realworld", blocks=1, features=4)
    drawn = Draws(torch.ones(4), torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool), torch.arange(4))
    made = model.lr(hr, drawn)
    assert made.shape == (4, 3, 16, 16)
    torch.testing.assert_close(made, realworld(hr, (16, 16), drawn.seeds), atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(made * 255, (made * 255).round(), atol=1e-4, rtol=0)
    assert torch.equal(model.lr(hr[2:], drawn.part(slice(2, 4))), made[2:])
    model.loss(model, hr, drawn, torch.nn.functional.l1_loss).backward()
    assert all(weights.grad is not None for weights in model.parameters())
