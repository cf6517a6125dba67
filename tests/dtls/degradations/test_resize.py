"""D_t is what the authors' code computes, A and B are what Pillow and torch compute, projection is exact."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.operator import Info
from dtls.degradations.path import Degradation
from dtls.degradations.registry import operator_of
from dtls.degradations.resize import kept, project, pseudo_inverse, resize, resize_matrix
from dtls.degradations.scale import downscale_size, scale_between
from dtls.errors import SizeError
from dtls.inference.method import load_method

SIZES = ((64, 64, 8, 8), (64, 48, 21, 12), (40, 52, 10, 13), (10, 13, 40, 52), (9, 7, 9, 7), (33, 17, 5, 4))
FACES = Degradation(size=128, stride=4, steps=28)


@pytest.fixture(scope="module")
def x(images: Tensor) -> Tensor:
    """Real images in [0, 1], float64."""
    return images.double() / 255


def test_d_is_that_of_the_authors_code(expected: dict[str, Tensor]) -> None:
    degrade = Degradation(size=32, stride=4, steps=6)
    for t, degraded in zip(expected["degrade_t"].tolist(), expected["degraded"], strict=True):
        torch.testing.assert_close(degrade(expected["x"], t), degraded, rtol=0, atol=1e-5)
    torch.testing.assert_close(degrade(expected["x"], 6), expected["lr_up"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_d_0_is_the_identity(x: Tensor, protocol: Protocol) -> None:
    degrade = Degradation(size=64, stride=4, steps=14, protocol=protocol)
    assert torch.equal(degrade(x.float(), 0), x.float())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_t_for_each_image_gives_what_one_t_for_all_gives(x: Tensor, protocol: Protocol) -> None:
    degrade = Degradation(size=64, stride=4, steps=14, protocol=protocol)
    steps = [0, 1, 3, 14, 7, 7, 2, 0, 13, 5, 11, 6]
    together = degrade(x, torch.tensor(steps))
    for image, t, result in zip(x, steps, together, strict=True):
        torch.testing.assert_close(degrade(image[None], t)[0], result, rtol=0, atol=1e-12)
    assert torch.equal(degrade(x, steps), together)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_d_is_a_down_and_b_up(x: Tensor, protocol: Protocol) -> None:
    degrade = Degradation(size=64, stride=4, steps=14, protocol=protocol)
    up_and_down = resize(resize(x, (40, 40), protocol), (64, 64), protocol)
    torch.testing.assert_close(degrade(x, 6), up_and_down, rtol=0, atol=1e-12)


def test_other_sizes_go_down_by_ratio() -> None:
    assert FACES.lr_size == 16
    assert [FACES.low(n, 28) for n in (128, 256, 64, 1)] == [16, 32, 8, 1]
    assert [FACES.low(n, 1) for n in (128, 10, 100)] == [124, 10, 97]  # the nearest whole number of pixels
    x = torch.rand(1, 3, 192, 80, generator=torch.Generator().manual_seed(0))
    reduced = F.interpolate(x, (24, 10), mode="bilinear")
    torch.testing.assert_close(FACES(x, 28), F.interpolate(reduced, (192, 80), mode="bilinear"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [[1, 2], [1] * 13, torch.tensor([1, 2, 3])])
def test_d_refuses_another_number_of_timesteps_than_of_images(x: Tensor, steps: list[int]) -> None:
    with pytest.raises(SizeError, match=f"{len(steps)} timesteps for 12 images"):
        Degradation(size=64, stride=4, steps=14)(x, steps)


@pytest.mark.parametrize("t", [-1, 15])
def test_d_refuses_a_t_beyond_its_steps(x: Tensor, t: int) -> None:
    with pytest.raises(SizeError, match=r"timesteps are 0…14"):
        Degradation(size=64, stride=4, steps=14)(x, t)


@pytest.mark.parametrize(("size", "stride", "steps"), [(32, 4, 8), (32, 4, 9), (0, 1, 1), (32, 0, 1), (32, 4, 0)])
def test_a_degradation_that_leaves_nothing_is_refused(size: int, stride: int, steps: int) -> None:
    with pytest.raises(SizeError, match="leave no LR pixel"):
        Degradation(size, stride, steps)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(SizeError, match="unknown protocol 'lanczos'; known: reference, antialias"):
        Degradation(32, 4, 6, "lanczos")  # type: ignore[arg-type]


@pytest.mark.parametrize("sides", SIZES)
def test_antialias_is_the_bicubic_of_pillow(sides: tuple[int, int, int, int], x: Tensor) -> None:
    height, width, low_height, low_width = sides
    grey = x[3, :1, :height, :width]
    pillow = Image.fromarray(grey[0].float().numpy()).resize((low_width, low_height), Image.Resampling.BICUBIC)
    ours = resize(grey[None], (low_height, low_width), "antialias")
    np.testing.assert_allclose(ours[0, 0].numpy(), np.asarray(pillow), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sides", SIZES)
def test_reference_is_the_bilinear_of_torch(sides: tuple[int, int, int, int], x: Tensor) -> None:
    height, width, *low = sides
    part = x[..., :height, :width]
    torch.testing.assert_close(
        resize(part, (low[0], low[1]), "reference"),
        F.interpolate(part, tuple(low), mode="bilinear", align_corners=False),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_of_a_resize_sum_to_one(protocol: Protocol) -> None:
    for n_in, n_out in product((1, 2, 7, 64), (1, 3, 8, 64)):
        matrix = resize_matrix(n_in, n_out, protocol)
        torch.testing.assert_close(matrix.sum(1), torch.ones(n_out, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sides", [(0, 4), (4, 0), (-1, 4)])
def test_no_pixels_are_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(SizeError, match="cannot resize"):
        resize_matrix(*sides, "reference")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("low", [(8, 8), (16, 16), (21, 13), (63, 5), (64, 64)])
def test_a_projected_image_is_reduced_to_its_lr(low: tuple[int, int], protocol: Protocol, x: Tensor) -> None:
    y = resize(x, low, protocol)
    start = torch.rand(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    projected = project(start, y, protocol)
    torch.testing.assert_close(resize(projected, low, protocol), y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_projection_is_to_the_nearest_such_image(protocol: Protocol, x: Tensor) -> None:
    start = x.flip(0)
    projected = project(start, resize(x, (16, 16), protocol), protocol)
    torch.testing.assert_close(project(projected, resize(x, (16, 16), protocol), protocol), projected)
    moved, other = projected - start, x - projected  # a right angle: no image with that LR is nearer
    assert (moved * other).sum().abs() < 1e-9 * moved.norm() * other.norm()
    assert pseudo_inverse(64, 16, protocol).shape == (64, 16)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("low", [(8, 8), (16, 16), (32, 32), (21, 13)])
def test_projection_never_costs_psnr_for_an_lr_without_noise(
    low: tuple[int, int], protocol: Protocol, x: Tensor
) -> None:
    y = resize(x, low, protocol)
    starts = [load_method(name)(y.float().clamp(0, 1), (64, 64)).double() for name in ("nearest", "bicubic")]
    for start in [*starts, torch.zeros_like(x), x]:
        before = (start - x).square().mean((1, 2, 3))
        after = (project(start, y, protocol) - x).square().mean((1, 2, 3))
        assert (after <= before + 1e-18).all()


def test_timestep_of_every_scale_the_paper_names() -> None:
    assert [FACES.timestep(scale) for scale in (8, 4, 2)] == [28, 24, 16]
    large = Degradation(size=512, stride=16, steps=30)
    assert [large.timestep(scale) for scale in (16, 8, 4)] == [30, 28, 24]


def test_timestep_is_the_t_that_reduces_by_the_scale() -> None:
    for t in range(1, FACES.steps + 1):
        assert FACES.timestep(128 / FACES.low(128, t)) == t


@pytest.mark.parametrize(
    "degrade", [FACES, Degradation(512, 16, 30), Degradation(32, 8, 3), Degradation(32, 4, 5), Degradation(64, 1, 63)]
)
def test_any_scale_up_to_the_largest_has_the_timestep_that_is_nearest(degrade: Degradation) -> None:
    largest = degrade.size / degrade.lr_size
    for scale in [*np.linspace(1, largest, 500)[1:], 1.0001, largest, largest * (1 + 1e-9)]:
        t = degrade.timestep(float(scale))
        assert 1 <= t <= degrade.steps
        missed = [abs(degrade.low(degrade.size, s) - degrade.size / scale) for s in range(1, degrade.steps + 1)]
        assert missed[t - 1] == pytest.approx(min(missed), abs=1e-9)


def test_timesteps_of_scales_between() -> None:
    assert [FACES.timestep(scale) for scale in (7.99, 6, 3, 1.6, 1.5, 1.01)] == [28, 27, 21, 12, 11, 1]


@pytest.mark.parametrize("scale", [1, 1 - 1e-9, 8.001, 16, 0.5, 0, -2, float("nan"), float("inf")])
def test_a_scale_beyond_the_model_is_refused_with_the_largest(scale: float) -> None:
    with pytest.raises(SizeError) as refused:
        FACES.timestep(scale)
    assert str(refused.value) == (f"this checkpoint (16→128) upscales by more than ×1 and at most ×8, not ×{scale:g}")


def test_one_scale_leads_from_low_to_high_but_for_rounding() -> None:
    assert scale_between((10, 13), (40, 52)) == 4
    assert scale_between((67, 45), (201, 135)) == pytest.approx(3)
    assert 1.5 < scale_between((7, 9), (11, 14)) < 1.6  # 1.6 would be 11.2 and 14.4
    for low, high in (((8, 8), (32, 16)), ((10, 13), (42, 52)), ((10, 13), (38, 53))):
        with pytest.raises(SizeError, match=r"^×[\d.]+ across and ×[\d.]+ down: one scale is needed$"):
            scale_between(low, high)


def test_rounded_sides_are_one_scale_whatever_the_image_s_shape() -> None:
    drawn = np.random.default_rng(0)
    shapes = [(1, 31), (500, 3000), (1000, 50), *drawn.integers(1, 4000, (500, 2)).tolist()]
    for height, width in shapes:
        for scale in (1.333, 1.6, 2.5, float(drawn.uniform(1.2, 8))):
            found = scale_between((height, width), (round(height * scale), round(width * scale)))
            assert found == pytest.approx(scale, abs=0.5 / max(height, width) + 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_pass_through_after_inference_at_the_same_size(dtype: torch.dtype) -> None:
    degrade = Degradation(size=44, stride=4, steps=6)
    x = torch.rand(1, 3, 44, 44, dtype=dtype)
    with torch.inference_mode():
        degrade(x, 3)
        project(x, resize(x, (11, 11), "reference"), "reference")
    x.requires_grad_()
    moved = project(x, resize(x, (11, 11), "reference"), "reference")
    (gradient,) = torch.autograd.grad((degrade(x, 3) + moved).sum(), x)
    assert gradient.isfinite().all()


def test_sides_divide_or_are_refused() -> None:
    assert downscale_size((512, 384), 4) == (128, 96)
    assert downscale_size((90, 60), 1.5) == (60, 40)
    assert downscale_size((13, 7), 1) == (13, 7)
    with pytest.raises(SizeError, match="65×64 is no multiple of the scale 4"):
        downscale_size((64, 65), 4)
    with pytest.raises(SizeError, match="4×4 is no multiple of the scale 8"):
        downscale_size((4, 4), 8)


def test_matrices_are_kept_up_to_so_many_bytes_those_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtls.degradations.resize.CACHE_BYTES", 24)
    made: list[int] = []

    @kept
    def counted(n: int) -> Tensor:
        made.append(n)
        return torch.zeros(n, dtype=torch.float64)

    for n in (1, 2, 1, 2, 1):  # 8 and 16 bytes
        counted(n)
    assert made == [1, 2]
    counted(4)  # 32 bytes are more than there may be
    counted(1)
    assert made == [1, 2, 4]
    counted(1 + 0)
    counted(n=2)  # named otherwise, so it is made again, and the one that was used least recently goes
    assert made == [1, 2, 4, 2]
    counted(1)
    assert made == [1, 2, 4, 2]
    counted(2)
    assert made == [1, 2, 4, 2, 2]


@pytest.mark.parametrize("spec", ["antialias:4", "reference:2", "antialias:1.5"])
def test_a_scale_is_a_family_of_its_own(spec: str, x: Tensor) -> None:
    protocol, _, scale = spec.partition(":")
    family = operator_of(spec, 6)
    assert isinstance(family, Degradation)
    assert (family.protocol, family.steps, family.size / family.lr_size) == (protocol, 6, float(scale))
    low = round(48 / float(scale))
    y = family.observe(x[..., :48, :48])
    torch.testing.assert_close(y, resize(x[..., :48, :48], (low, low), family.protocol), rtol=0, atol=0)
    assert family.lift(y).shape[-2:] == (48, 48)
    assert family.lift(y, Info(size=(47, 49))).shape[-2:] == (47, 49)


def test_a_part_of_the_strength_is_a_timestep_between(x: Tensor) -> None:
    degrade = Degradation(size=64, stride=4, steps=14)
    torch.testing.assert_close(degrade(x, 2.5), degrade.lift(resize(x, (54, 54), "reference"), Info(size=(64, 64))))
    together = degrade(x[:2], [2.5, 3])
    torch.testing.assert_close(together, torch.cat([degrade(x[:1], 2.5), degrade(x[1:2], 3)]), rtol=0, atol=1e-12)
