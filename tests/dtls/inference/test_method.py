"""Methods do what their names say, and are found by them; what dtls does is in test_domain_transfer."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.resize import resize
from dtls.errors import CheckpointError, SizeError
from dtls.inference.degrade import Downscaling
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.registry import INTERPOLATIONS, MODELS

PILLOW = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}


def unit(images: Tensor) -> Tensor:
    return images.float() / 255


@pytest.mark.parametrize("size", [(256, 256), (128, 192), (130, 67), (64, 64), (32, 21)])
@pytest.mark.parametrize("name", PILLOW)
def test_smooth_interpolations_are_pillow_s_but_for_rounding(
    name: str, size: tuple[int, int], images: Tensor
) -> None:
    for lr in images:
        pillow = Image.fromarray(lr.permute(1, 2, 0).numpy()).resize(size[::-1], PILLOW[name])
        ours = (load_method(name)(unit(lr)[None], size)[0] * 255).round().permute(1, 2, 0)
        np.testing.assert_allclose(ours.numpy(), np.asarray(pillow), rtol=0, atol=1)


@pytest.mark.parametrize("size", [(256, 256), (128, 192), (64, 64), (320, 64)])
def test_nearest_at_whole_scales_is_pillow_s(size: tuple[int, int], images: Tensor) -> None:
    for lr in images:
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


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_interpolations_take_any_channels_each_for_itself(name: str, channels: int, images: Tensor) -> None:
    lr = unit(images)[:channels, :1].transpose(0, 1)
    sr = load_method(name)(lr, (100, 130))
    each = [load_method(name)(channel[:, None], (100, 130)) for channel in lr.unbind(1)]
    assert torch.equal(sr, torch.cat(each, 1))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolations_leave_their_images_alone(name: str, images: Tensor) -> None:
    lr = unit(images) * 1.5  # what is cut to [0, 1] would show
    before = lr.clone()
    for size in ((64, 64), (64, 128), (128, 64)):
        load_method(name)(lr, size)
        assert torch.equal(lr, before)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_downscaling_is_a_of_its_protocol(protocol: Protocol, images: Tensor) -> None:
    method = Downscaling(protocol)
    lr = method(unit(images), (16, 16))
    torch.testing.assert_close(lr, resize(unit(images), (16, 16), protocol).clamp(0, 1))
    assert lr.min() >= 0
    assert lr.max() <= 1
    with pytest.raises(SizeError, match="one scale is needed"):
        method(unit(images), (16, 12))


@pytest.mark.slow
def test_dtls_is_the_checkpoint_s_and_samples_as_told(imported: Path, images: Tensor) -> None:
    how = Sampling(sampler="one-call", projected=True)
    method = load_method("dtls", imported, "cpu", how)
    assert isinstance(method, Trained)
    assert method.sampling == how
    assert load_method("dtls", imported).identity == Trained(imported).identity
    lr = unit(images)[:2, :, :8, :8]
    assert torch.equal(method(lr, (32, 32)), Trained(imported, sampling=how)(lr, (32, 32)))


@pytest.mark.slow
def test_identities_differ_where_results_do(imported: Path) -> None:
    methods = [
        *(load_method(name) for name in INTERPOLATIONS),
        *(Downscaling(protocol) for protocol in PROTOCOLS),
        load_method("dtls", imported),
        load_method("dtls", imported, sampling=Sampling(projected=True)),
    ]
    assert len({str(dict(method.identity)) for method in methods}) == len(methods)
    assert load_method("dtls", imported).identity == load_method("dtls", imported).identity


def test_methods_declare_what_they_can_do(imported: Path) -> None:
    trained = load_method("dtls", imported)
    assert (trained.is_learned, trained.uses_gpu, trained.channelwise, trained.is_stochastic) == (
        True,
        True,
        False,
        False,
    )
    assert (trained.scale, trained.max_scale, trained.degradation, trained.multiple) == (None, 4, "reference", 4)
    assert trained.max_pixels == Sampling().tile ** 2
    smooth, copying = load_method("bicubic"), load_method("nearest")
    assert (smooth.is_learned, smooth.channelwise, smooth.copies, copying.copies) == (False, True, False, True)
    random, linear = Downscaling("realworld"), Downscaling("antialias")
    assert (random.is_stochastic, random.degradation, linear.is_stochastic) == (True, "realworld", False)


def test_a_scale_beyond_what_a_method_declares_is_refused() -> None:
    method = load_method("bicubic")
    method.check_scale(64)
    method.max_scale = 3
    with pytest.raises(SizeError, match="bicubic upscales by at most ×3, not ×4"):
        method.check_scale(4)


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValueError,
        match=re.escape(
            "unknown method 'magic'; known: nearest, bilinear, bicubic, lanczos, membrane, inverse, "
            f"{', '.join(MODELS)}, spandrel"
        ),
    ):
        load_method("magic")


def test_a_trained_method_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    for name in ("dtls", "spandrel"):
        with pytest.raises(ValueError, match=f"the method {name} needs a checkpoint"):
            load_method(name)
    with pytest.raises(CheckpointError, match=r"no config\.json there"):
        load_method("dtls", tmp_path)
