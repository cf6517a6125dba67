"""Devices and precisions are those asked for or the best there are, and what is fast gives the same image."""

import pytest
import torch
from torch import Tensor, nn

from dtls.devices import accelerated, best_device, best_precision
from dtls.errors import DeviceError
from dtls.models.dtls import DTLS


def test_a_device_that_is_there_is_used_and_auto_is_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert best_device("cpu") == "cpu"
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert best_device("auto") == name


@pytest.mark.parametrize("wish", ["cuda:99", "nonsense", ""])
def test_a_device_that_is_not_there_is_refused_in_a_line(wish: str) -> None:
    with pytest.raises(DeviceError) as refused:
        best_device(wish)
    assert str(refused.value).startswith(f"device {wish}: ")
    assert "\n" not in str(refused.value)


def test_precision_is_what_was_asked_for_and_by_itself_bf16_where_a_gpu_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert best_precision("auto", "cpu") == "fp32"
        assert best_precision("auto", "cuda") == best_precision("auto", "cuda:1") == ("bf16" if able else "fp32")
        assert [best_precision("fp32", device) for device in ("cpu", "cuda")] == ["fp32", "fp32"]
        assert [best_precision("bf16", device) for device in ("cpu", "cuda")] == ["bf16", "bf16"]


def test_in_fp32_the_network_is_itself(model: DTLS, expected: dict[str, Tensor]) -> None:
    t = torch.full((4,), 6)
    plain = model(expected["lr_up"], t)
    fast = accelerated(model, "cpu", "fp32", compiled=False)(expected["lr_up"], t)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


def test_in_bf16_the_network_is_near_itself_and_gives_fp32(model: DTLS, expected: dict[str, Tensor]) -> None:
    t = torch.full((4,), 6)
    exact = accelerated(model, "cpu", "fp32", compiled=False)(expected["lr_up"], t)
    fast = accelerated(model, "cpu", "bf16", compiled=False)(expected["lr_up"], t)
    assert fast.dtype == torch.float32
    assert 1e-9 < (fast - exact).square().mean() < 1e-4  # between 90 and 40 dB
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


def test_the_network_computes_in_channels_last(expected: dict[str, Tensor]) -> None:
    class Convolution(nn.Conv2d):
        def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
            for laid_out in (x, self.weight):
                assert laid_out.is_contiguous(memory_format=torch.channels_last)
            return super().forward(x)

    accelerated(Convolution(3, 4, 3), "cpu", "fp32", compiled=False)(expected["lr_up"].contiguous(), torch.ones(4))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_input_s_layout_makes_no_difference(precision: str, model: DTLS, expected: dict[str, Tensor]) -> None:
    fast = accelerated(model, "cpu", "bf16" if precision == "bf16" else "fp32", compiled=False)
    x, t = expected["lr_up"], torch.tensor([6, 4, 2, 1])
    layouts = [
        x.contiguous(),
        x.contiguous(memory_format=torch.channels_last),
        torch.cat((x, x), dim=-1)[..., :32],
        x.mT.contiguous().mT,
    ]
    assert len({layout.stride() for layout in layouts}) == 4
    first, *others = [fast(layout, t) for layout in layouts]
    assert all(torch.equal(other, first) for other in others)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_autocast_ends_with_the_call(precision: str, model: DTLS, expected: dict[str, Tensor]) -> None:
    accelerated(model, "cpu", "bf16" if precision == "bf16" else "fp32", compiled=False)(
        expected["lr_up"], torch.ones(4)
    )
    assert not torch.is_autocast_enabled("cpu")
