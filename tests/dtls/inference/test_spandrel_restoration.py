"""Models of other architectures that return images at their size: restored as the model does it, holes filled."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dtls.compat import allow_torchvision_import
from dtls.errors import CheckpointError, SamplingError, SizeError
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling
from dtls.inference.spandrel import SpandrelModel
from tests.dtls.inference.test_spandrel import noise, saved, seeded

UNET = {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}
FOUR = {"nc": [8, 8, 8, 8], "nb": 2}
RESTORERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "NAFNet": ("NAFNet", UNET),
    "FBCNN": ("FBCNN", FOUR | {"nc": [8, 8, 8, 512]}),  # its judge of the quality is as wide
    "KBNet": ("KBNet_s", UNET),
    "DRUNet": ("DRUNet", FOUR | {"in_nc": 4, "out_nc": 3}),
    "DnCNN": ("DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 9, "act_mode": "R"}),
    "IPT": ("IPT", {"patch_size": 12, "n_feats": 12, "num_layers": 1}),
    "DITN": ("DITN", {"dim": 12, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 1}),
    "MixDehazeNet": ("MixDehazeNet", {"embed_dims": [8, 16, 24, 16, 8], "depths": [1, 1, 1, 1, 1]}),
    "RetinexFormer": ("RetinexFormer", {"n_feat": 8, "stage": 1}),
    "HVICIDNet": ("HVICIDNet", {"channels": [8, 8, 16, 32], "heads": [1, 2, 2, 4]}),
    "SAFMNBCIE": ("SAFMNBCIE", {"dim": 8, "n_blocks": 1, "num_layers": 1}),
    "SCUNet": ("SCUNet", {"config": [1] * 7}),
    "Uformer": ("Uformer", {"embed_dim": 8, "depths": [1] * 9, "num_heads": [1] * 9}),
    "FFTformer": ("FFTformer", {"num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
}
"""By the architecture: the class of its networks, and what makes a tiny one."""


allow_torchvision_import()


def built(name: str, kind: str, how: Mapping[str, Any]) -> nn.Module:
    network: Callable[..., nn.Module] = getattr(import_module(f"spandrel.architectures.{name}"), kind)
    return seeded(partial(network, **how))


@pytest.fixture
def lama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of a LaMa of one narrow block; a real one has eighteen, and its width is not in the file."""
    architecture = import_module("spandrel.architectures.LaMa.__arch.LaMa")
    generator = partial(architecture.FFCResNetGenerator, ngf=8, n_blocks=1)
    monkeypatch.setattr(architecture, "FFCResNetGenerator", generator)
    return saved(built("LaMa", "LaMa", {"in_nc": 4}), tmp_path / "lama.safetensors")


def holes(*shape: int) -> Tensor:
    """A mask with a hole in another place for each image."""
    mask = torch.zeros(shape)
    for i, one in enumerate(mask):
        one[..., 4 + 3 * i : 12 + 3 * i, 5 : 20 - 2 * i] = 1
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("name", RESTORERS)
def test_a_restorer_returns_images_at_their_size(name: str, tmp_path: Path) -> None:
    method = load_method("spandrel", saved(built(name, *RESTORERS[name]), tmp_path / "model.pth"))
    assert isinstance(method, SpandrelModel)
    assert (method.name, method.scale, method.max_scale) == (f"spandrel-{name}", 1, 1)
    assert (method.takes_same_size, method.needs_mask) == (True, False)
    x = noise(2, 3, 21, 30)
    made = method(x, (21, 30))
    assert made.shape == x.shape
    assert made.min() >= 0
    assert made.max() <= 1
    torch.testing.assert_close(made[:1], method.model(x[:1]), rtol=0, atol=1e-4)
    grey = method(x[:1, :1], (21, 30))
    torch.testing.assert_close(grey, method(x[:1, :1].expand(-1, 3, -1, -1), (21, 30)).mean(1, keepdim=True))


def test_a_grey_restorer_takes_each_channel_as_an_image_of_its_own(tmp_path: Path) -> None:
    network = built("DRUNet", "DRUNet", FOUR | {"in_nc": 2, "out_nc": 1})
    method = SpandrelModel(saved(network, tmp_path / "grey.pth"))
    x = noise(2, 3, 21, 30)
    each = [method(channel[:, None], (21, 30)) for channel in x.unbind(1)]
    torch.testing.assert_close(method(x, (21, 30)), torch.cat(each, 1))


@pytest.mark.parametrize("name", ["DRUNet", "DnCNN"])
def test_a_network_that_is_given_the_level_of_the_noise_is_given_the_task_s(name: str, tmp_path: Path) -> None:
    how = {"in_nc": 4, "out_nc": 3} | (FOUR if name == "DRUNet" else {"nc": 8, "nb": 9, "mode": "FDnCNN"})
    network = built(name, name, how)
    path, x = saved(network, tmp_path / "model.pth"), noise(2, 3, 24, 32)
    told, untold, same = (SpandrelModel(path, sampling=Sampling(noise=level)) for level in (0.1, None, 15 / 255))
    with torch.inference_mode():
        bare = network(torch.cat((x, torch.full_like(x[:, :1], 0.1)), 1)).clamp(0, 1)
    torch.testing.assert_close(told(x, (24, 32)), bare, rtol=0, atol=1e-6)
    torch.testing.assert_close(same(x, (24, 32)), untold(x, (24, 32)), rtol=0, atol=1e-6)
    assert told.identity == {**untold.identity, "noise": "0.1"}


def test_the_level_of_the_noise_means_nothing_to_other_networks(tmp_path: Path) -> None:
    path = saved(built("NAFNet", "NAFNet", UNET), tmp_path / "nafnet.pth")
    assert SpandrelModel(path, sampling=Sampling(noise=0.1)).identity == SpandrelModel(path).identity


def test_large_images_are_restored_in_tiles(tmp_path: Path) -> None:
    path = saved(built("NAFNet", "NAFNet", UNET), tmp_path / "nafnet.pth")
    method = SpandrelModel(path, sampling=Sampling(tile=128))
    seen: list[tuple[int, ...]] = []
    method.model.model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    assert method(noise(1, 3, 100, 200), (100, 200)).shape == (1, 3, 100, 200)
    assert seen == [(100, 128)] * 2


def test_holes_are_filled_and_all_else_stays(lama: Path) -> None:
    method = load_method("spandrel", lama)
    assert (method.name, method.needs_mask, method.takes_same_size, method.max_scale) == (
        "spandrel-LaMa",
        True,
        True,
        1,
    )
    x, mask = noise(2, 3, 21, 30), holes(2, 1, 21, 30)
    made = method(x, (21, 30), mask)
    known = mask.expand_as(x) == 0
    assert torch.equal(made[known], x[known])
    assert (made[~known] - x[~known]).abs().mean() > 0.01
    assert torch.equal(method(torch.where(known, x, 0.3), (21, 30), mask), made), "what is in a hole is not looked at"


def test_a_hole_is_filled_the_same_beside_other_masks(lama: Path) -> None:
    method = load_method("spandrel", lama)
    x, mask = noise(3, 3, 21, 30), holes(3, 1, 21, 30)
    mask[2] = 0
    alone = [method(one, (21, 30), hole) for one, hole in zip(x.split(1), mask.split(1), strict=True)]
    assert torch.equal(method(x, (21, 30), mask), torch.cat(alone))
    assert torch.equal(alone[2], x[2:])


def test_a_grey_image_is_filled_in_grey(lama: Path) -> None:
    x, mask = noise(1, 1, 21, 30), holes(1, 1, 21, 30)
    made = load_method("spandrel", lama)(x, (21, 30), mask)
    assert made.shape == x.shape
    assert torch.equal(made[mask == 0], x[mask == 0])


def test_tiles_without_a_hole_are_not_computed(lama: Path) -> None:
    method = SpandrelModel(lama, sampling=Sampling(tile=128))
    seen: list[tuple[int, ...]] = []
    method.model.model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    x, mask = noise(1, 3, 40, 300), holes(1, 1, 40, 300)
    made = method(x, (40, 300), mask)
    assert seen == [(40, 128)]
    assert torch.equal(made[..., 20:], x[..., 20:])


def test_holes_without_a_mask_are_refused(lama: Path) -> None:
    with pytest.raises(SizeError, match="spandrel-LaMa fills holes: a mask says where they are"):
        load_method("spandrel", lama)(noise(1, 3, 21, 30), (21, 30))


def test_fourier_transforms_compute_in_fp32(lama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SamplingError, match=re.escape(f"{lama}: LaMa cannot compute in bf16; say fp32")):
        SpandrelModel(lama, sampling=Sampling(precision="bf16"))
    monkeypatch.setattr("dtls.inference.spandrel.best_precision", lambda wish, device: "bf16")  # as on a GPU
    assert SpandrelModel(lama).identity["precision"] == "fp32"


@pytest.mark.slow
def test_weights_of_another_count_of_blocks_are_refused(lama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=re.escape(f"{lama}: its weights do not make a model (")):
        SpandrelModel(lama)


def test_a_file_whose_names_count_far_more_layers_than_it_has_is_refused(tmp_path: Path) -> None:
    """Architectures make as many layers as the largest number in a name says, which would fill the memory."""
    weights = built("NAFNet", "NAFNet", UNET).state_dict()
    last = "middle_blks.0."
    far = {name.replace(last, "middle_blks.400."): torch.zeros(0) for name in weights if name.startswith(last)}
    torch.save(weights | far, tmp_path / "far.pth")
    with pytest.raises(CheckpointError, match=r"\(describes a larger model than its weights are of\)"):
        load_method("spandrel", tmp_path / "far.pth")
