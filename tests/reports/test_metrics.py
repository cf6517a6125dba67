"""The metrics equal skimage's and LPIPS's published ones on real pictures, and say so when they cannot be had."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from dtls.degradation import PROTOCOLS, Protocol, SizeError, resize
from reports.lpips_alexnet import load_lpips
from reports.metrics import consistency, lpips, psnr, ssim

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
EXAMPLES = Path(__file__).with_name("data")


def tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]


def skimage_ssim(a: Tensor, b: Tensor) -> float:
    x, y = (p[0].permute(1, 2, 0).numpy() for p in (a, b))
    return float(structural_similarity(x, y, channel_axis=-1, data_range=255))  # type: ignore[no-untyped-call]


def skimage_psnr(a: Tensor, b: Tensor) -> float:
    return float(peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255))  # type: ignore[no-untyped-call]


def distorted(picture: Image.Image, how: str) -> Image.Image:
    if how == "noise":
        noise = np.random.default_rng(0).normal(0, 12, np.array(picture).shape)
        return Image.fromarray((np.array(picture) + noise).round().clip(0, 255).astype(np.uint8))
    if how == "blur":
        return picture.filter(ImageFilter.GaussianBlur(2))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=30)
    return Image.open(file)


@pytest.mark.parametrize("how", ["noise", "blur", "jpeg"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_psnr_and_ssim_equal_skimage(name: str, how: str) -> None:
    picture = Image.fromarray(getattr(data, name)()).crop((100, 50, 400, 301))
    a, b = tensor(picture), tensor(distorted(picture, how))
    assert psnr(a, b).item() == pytest.approx(skimage_psnr(a, b), abs=1e-6)
    assert ssim(a, b).item() == pytest.approx(skimage_ssim(a, b), abs=1e-6)


def test_a_batch_gives_what_its_pictures_give(photographs: dict[str, Tensor], model: nn.Module) -> None:
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
    reference, picture = (tensor(Image.open(EXAMPLES / f"{n}.png")) for n in ("ex_ref", name))
    assert lpips(reference, picture, model).item() == pytest.approx(published, abs=1e-3)


def test_loading_lpips_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    load_lpips()
    assert torch.equal(before, torch.random.get_rng_state())


def test_identical_pictures(photographs: dict[str, Tensor], model: nn.Module) -> None:
    a = torch.stack([*photographs.values()])
    assert psnr(a, a).tolist() == [float("inf")] * 4
    assert ssim(a, a).tolist() == pytest.approx([1.0] * 4, abs=1e-12)
    assert lpips(a, a, model).tolist() == [0.0] * 4


def test_constant_pictures_have_finite_numbers(model: nn.Module) -> None:
    black, white = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    assert psnr(black, white).item() == 0.0
    assert ssim(black, white).item() == pytest.approx(skimage_ssim(black, white), abs=1e-9)
    assert ssim(white, white).item() == pytest.approx(1.0)
    assert lpips(black, white, model).isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (6, 40), (31, 31)])
def test_what_a_picture_is_too_small_for_is_nan(size: tuple[int, int], model: nn.Module) -> None:
    a, b = (torch.full((2, 3, *size), v, dtype=torch.uint8) for v in (10, 20))
    assert psnr(a, b).tolist() == pytest.approx([20 * np.log10(255 / 10)] * 2)
    assert ssim(a, b).isnan().tolist() == [min(size) < 7] * 2
    assert lpips(a, b, model).isnan().tolist() == [True, True]


def test_the_smallest_pictures_each_metric_takes(model: nn.Module) -> None:
    a = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert lpips(a, a.flip(-1), model).item() > 0
    seven, other = a[..., :7, :7], a[..., 7:14, :7]
    assert ssim(seven, other).item() == pytest.approx(skimage_ssim(seven, other), abs=1e-9)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_consistency_is_zero_for_what_shrinks_to_the_lr_picture(
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


def test_pictures_of_other_shapes_and_dtypes_are_refused(model: nn.Module) -> None:
    a = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    with pytest.raises(SizeError, match="40×40 cannot be compared with 39×40"):
        psnr(a, a[..., :39])
    with pytest.raises(ValueError, match="uint8"):
        ssim(a.float(), a.float())
    with pytest.raises(ValueError, match="uint8"):
        lpips(a[:, :1], a[:, :1], model)
