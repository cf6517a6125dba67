"""The metrics equal skimage's and LPIPS's published ones on real images, and say so when they cannot be had."""

import io
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from dtls.compat import allow_torchvision_import
from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.resize import resize
from dtls.errors import SizeError
from reports.metrics.authors_consistency import authors_consistency
from reports.metrics.consistency import consistency, lr_psnr
from reports.metrics.lpips import load_lpips, lpips
from reports.metrics.metric import Kept
from reports.metrics.planes import Measure, luma
from reports.metrics.psnr import psnr
from reports.metrics.ssim import Window, ssim

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
DISTORTIONS = ("noise", "blur", "jpeg", "bicubic", "darker", "shifted")
EXAMPLES = Path(__file__).parents[1] / "data"


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]


def skimage_ssim(a: Tensor, b: Tensor, window: Window = "uniform") -> float:
    x, y = (p[0].permute(1, 2, 0).numpy() for p in (a, b))
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    how = gaussian if window == "gaussian" else {}
    return float(structural_similarity(x, y, channel_axis=-1, data_range=255, **how))  # type: ignore[no-untyped-call]


def skimage_psnr(a: Tensor, b: Tensor) -> float:
    return float(peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255))  # type: ignore[no-untyped-call]


def distorted(image: Image.Image, how: str) -> Image.Image:
    if how == "noise":
        noise = np.random.default_rng(0).normal(0, 12, np.array(image).shape)
        return Image.fromarray((np.array(image) + noise).round().clip(0, 255).astype(np.uint8))
    if how == "blur":
        return image.filter(ImageFilter.GaussianBlur(2))
    if how == "bicubic":
        return image.resize((image.width // 4, image.height // 4)).resize(image.size)
    if how == "darker":
        return image.point(lambda v: v * 0.8)
    if how == "shifted":
        return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1.5, 0, 1, 0.5))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    """120 crops of photographs, and what distortions make of them: uint8 (120, 3, 96, 112)."""
    crops = [
        Image.fromarray(getattr(data, name)()).crop((x, y, x + 112, y + 96))
        for name in PHOTOGRAPHS
        for x, y in ((0, 0), (100, 50), (240, 120), (160, 200), (300, 20))
    ]
    both = [(tensor(crop), tensor(distorted(crop, how))) for crop in crops for how in DISTORTIONS]
    return torch.cat([a for a, _ in both]), torch.cat([b for _, b in both])


@pytest.mark.slow
def test_120_pairs_of_photographs_have_skimages_numbers(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = pairs
    singles = list(zip(a.split(1), b.split(1), strict=True))
    assert psnr(a, b).tolist() == pytest.approx([skimage_psnr(x, y) for x, y in singles], abs=1e-9)
    for window in get_args(Window):
        expected = [skimage_ssim(x, y, window) for x, y in singles]
        assert ssim(a, b, window=window).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_120_pairs_of_photographs_have_torchmetrics_numbers(pairs: tuple[Tensor, Tensor]) -> None:
    allow_torchvision_import()
    from torchmetrics.functional import image

    a, b = (x.float() for x in pairs)
    decibels = image.peak_signal_noise_ratio(a, b, data_range=255.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(*pairs), decibels.double(), atol=1e-4, rtol=0)
    _, places = image.structural_similarity_index_measure(
        a, b, data_range=255.0, reduction="none", return_full_image=True
    )
    inside = places[..., 5:-5, 5:-5].double().mean(dim=(1, 2, 3))  # torchmetrics adds windows over mirrored edges
    torch.testing.assert_close(ssim(*pairs, window="gaussian"), inside, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_lpips_of_120_pairs_is_what_the_package_says(pairs: tuple[Tensor, Tensor], model: nn.Module) -> None:
    with torch.inference_mode():
        expected = model(*(x.float() / 127.5 - 1 for x in pairs)).flatten()
    torch.testing.assert_close(lpips(*pairs, model), expected.double(), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_several_images_against_one_have_the_lpips_they_have_alone(
    pairs: tuple[Tensor, Tensor], model: nn.Module
) -> None:
    a, b = (x[:40] for x in pairs)  # more than one group
    kept = Kept()
    found = [lpips(x, a, model, kept) for x in (b, b.flip(0), a)]
    for x, values in zip((b, b.flip(0), a), found, strict=True):
        assert torch.equal(values, lpips(x, a, model))
    assert found[2].tolist() == [0.0] * 40


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_the_luma_channel_has_skimages_numbers(pairs: tuple[Tensor, Tensor], window: Window) -> None:
    a, b = (x[:12] for x in pairs)
    measure = Measure(colour="y", border=4)
    x, y = (rgb2ycbcr(p.permute(0, 2, 3, 1).numpy())[:, 4:-4, 4:-4, 0] for p in (a, b))
    expected = [10 * np.log10(255**2 / np.square(u - v).mean()) for u, v in zip(x, y, strict=True)]
    assert psnr(a, b, measure).tolist() == pytest.approx(expected, abs=1e-6)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False} if window == "gaussian" else {}
    similar = [structural_similarity(u, v, data_range=255, **how) for u, v in zip(x, y, strict=True)]  # type: ignore[no-untyped-call]
    assert ssim(a, b, measure, window).tolist() == pytest.approx(similar, abs=1e-5)


def test_luma_is_matlabs() -> None:
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    found = luma(colours[:, :, None, None]).flatten()
    assert found.tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-9)


def test_a_border_is_cropped_from_every_side(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = (x[:2] for x in pairs)
    inside = [x[..., 5:-5, 5:-5].contiguous() for x in (a, b)]
    measure = Measure(border=5)
    assert torch.equal(psnr(a, b, measure), psnr(inside[0], inside[1]))
    assert torch.equal(ssim(a, b, measure), ssim(inside[0], inside[1]))
    assert not torch.equal(psnr(a, b, measure), psnr(a, b))


def test_a_border_that_leaves_nothing_leaves_no_number(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = (x[:2] for x in pairs)
    assert psnr(a, b, Measure(border=48)).isnan().all()
    assert ssim(a, b, Measure(border=45)).isnan().all()
    assert ssim(a, b, Measure(border=44), "gaussian").isnan().all()
    assert psnr(a, b, Measure(border=47)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_another_data_range_is_that_of_skimage(
    pairs: tuple[Tensor, Tensor], window: Literal["uniform", "gaussian"]
) -> None:
    a, b = pairs
    measure = Measure(data_range=219)
    gaussian: dict[str, Any] = (
        {"gaussian_weights": True, "use_sample_covariance": False} if window == "gaussian" else {}
    )
    for x, y, found, similarity in zip(a, b, psnr(a, b, measure), ssim(a, b, measure, window), strict=True):
        p, q = (image.permute(1, 2, 0).numpy() for image in (x, y))
        assert found.item() == pytest.approx(peak_signal_noise_ratio(p, q, data_range=219), abs=1e-6)  # type: ignore[no-untyped-call]
        expected = structural_similarity(p, q, channel_axis=-1, data_range=219, **gaussian)  # type: ignore[no-untyped-call]
        assert similarity.item() == pytest.approx(expected, abs=1e-4)


def test_unknown_colours_negative_borders_and_no_data_range_are_refused() -> None:
    with pytest.raises(ValueError, match="a data range of 0 is none"):
        Measure(data_range=0)
    with pytest.raises(ValueError, match="unknown colour space 'lab'; known: rgb, y"):
        Measure(colour="lab")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="border of -1"):
        Measure(border=-1)


def test_a_grey_image_has_the_numbers_of_its_one_channel(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = (x[:6, :1] for x in pairs)
    wide, other = (x.expand(-1, 3, -1, -1) for x in (a, b))
    singles = [(x[0, 0].numpy(), y[0, 0].numpy()) for x, y in zip(a.split(1), b.split(1), strict=True)]
    similar = [structural_similarity(x, y, data_range=255) for x, y in singles]  # type: ignore[no-untyped-call]
    assert ssim(wide, other).tolist() == pytest.approx(similar, abs=1e-9)
    assert psnr(wide, other).tolist() == pytest.approx(
        [skimage_psnr(x, y) for x, y in zip(a, b, strict=True)], abs=1e-9
    )


def test_lr_psnr_is_consistency_in_decibels() -> None:
    assert lr_psnr(torch.tensor([1e-3, 1.0, 0.0])).tolist() == pytest.approx([30, 0, float("inf")])
    assert lr_psnr(torch.tensor([float("nan")])).isnan().all()


def test_the_authors_consistency_is_what_their_script_says(photographs: dict[str, Tensor]) -> None:
    script = np.load(EXAMPLES / "opencv_cubic.npz")
    hr = torch.stack([*photographs.values()])
    sr = hr // 16 * 16 + 8
    expected = [script[f"{name}_l2"] * 1e-5 for name in photographs]
    assert authors_consistency(sr, hr, (16, 16)).tolist() == pytest.approx(expected, abs=1e-12)
    assert authors_consistency(hr, hr, (16, 16)).tolist() == [0.0] * 4


@pytest.mark.parametrize("how", ["noise", "blur", "jpeg"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_psnr_and_ssim_equal_skimage(name: str, how: str) -> None:
    image = Image.fromarray(getattr(data, name)()).crop((100, 50, 400, 301))
    a, b = tensor(image), tensor(distorted(image, how))
    assert psnr(a, b).item() == pytest.approx(skimage_psnr(a, b), abs=1e-6)
    assert ssim(a, b).item() == pytest.approx(skimage_ssim(a, b), abs=1e-6)


@pytest.mark.slow
def test_a_batch_gives_what_its_images_give(photographs: dict[str, Tensor], model: nn.Module) -> None:
    a = torch.stack([*photographs.values()] * 2)  # more than one group
    b = a.roll(1, dims=0)
    for values, single in (
        (psnr(a, b), [psnr(x[None], y[None]) for x, y in zip(a, b, strict=True)]),
        (ssim(a, b), [ssim(x[None], y[None]) for x, y in zip(a, b, strict=True)]),
        (lpips(a, b, model), [lpips(x[None], y[None], model) for x, y in zip(a, b, strict=True)]),
    ):
        assert values.shape == (8,)
        assert values.dtype == torch.float64
        torch.testing.assert_close(values, torch.cat(single), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "published"), [("ex_p0", 0.722), ("ex_p1", 0.138)])
def test_lpips_gives_the_official_examples(name: str, published: float, model: nn.Module) -> None:
    reference, image = (tensor(Image.open(EXAMPLES / f"{n}.png")) for n in ("ex_ref", name))
    assert lpips(reference, image, model).item() == pytest.approx(published, abs=1e-3)


def test_loading_lpips_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    load_lpips()
    assert torch.equal(before, torch.random.get_rng_state())


def test_identical_images(photographs: dict[str, Tensor], model: nn.Module) -> None:
    a = torch.stack([*photographs.values()])
    assert psnr(a, a).tolist() == [float("inf")] * 4
    assert ssim(a, a).tolist() == pytest.approx([1.0] * 4, abs=1e-12)
    assert ssim(a, a, window="gaussian").tolist() == [1.0] * 4
    assert lpips(a, a, model).tolist() == [0.0] * 4


def test_constant_images_have_finite_numbers(model: nn.Module) -> None:
    black, white = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    assert psnr(black, white).item() == 0.0
    assert ssim(black, white).item() == pytest.approx(skimage_ssim(black, white), abs=1e-9)
    assert ssim(white, white).item() == pytest.approx(1.0)
    assert ssim(white, white, window="gaussian").item() == 1.0
    grey = torch.full((1, 3, 64, 64), 90, dtype=torch.uint8)
    for window in ("uniform", "gaussian"):
        assert ssim(black, grey, window=window).item() == pytest.approx(skimage_ssim(black, grey, window), abs=1e-5)
    assert lpips(black, white, model).isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (6, 40), (31, 31)])
def test_what_an_image_is_too_small_for_is_nan(size: tuple[int, int], model: nn.Module) -> None:
    a, b = (torch.full((2, 3, *size), v, dtype=torch.uint8) for v in (10, 20))
    assert psnr(a, b).tolist() == pytest.approx([20 * np.log10(255 / 10)] * 2)
    assert ssim(a, b).isnan().tolist() == [min(size) < 7] * 2
    assert ssim(a, b, window="gaussian").isnan().tolist() == [min(size) < 11] * 2
    assert lpips(a, b, model).isnan().tolist() == [True, True]


def test_the_smallest_images_each_metric_takes(model: nn.Module) -> None:
    a = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert lpips(a, a.flip(-1), model).item() > 0
    seven, other = a[..., :7, :7], a[..., 7:14, :7]
    assert ssim(seven, other).item() == pytest.approx(skimage_ssim(seven, other), abs=1e-9)
    eleven, other = a[..., :11, :11], a[..., 11:22, :11]
    found = ssim(eleven, other, window="gaussian").item()
    assert found == pytest.approx(skimage_ssim(eleven, other, "gaussian"), abs=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_consistency_is_zero_for_what_shrinks_to_the_lr_image(
    photographs: dict[str, Tensor], protocol: Protocol
) -> None:
    hr = torch.stack([*photographs.values()])
    lr = resize(hr.double(), (32, 32), protocol)
    saved = lr.round().clamp(0, 255).byte()
    rounding = ((lr - saved.double()) / 255).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(consistency(hr, saved, protocol), rounding, atol=1e-12, rtol=0)
    brighter = hr.clamp(max=204) + 51  # 0.2 of the range, minus what was clamped
    assert (consistency(brighter, saved, protocol) > 0.01).all()


def test_consistency_depends_on_the_protocol(photographs: dict[str, Tensor]) -> None:
    hr = torch.stack([*photographs.values()])
    lr = resize(hr.double(), (32, 32), "antialias").round().clamp(0, 255).byte()
    assert (consistency(hr, lr, "reference") > 10 * consistency(hr, lr, "antialias")).all()


@pytest.mark.parametrize("low", [(30, 32), (33, 33), (32, 31), (256, 256)])
def test_consistency_refuses_sizes_that_do_not_divide(low: tuple[int, int]) -> None:
    hr, lr = (torch.zeros(1, 3, *size, dtype=torch.uint8) for size in ((128, 128), low))
    if low == (33, 33):
        hr = hr[..., :127]  # 127/128 of a scale is no scale
    with pytest.raises(SizeError, match="×"):
        consistency(hr, lr, "reference")


def test_images_of_other_shapes_and_dtypes_are_refused(model: nn.Module) -> None:
    a = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    with pytest.raises(SizeError, match="40×40 cannot be compared with 39×40"):
        psnr(a, a[..., :39])
    with pytest.raises(ValueError, match="uint8"):
        ssim(a.float(), a.float())
    with pytest.raises(ValueError, match="uint8"):
        lpips(a[:, :1], a[:, :1], model)
