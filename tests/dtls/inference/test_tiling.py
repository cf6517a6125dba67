"""Any size in the memory there is: tiles leave no seam, and batches, then tiles, are halved until they fit."""

import weakref
from collections.abc import Callable
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import profile

from dtls.choices import SMALLEST, TILE
from dtls.compat import allow_torchvision_import
from dtls.errors import MemoryShortError
from dtls.inference.tiling import OVERLAP, Tiler, tiled, windows

ABOVE = (128, 129, 130, 159, 160, 161, 191, 224, 225, 257, 300)
"""Sides around those where a tile of 128 pixels, sharing 32, becomes two, three and four."""


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def pixel_by_pixel(x: Tensor) -> Tensor:
    return x.square() - 0.5 * x.flip(1)


def neighbourhood(x: Tensor) -> Tensor:
    """What each pixel's neighbours 7 pixels away, of all channels, add up to; 0 beyond the image, as in the U-Net."""
    return enlarging(1)(x)


def cuda_s() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def cpu_s() -> None:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    )


def that_of_this_machine() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


SHORTAGES = (cuda_s, cpu_s, that_of_this_machine)


def enlarging(scale: int) -> Callable[[Tensor], Tensor]:
    """Each pixel becomes scale×scale pixels, each another mixture of its neighbours 7 pixels away in all channels."""
    kernel = torch.randn(3 * scale**2, 3, 3, 3, generator=torch.Generator().manual_seed(1)) / 3
    return lambda x: F.pixel_shuffle(F.conv2d(x, kernel.to(x), padding=7, dilation=7), scale)


def compact() -> Callable[[Tensor], Tensor]:
    """The network of Real-ESRGAN's small models, ×4, random, so that what lies 4 pixels away still counts."""
    allow_torchvision_import()
    from spandrel.architectures.Compact import Compact

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Compact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=6, upscale=4)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                torch.nn.init.normal_(parameter, std=(1.6 / parameter[0].numel()) ** 0.5)
    return torch.inference_mode()(lambda x: network.eval()(x))


class Memory:
    """A function that no more than `pixels` fit into at a time; keeps what it was asked for, (N, H, W)."""

    def __init__(self, pixels: int, shortage: Callable[[], None] = cuda_s) -> None:
        self.pixels, self.shortage = pixels, shortage
        self.asked: list[tuple[int, int, int]] = []
        self.held: list[weakref.ref[Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        self.asked.append((n, height, width))
        assert not any(held() is not None for held in self.held), "what failed holds its memory still"
        if n * height * width > self.pixels:
            activations = x + 1
            self.held.append(weakref.ref(activations))
            self.shortage()
        return pixel_by_pixel(x)


@pytest.mark.parametrize(("tile", "overlap"), [(TILE, OVERLAP), (128, 32), (200, 50), (9, 2), (5, 1)])
def test_windows_cover_all_have_one_size_and_share_the_overlap(tile: int, overlap: int) -> None:
    for n in range(1, 5 * tile):
        found = windows(n, tile, overlap)
        assert (found[0].start, found[-1].stop) == (0, n)
        assert {window.stop - window.start for window in found} == {min(n, tile)}
        assert all(one.stop - other.start >= overlap for one, other in pairwise(found))
        apart = {other.start - one.start for one, other in pairwise(found)}
        assert not apart or max(apart) - min(apart) <= 1
        assert (len(found) - 1) * (tile - overlap) < n or n <= tile  # none too many


@pytest.mark.parametrize("run", [pixel_by_pixel, neighbourhood])
@pytest.mark.parametrize(("height", "width"), [*product(ABOVE[1::3], ABOVE[::3]), (40, 300), (300, 1)])
def test_tiles_put_together_are_the_whole(run: Callable[[Tensor], Tensor], height: int, width: int) -> None:
    x = noise(2, 3, height, width).double()
    torch.testing.assert_close(tiled(run, x, 128), run(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(Tiler(128)(run, x), run(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", ABOVE)
def test_every_side_of_one_window_or_more_is_seamless(n: int) -> None:
    x = noise(1, 3, 8, n)
    torch.testing.assert_close(tiled(pixel_by_pixel, x, 128), pixel_by_pixel(x), rtol=0, atol=1e-6)


def test_neighbouring_tiles_that_disagree_fade_into_each_other() -> None:
    brightness = iter((0.0, 1.0))
    made = tiled(lambda x: torch.full_like(x, next(brightness)), torch.zeros(1, 3, 128, 224), 128)
    row = made[0, 0, 64]
    assert torch.equal(made, row.expand_as(made))
    assert (row[:96] == 0).all()
    assert (row[128:] == 1).all()
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.08


def test_what_fits_into_a_tile_is_made_in_one_piece() -> None:
    memory = Memory(10**9)
    x = noise(3, 3, 100, 128)
    assert torch.equal(Tiler(128)(memory, x), pixel_by_pixel(x))
    Tiler(128)(memory, noise(3, 3, 100, 129))
    assert memory.asked == [(3, 100, 128), (3, 100, 128), (3, 100, 128)]  # whole; two tiles of all three


@pytest.mark.parametrize("shortage", SHORTAGES)
@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_a_batch_too_large_is_halved_before_images_are_cut(n: int, shortage: Callable[[], None]) -> None:
    memory, x = Memory(2 * 300 * 200, shortage), noise(n, 3, 300, 200)
    assert torch.equal(Tiler()(memory, x), pixel_by_pixel(x))
    assert {shape[1:] for shape in memory.asked} == {(300, 200)}
    assert memory.asked[0][0] == n
    assert sum(shape[0] for shape in memory.asked if shape[0] <= 2) == n


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_an_image_too_large_is_made_in_tiles_half_as_large(shortage: Callable[[], None]) -> None:
    memory, x = Memory(300 * 300, shortage), noise(2, 3, 600, 400)
    torch.testing.assert_close(Tiler()(memory, x), pixel_by_pixel(x), rtol=0, atol=1e-6)
    assert memory.asked == [(2, 600, 400), (1, 600, 400), *2 * 6 * [(1, 300, 300)]]


def test_tiles_are_halved_until_they_fit() -> None:
    memory, x = Memory(SMALLEST**2), noise(1, 3, 600, 530)
    torch.testing.assert_close(Tiler(512)(memory, x), pixel_by_pixel(x), rtol=0, atol=1e-6)
    assert memory.asked[:4] == [(1, n, n) for n in (512, 256, 128, 128)]
    assert set(memory.asked[3:]) == {(1, 128, 128)}


@pytest.mark.parametrize("side", [129, 200, 255, 1000])
def test_tiles_of_128_pixels_are_tried_whatever_the_side(side: int) -> None:
    memory, x = Memory(SMALLEST**2), noise(1, 3, side, side)
    torch.testing.assert_close(Tiler()(memory, x), pixel_by_pixel(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shortage", SHORTAGES)
@pytest.mark.parametrize(("height", "width"), [(1100, 1500), (128, 128), (20, 30)])
def test_memory_that_even_the_smallest_tile_exceeds_is_said_in_a_line(
    height: int, width: int, shortage: Callable[[], None]
) -> None:
    memory = Memory(min(SMALLEST**2, height * width) - 1, shortage)
    with pytest.raises(MemoryShortError) as short:
        Tiler()(memory, noise(2, 3, height, width))
    assert str(short.value) == f"{width}×{height}: the memory of cpu does not suffice, not even in tiles"
    assert memory.asked[0][0] == 2
    assert memory.asked[-1] == (1, min(height, SMALLEST), min(width, SMALLEST))


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("a"), OSError()]
)
def test_other_errors_pass_through_untouched(error: Exception) -> None:
    calls = []

    def run(x: Tensor) -> Tensor:
        calls.append(x.shape)
        raise error

    with pytest.raises(type(error)) as passed:
        Tiler()(run, noise(2, 3, 300, 300))
    assert passed.value is error
    assert len(calls) == 1


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(129, 300), (40, 257), (160, 161)])
def test_tiles_of_what_enlarges_are_the_whole(scale: int, height: int, width: int) -> None:
    run, x = enlarging(scale), noise(2, 3, height, width).double()
    assert run(x).shape == (2, 3, scale * height, scale * width)
    torch.testing.assert_close(tiled(run, x, 128, 32, scale), run(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(Tiler(128, scale)(run, x), run(x), rtol=0, atol=1e-6)


def test_a_real_network_in_tiles_makes_the_whole_image() -> None:
    run, x = compact(), noise(1, 3, 150, 170)
    whole = run(x)
    moved = x.clone()
    moved[..., 75, 85] += 0.5
    assert (run(moved) - whole)[..., 4 * 75, 4 * (85 + 6)].abs().max() > 1 / 255  # neighbours count
    assert (Tiler(128, 4)(run, x) - whole).abs().max() <= 1 / 255


def test_the_blend_of_enlarged_tiles_is_as_wide_as_what_they_share() -> None:
    brightness = iter((0.0, 1.0))
    larger = lambda x: x.new_full((1, 3, 2 * 128, 2 * 128), next(brightness))  # noqa: E731
    row = tiled(larger, torch.zeros(1, 3, 128, 224), 128, 32, 2)[0, 0, 128]
    assert (row[: 2 * 104] == 0).all()
    assert (row[2 * 120 :] == 1).all()
    assert 0 < row.diff().max() < 0.04


def test_grey_images_are_tiled_as_they_are() -> None:
    x = noise(2, 1, 150, 170)
    torch.testing.assert_close(Tiler(128)(torch.square, x), x.square(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_what_ran_out_of_memory_is_not_tried_again(shortage: Callable[[], None]) -> None:
    memory, tiler = Memory(300 * 300, shortage), Tiler()
    for n in (1, 2):
        tiler(memory, noise(n, 3, 600, 400))
    assert memory.asked == [(1, 600, 400), *3 * 6 * [(1, 300, 300)]]
    memory.asked.clear()
    tiler(memory, noise(4, 3, 150, 300))  # as many pixels in a batch
    assert memory.asked == [(2, 150, 300), (2, 150, 300)]


def test_an_image_beyond_the_memory_leaves_others_their_tiles() -> None:
    memory, tiler = Memory(1), Tiler()
    with pytest.raises(MemoryShortError):
        tiler(memory, noise(1, 3, 300, 300))
    memory.pixels = 10**9
    memory.asked.clear()
    tiler(memory, noise(1, 3, 300, 300))
    assert memory.asked == [(1, 300, 300)]


@pytest.mark.slow
def test_tiles_take_little_more_memory_than_the_result() -> None:
    x = noise(1, 3, 1024, 1024)
    larger = lambda x: x.repeat_interleave(4, -1).repeat_interleave(4, -2)  # noqa: E731
    with profile(profile_memory=True) as seen:
        result = tiled(larger, x, 128, 32, 4)
    held, most = 0, 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    assert result.nbytes <= most < 1.2 * result.nbytes
