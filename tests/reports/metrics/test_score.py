"""All numbers at once are the numbers one by one, and what is not given has none."""

import pytest
import torch
from torch import Tensor, nn

from dtls.degradations.resize import resize
from dtls.errors import SizeError
from reports.metrics.authors_consistency import authors_consistency
from reports.metrics.consistency import consistency, lr_psnr
from reports.metrics.file_size import FILE_SIZE
from reports.metrics.lpips import lpips
from reports.metrics.metric import References
from reports.metrics.planes import Measure
from reports.metrics.psnr import psnr
from reports.metrics.registry import METRICS
from reports.metrics.score import score
from reports.metrics.ssim import ssim


@pytest.fixture(scope="module")
def hr(photographs: dict[str, Tensor]) -> Tensor:
    return torch.stack([*photographs.values()])


@pytest.fixture(scope="module")
def lr(hr: Tensor) -> Tensor:
    return resize(hr.double(), (32, 32), "antialias").round().clamp(0, 255).byte()


@pytest.fixture(scope="module")
def sr(hr: Tensor, lr: Tensor) -> dict[str, Tensor]:
    large = resize(lr.double(), (128, 128), "antialias").round().clamp(0, 255).byte()
    return {"bicubic": large, "darker": hr // 2}


@pytest.mark.slow
def test_every_method_has_the_numbers_that_it_has_alone(
    sr: dict[str, Tensor], hr: Tensor, lr: Tensor, model: nn.Module
) -> None:
    measure = Measure(colour="y", border=4)
    found = score(sr, References(hr, lr, "antialias", measure, model))
    assert list(found) == ["bicubic", "darker"]
    for method, x in sr.items():
        shrunk = consistency(x, lr, "antialias")
        expected = {
            "psnr": psnr(x, hr, measure),
            "ssim": ssim(x, hr, measure),
            "ssim_gaussian": ssim(x, hr, measure, "gaussian"),
            "lpips": lpips(x, hr, model),
            "consistency": shrunk,
            "lr_psnr": lr_psnr(shrunk),
            "authors_consistency": authors_consistency(x, hr, (32, 32)),
        }
        assert set(found[method]) == set(expected) == {metric.name for metric in METRICS if metric is not FILE_SIZE}
        for name, values in expected.items():
            torch.testing.assert_close(found[method][name], values, atol=1e-9, rtol=0)


def test_of_lr_images_made_by_realworld_there_is_no_consistency(
    sr: dict[str, Tensor], hr: Tensor, lr: Tensor, model: nn.Module
) -> None:
    found = score(sr, References(hr, lr, "realworld", lpips=model))
    assert found.keys() == sr.keys()
    assert all(numbers.keys() == {"psnr", "ssim", "ssim_gaussian", "lpips"} for numbers in found.values())


def test_without_ground_truth_there_is_consistency_alone(sr: dict[str, Tensor], lr: Tensor, model: nn.Module) -> None:
    found = score(sr, References(lr=lr, protocol="antialias", lpips=model))
    assert set(found["bicubic"]) == {"consistency", "lr_psnr"}


def test_without_lr_and_lpips_there_are_psnr_and_ssim(sr: dict[str, Tensor], hr: Tensor) -> None:
    assert set(score(sr, References(hr))["bicubic"]) == {"psnr", "ssim", "ssim_gaussian"}


def test_one_pixel_has_a_psnr_and_no_other_number_of_hr(model: nn.Module) -> None:
    hr, sr = (torch.full((1, 3, 1, 1), v, dtype=torch.uint8) for v in (10, 20))
    numbers = score({"a": sr}, References(hr, hr, lpips=model))["a"]
    missing = {name for name, values in numbers.items() if values.isnan().all()}
    assert missing == {"ssim", "ssim_gaussian", "lpips"}


def test_no_images_have_no_numbers(model: nn.Module) -> None:
    none = torch.zeros(0, 3, 64, 64, dtype=torch.uint8)
    for values in score({"a": none}, References(none, none[..., :16, :16], lpips=model))["a"].values():
        assert values.shape == (0,)


def test_a_method_of_another_size_is_refused(sr: dict[str, Tensor], hr: Tensor, model: nn.Module) -> None:
    with pytest.raises(SizeError, match="127×128 cannot be compared with 4 images of 128×128"):
        score(sr | {"cut": hr[..., :127]}, References(hr, lpips=model))
