"""Checkpoints of other degradations than resizing restore images at the size they have."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.degradations.registry import operator_of
from dtls.errors import SamplingError, SizeError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.dtls import DTLS

SPECS = ("grey", "mask", "blur:2", "dark:0.25", "noise:0.1", "blur:1+noise:0.02")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for each of SPECS."""
    root = tmp_path_factory.mktemp("models")
    for spec in SPECS:
        torch.manual_seed(0)
        model = DTLS(dim=4, multipliers=(1, 2), size=16, steps=4, degradation=spec)
        save_checkpoint(model, root / spec)
    return root


def images(n: int = 2, channels: int = 3, height: int = 19, width: int = 30) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(1))


def holes(n: int = 2, height: int = 19, width: int = 30) -> Tensor:
    """(n, 1, height, width), another one for each image."""
    found = torch.zeros(n, 1, height, width)
    for place in range(n):
        found[place, :, 3 + place : 9, 4 : 12 + place] = 1
    return found


@pytest.mark.parametrize("spec", SPECS)
def test_a_checkpoint_says_what_it_undoes_and_takes_images_of_any_sides(spec: str, folder: Path) -> None:
    method = Trained(folder / spec, sampling=Sampling(projected=operator_of(spec).projects))
    assert (method.degradation, method.max_scale, method.takes_same_size) == (spec, 1, True)
    assert (method.needs_mask, method.grey_only) == (spec == "mask", spec == "grey")
    assert method.identity["protocol"] == spec
    for channels in (1,) if spec == "grey" else (1, 3):
        y = images(channels=channels)
        made = method(y, (19, 30), holes() if spec == "mask" else None)
        assert made.shape == (2, 3 if spec == "grey" else channels, 19, 30)
        assert 0 <= made.min() <= made.max() <= 1
        assert not torch.equal(made[:, :channels], y)


def test_colour_keeps_the_luma_of_each_pixel_and_without_projection_not_quite(folder: Path) -> None:
    grey, y = operator_of("grey"), images(channels=1) * 0.6 + 0.2
    exact, free = (Trained(folder / "grey", sampling=Sampling(projected=p))(y, (19, 30)) for p in (True, False))
    assert grey.misfit(exact, y).max() < 2e-6 < 1e-3 < grey.misfit(free, y).min()
    assert (exact - exact.mean(1, keepdim=True)).abs().max() > 1e-3


def test_holes_are_filled_and_all_else_stays_bit_by_bit(folder: Path) -> None:
    y, mask, method = images(), holes(), Trained(folder / "mask")
    made = method(y, (19, 30), mask)
    assert torch.equal(torch.where(mask > 0, 0, made), torch.where(mask > 0, 0, y))
    assert torch.equal(made, method(torch.where(mask > 0, 0.5, y), (19, 30), mask))  # what is in the hole is unknown
    with pytest.raises(SizeError, match="a mask says where they are"):
        method(y, (19, 30))


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["mask", "noise:0.1"])
def test_an_image_is_restored_alike_in_a_batch_alone_and_in_tiles(spec: str, folder: Path) -> None:
    method = Trained(folder / spec)
    y, mask = images(2, height=24, width=32), holes(2, 24, 32) if spec == "mask" else None
    together = method(y, (24, 32), mask)
    for place in range(2):
        own = mask[place : place + 1] if mask is not None else None
        assert (together[place : place + 1] - method(y[place : place + 1], (24, 32), own)).abs().max() < 1e-5
    long = images(1, height=8, width=300)
    wide = torch.zeros(1, 1, 8, 300)
    wide[..., 2:5, 40:260:9] = 1
    whole, tiled = (
        Trained(folder / spec, sampling=Sampling(tile=tile))(long, (8, 300), wide if spec == "mask" else None)
        for tile in (1024, 128)
    )
    assert 0 < (whole - tiled).abs().mean() < 0.05


def test_a_part_of_the_strength_is_another_start_and_has_its_own_name(folder: Path) -> None:
    whole, half = (Trained(folder / "dark:0.25", sampling=Sampling(strength=s)) for s in (1, 0.4))
    y = images()
    assert not torch.equal(whole(y, (19, 30)), half(y, (19, 30)))
    assert whole.identity.keys() - half.identity.keys() == set()
    assert half.identity.keys() - whole.identity.keys() == {"strength"}
    assert half.identity["protocol"] != whole.identity["protocol"]
    faded = Trained(folder / "grey", sampling=Sampling(strength=0.5))
    assert not faded.grey_only
    assert faded(y, (19, 30)).shape == y.shape


def test_a_seed_that_changes_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(SamplingError, match=r"with the sampler one-call, dtls draws nothing, so that a seed changes"):
        Trained(folder / "noise:0.1", sampling=Sampling(seed=1))
    y = images()
    first, second = (Trained(folder / "noise:0.1", sampling=Sampling(sampler="current", seed=s)) for s in (1, 2))
    assert not torch.equal(first(y, (19, 30)), second(y, (19, 30)))


def test_results_are_projected_at_the_full_strength_alone(folder: Path) -> None:
    with pytest.raises(SamplingError, match=r"results are projected at the full strength, not 0\.5"):
        Trained(folder / "grey", sampling=Sampling(projected=True, strength=0.5))


def test_a_model_that_enlarges_has_no_strength(tmp_path: Path) -> None:
    save_checkpoint(DTLS(dim=4, multipliers=(1,), size=16, stride=4, steps=3), tmp_path)
    with pytest.raises(SamplingError, match=r"enlarges images, so that a strength of 0\.5 is none"):
        Trained(tmp_path, sampling=Sampling(strength=0.5))
