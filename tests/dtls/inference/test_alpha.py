"""Nothing bleeds out of what is transparent into what is seen, and what is opaque stays so."""

import pytest
import torch
from torch import Tensor

from dtls.inference.alpha import bounded, fill, of_alpha
from dtls.inference.degrade import Downscaling
from dtls.inference.method import load_method
from dtls.registry import INTERPOLATIONS

RED, GREEN, BLACK = (torch.tensor(c).view(1, 3, 1, 1) for c in ((0.9, 0.1, 0.1), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)))


def disc(height: int, width: int) -> Tensor:
    """The alpha (1, 1, h, w) of a disc with a soft edge, opaque within and transparent around."""
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    return (min(height, width) / 3 - (x**2 + y**2).sqrt() + 0.5).clamp(0, 1)[None, None]


def painted(colour: Tensor, behind: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(alpha > 0, colour, behind)


def over_white(colour: Tensor, alpha: Tensor) -> Tensor:
    return colour * alpha + (1 - alpha)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_what_is_hidden_does_not_matter(name: str) -> None:
    alpha, colours = disc(37, 52), noise(1, 3, 37, 52)
    black, green = (fill(painted(colours, behind, alpha), alpha) for behind in (BLACK, GREEN))
    assert torch.equal(black, green)
    enlarge = load_method(name)
    assert torch.equal(enlarge(black, (148, 208)), enlarge(green, (148, 208)))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("behind", [BLACK, GREEN])
def test_no_edge_is_darker_than_the_disc_or_lighter_than_the_white_around(name: str, behind: Tensor) -> None:
    alpha, enlarge, size = disc(40, 40), load_method(name), (160, 160)
    colour = painted(RED, behind, alpha)
    alpha_sr = bounded(enlarge(alpha, size), alpha)
    made = over_white(enlarge(fill(colour, alpha), size), alpha_sr)
    assert (made >= RED - 1e-6).all()
    assert made.max() <= 1 + 1e-6
    bled = over_white(enlarge(colour, size), alpha_sr)
    assert (bled[:, 0] < 0.8).any()


def test_the_edge_of_a_disc_is_that_of_the_disc_on_white() -> None:
    alpha, enlarge, size = disc(40, 40), load_method("bilinear"), (160, 160)
    filled = fill(painted(RED, BLACK, alpha), alpha)
    made = over_white(enlarge(filled, size), bounded(enlarge(alpha, size), alpha))
    torch.testing.assert_close(made, enlarge(over_white(RED, alpha), size), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (9, 1), (37, 53), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_seen_stay_exactly_as_they_are(height: int, width: int, channels: int) -> None:
    colour, alpha = noise(2, channels, height, width), (noise(2, 1, height, width) - 0.6).clamp(0)
    filled = fill(colour, alpha)
    assert filled.shape == colour.shape
    assert torch.equal(filled[(alpha > 0).expand_as(colour)], colour[(alpha > 0).expand_as(colour)])
    assert filled.min() >= 0
    assert filled.max() <= 1


def test_an_image_of_which_nothing_is_seen_stays_whatever_lies_beside_it() -> None:
    colour = noise(3, 3, 11, 14)
    alpha = torch.zeros(3, 1, 11, 14)
    alpha[1, 0, 5, 5] = 1
    filled = fill(colour, alpha)
    assert torch.equal(filled[[0, 2]], colour[[0, 2]])
    torch.testing.assert_close(filled[1], colour[1, :, 5:6, 5:6].expand(3, 11, 14))


def test_hidden_pixels_get_the_colour_of_what_is_near() -> None:
    alpha = torch.zeros(1, 1, 32, 65)
    alpha[..., :4], alpha[..., -4:] = 1, 1
    colour = torch.zeros(1, 1, 32, 65)
    colour[..., -4:] = 1
    row = fill(colour, alpha)[0, 0, 16]
    assert (row[:8] < 0.1).all()
    assert (row[-8:] > 0.9).all()


def test_what_is_hardly_seen_hardly_counts() -> None:
    alpha = torch.tensor([[1.0, 0.001], [0.0, 0.0]])[None, None]
    colour = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[None, None]
    assert (fill(colour, alpha)[..., 1, :] > 0.99).all()


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(160, 160), (111, 111), (40, 40)])
def test_what_is_wholly_opaque_or_transparent_stays_exactly_so(name: str, size: tuple[int, int]) -> None:
    alpha, enlarge = disc(40, 40), load_method(name)
    noisy = (enlarge(alpha, size) + 0.2 * (noise(1, 1, *size) - 0.5)).clamp(0, 1)  # as a network may make it
    made = bounded(noisy, alpha)
    middle = size[0] // 2
    assert (made[..., middle - size[0] // 5 : middle + size[0] // 5, middle] == 1.0).all()
    assert (made[..., : size[0] // 10, :] == 0.0).all()
    assert ((made > 0) & (made < 1)).any()
    for value in (0.0, 0.3, 1.0):
        assert (bounded(noisy, torch.full_like(alpha, value)) == value).all()


def test_alpha_between_its_neighbours_is_left_alone() -> None:
    alpha = disc(40, 40)
    sr = load_method("bilinear")(alpha, (160, 160))
    assert torch.equal(bounded(sr, alpha), sr)


def test_reduced_alpha_is_only_cut_to_its_range() -> None:
    """A mean of more than 3×3 pixels lies outside of what the nearest nine say."""
    alpha = torch.zeros(1, 1, 16, 16)
    alpha[..., :8] = 1
    reduced = torch.tensor([[[[0.75, -0.1], [1.1, 0.5]]]])
    assert bounded(reduced, alpha).flatten().tolist() == [0.75, 0.0, 1.0, 0.5]


def test_alpha_is_resized_by_the_method_unless_that_adds_noise() -> None:
    for method in (load_method("bicubic"), Downscaling("reference")):
        assert of_alpha(method) is method
    alpha = disc(40, 40)
    torch.testing.assert_close(
        of_alpha(Downscaling("realworld"))(alpha, (10, 10)), Downscaling("antialias")(alpha, (10, 10))
    )
