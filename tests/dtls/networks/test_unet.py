"""The U-Net is the authors', parameter for parameter and image for image."""

import pytest
import torch
from torch import Tensor

from dtls.models.dtls import DTLS
from dtls.networks.unet import UNet
from dtls.training.presets import PRESETS


@pytest.mark.parametrize(("preset", "parameters"), [("16-128", 56_615_708), ("32-512", 73_260_508)])
def test_presets_have_as_many_parameters_as_the_authors(preset: str, parameters: int) -> None:
    config = PRESETS[preset].model
    with torch.device("meta"):
        unet = UNet(config.dim, config.multipliers)
    assert sum(p.numel() for p in unet.parameters()) == parameters


def test_what_is_no_parameter_is_there_where_parameters_are_only_counted() -> None:
    """On meta, torch would import its compiler for it: more than a second of each start with a checkpoint."""
    with torch.device("meta"):
        unet = UNet(8, (1, 2))
    assert {buffer.device.type for buffer in unet.buffers()} == {"cpu"}


def test_output_is_that_of_the_authors_code(model: DTLS, expected: dict[str, Tensor]) -> None:
    for t, output in zip(expected["unet_t"].tolist(), expected["unet_out"], strict=True):
        degraded = model.degradation(expected["x"], t)
        torch.testing.assert_close(model(degraded, torch.full((4,), t)), output, rtol=0, atol=1e-5)


def test_a_t_for_each_image_gives_what_one_t_for_all_gives(model: DTLS, expected: dict[str, Tensor]) -> None:
    x, steps = expected["x"].double(), torch.tensor([6, 1, 4, 6])
    together = model.double()(x, steps)
    for n in range(4):
        torch.testing.assert_close(model(x[n : n + 1], steps[n : n + 1])[0], together[n], rtol=0, atol=1e-10)


def test_loss_is_that_of_the_authors_code(model: DTLS, expected: dict[str, Tensor]) -> None:
    x, t = expected["x"], expected["loss_t"]
    prediction = model(model.degradation(x, t), t)
    assert torch.nn.functional.l1_loss(prediction, x).item() == pytest.approx(expected["loss"].item(), abs=1e-6)


@pytest.mark.parametrize("sides", [(32, 32), (4, 4), (64, 20)])
def test_any_multiple_of_its_levels_goes_through(model: DTLS, sides: tuple[int, int]) -> None:
    assert model.unet.multiple == 4
    assert model(torch.zeros(2, 3, *sides), torch.tensor([1, 6])).shape == (2, 3, *sides)


def test_a_residual_network_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(UNet(8, (1, 2), residual=True)(x, torch.tensor([1, 2])), x)


@pytest.mark.parametrize("dim", [2, 7, 0, -8])
def test_a_width_that_cannot_be_is_refused(dim: int) -> None:
    with pytest.raises(ValueError, match=f"dim must be even and at least 4, not {dim}"):
        UNet(dim, (1, 2))


@pytest.mark.parametrize("multipliers", [(), (2, 4), (1, 0), (1, -2)])
def test_multipliers_that_cannot_be_are_refused(multipliers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="dim_mults must be positive and start with 1"):
        UNet(8, multipliers)


@pytest.mark.parametrize("patch", [1, 2])
def test_conditions_are_seen_behind_the_image_and_are_no_part_of_the_result(patch: int) -> None:
    torch.manual_seed(0)
    unet, x, t = UNet(8, (1, 2), residual=True, patch=patch, conditions=3), torch.rand(2, 6, 16, 16), torch.ones(2)
    assert torch.equal(unet(x, t), x[:, :3])
    torch.nn.init.normal_(unet.rgb.weight)
    other = torch.cat((x[:, :3], x[:, 3:].flip(0)), 1)
    made = unet(x, t)
    assert made.shape == (2, 3, 16, 16)
    assert (unet(other, t) - made).abs().max() > 1e-3


def test_without_conditions_the_weights_are_what_they_were() -> None:
    plain = UNet(8, (1, 2), patch=2).state_dict()
    seeing = UNet(8, (1, 2), patch=2, conditions=1).state_dict()
    assert plain["encoder.0.block1.depthwise.weight"].shape == (12, 1, 7, 7)
    widened = {name for name, tensor in seeing.items() if tensor.shape != plain[name].shape}
    assert plain.keys() == seeing.keys()
    assert {name.removeprefix("encoder.0.block1.").partition(".")[0] for name in widened} == {
        "depthwise",
        "shift",
        "expand",
        "shortcut",
    }


def test_conditions_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="conditions are at least 0 channels, not -1"):
        UNet(8, (1, 2), conditions=-1)
