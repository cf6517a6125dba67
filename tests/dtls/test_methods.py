"""Methods do what their names say, at every size they accept, and refuse the others in a line."""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.checkpoint import DTLS, CheckpointError, ModelConfig, save_checkpoint
from dtls.degradation import PROTOCOLS, Protocol, SizeError, resize
from dtls.methods import INTERPOLATIONS, DomainTransfer, Downscaling, load_method
from dtls.sampler import step_by_step

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.fixture(scope="module", params=PROTOCOLS)
def untrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of either protocol, 8→32 with stride 4, whose networks give back what they get."""
    folder = tmp_path_factory.mktemp("untrained")
    config = ModelConfig(8, (1, 2, 2, 2), residual=True, size=32, stride=4, steps=6, protocol=request.param)
    save_checkpoint(DTLS(**asdict(config)), folder)
    return folder


def unit(pictures: Tensor) -> Tensor:
    return pictures.float() / 255


@pytest.mark.parametrize("size", [(256, 256), (128, 192), (130, 67), (64, 64), (32, 21)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_smooth_interpolations_are_pillow_s_but_for_rounding(
    name: str, size: tuple[int, int], pictures: Tensor
) -> None:
    for lr in pictures:
        pillow = Image.fromarray(lr.permute(1, 2, 0).numpy()).resize(size[::-1], PILLOW[name])
        ours = (load_method(name)(unit(lr)[None], size)[0] * 255).round().permute(1, 2, 0)
        np.testing.assert_allclose(ours.numpy(), np.asarray(pillow), rtol=0, atol=1)


@pytest.mark.parametrize("size", [(256, 256), (128, 192), (64, 64), (320, 64)])
def test_nearest_at_whole_scales_is_pillow_s(size: tuple[int, int], pictures: Tensor) -> None:
    for lr in pictures:
        pillow = Image.fromarray(lr.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.NEAREST)
        ours = load_method("nearest")(unit(lr)[None], size)[0].permute(1, 2, 0) * 255
        np.testing.assert_array_equal(ours.round().numpy(), np.asarray(pillow))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolations_stay_in_range(name: str) -> None:
    edges = torch.zeros(1, 3, 8, 8)
    edges[..., 4:] = 1
    sr = load_method(name)(edges, (32, 32))
    assert sr.min() == 0
    assert sr.max() == 1


def test_dtls_is_the_authors_sampler(imported: Path, expected: dict[str, Tensor]) -> None:
    lr = resize(expected["x"], (8, 8), "reference")
    sr = load_method("dtls", imported)(lr, (32, 32))
    torch.testing.assert_close(sr, expected["sr"].clamp(0, 1), rtol=0, atol=1e-5)


def test_dtls_starts_at_the_timestep_of_the_scale(imported: Path, model: DTLS, pictures: Tensor) -> None:
    lr = resize(unit(pictures), (32, 32), "reference")
    enlarged = resize(lr, (64, 64), "reference")
    expected = step_by_step(model, model.degradation, enlarged, 4).clamp(0, 1)
    torch.testing.assert_close(load_method("dtls", imported)(lr, (64, 64)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize(
    ("sides", "size"),
    [((10, 13), (40, 52)), ((13, 10), (26, 20)), ((48, 32), (192, 128)), ((1, 1), (4, 4)), ((21, 7), (24, 8))],
)
def test_dtls_gives_exactly_the_size_wanted(
    sides: tuple[int, int], size: tuple[int, int], projected: bool, imported: Path, pictures: Tensor
) -> None:
    lr = unit(pictures)[:2, :, : sides[0], : sides[1]]
    sr = load_method("dtls", imported, projected=projected)(lr, size)
    assert sr.shape == (2, 3, *size)
    assert sr.min() >= 0
    assert sr.max() <= 1


@pytest.mark.parametrize(("sides", "scale"), [((16, 16), 4), ((10, 13), 4), ((10, 13), 2), ((7, 9), 2)])
def test_a_projected_result_is_reduced_to_its_lr(
    sides: tuple[int, int], scale: int, untrained: Path, pictures: Tensor
) -> None:
    soft = 0.4 + 0.2 * unit(pictures)  # far from 0 and 1, where results are cut
    method = DomainTransfer(untrained, projected=True)
    protocol = method.model.config.protocol
    lr = resize(soft[..., : sides[0] * scale, : sides[1] * scale], sides, protocol)
    sr = method(lr, (sides[0] * scale, sides[1] * scale))
    assert sr.min() > 0
    assert sr.max() < 1
    torch.testing.assert_close(resize(sr, sides, protocol), lr, rtol=0, atol=1e-5)


def test_a_scale_beyond_the_checkpoint_is_refused_with_those_it_can_do(imported: Path) -> None:
    method = load_method("dtls", imported)
    says = r"\(8→32, stride 4\) cannot do ×[\d.]+; it does ×2, 4 and every ×32"
    for size in ((24, 24), (64, 64), (8, 8), (33, 33)):
        with pytest.raises(SizeError, match=says) as refused:
            method(torch.rand(1, 3, 8, 8), size)
        assert "\n" not in str(refused.value)


def test_two_scales_at_once_are_refused(imported: Path) -> None:
    with pytest.raises(SizeError, match="×2 across and ×4 down: one scale is needed"):
        load_method("dtls", imported)(torch.rand(1, 3, 8, 8), (32, 16))


def test_a_picture_too_large_for_the_model_is_refused(imported: Path) -> None:
    with pytest.raises(SizeError, match="4096×2048 is more than the 4,194,304 pixels"):
        load_method("dtls", imported)(torch.zeros(1, 3, 1, 1).expand(1, 3, 512, 1024), (2048, 4096))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_downscaling_is_a_of_its_protocol(protocol: Protocol, pictures: Tensor) -> None:
    method = Downscaling(protocol)
    lr = method(unit(pictures), (16, 16))
    torch.testing.assert_close(lr, resize(unit(pictures), (16, 16), protocol).clamp(0, 1))
    assert lr.min() >= 0
    assert lr.max() <= 1
    with pytest.raises(SizeError, match="one scale is needed"):
        method(unit(pictures), (16, 12))


def test_identities_differ_where_results_do(imported: Path, untrained: Path) -> None:
    methods = [
        *(load_method(name) for name in INTERPOLATIONS),
        *(Downscaling(protocol) for protocol in PROTOCOLS),
        load_method("dtls", imported),
        load_method("dtls", untrained),
        load_method("dtls", imported, projected=True),
    ]
    assert len({str(dict(method.identity)) for method in methods}) == len(methods)
    assert load_method("dtls", imported).identity == load_method("dtls", imported).identity


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match=re.escape("unknown method 'magic'; known: nearest, bilinear, bicubic, dtls")
    ):
        load_method("magic")


def test_dtls_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the method dtls needs a checkpoint"):
        load_method("dtls")
    with pytest.raises(CheckpointError, match=r"no config\.json there"):
        load_method("dtls", tmp_path)
