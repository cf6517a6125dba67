"""What is measured in sampling: the models of the paper, images, and the two ways from one to the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.degradations.base import Protocol
from dtls.degradations.path import Degradation
from dtls.devices import accelerated
from dtls.networks.unet import UNet
from dtls.samplers.dtls import current, two_call
from tests.bench.plain import PlainUNet

Weights = dict[str, Tensor]
Network = Callable[[Tensor, Tensor], Tensor]
Sample = Callable[[Tensor], Tensor]
Precision = Literal["fp32", "bf16"]
SEED = 0


@dataclass(frozen=True)
class Shape:
    """A model without its weights: `dtls.checkpoints.checkpoint.ModelConfig`, for which torch alone is not enough."""

    dim: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    residual: bool = False
    size: int = 128
    stride: int = 4
    steps: int = 28
    protocol: Protocol = "reference"

    @property
    def degradation(self) -> Degradation:
        return Degradation(self.size, self.stride, self.steps, self.protocol)

    def plain(self) -> PlainUNet:
        return PlainUNet(self.dim, self.multipliers, residual=self.residual)

    def ours(self) -> UNet:
        return UNet(self.dim, self.multipliers, residual=self.residual)

    def tiny(self) -> "Shape":
        """The same with a network and images that take no time."""
        return replace(self, dim=8, multipliers=self.multipliers[:3], size=32, stride=1)


SHAPES = {
    "16-128": Shape(),
    "32-512": Shape(dim=32, multipliers=(1, 2, 4, 4, 8, 8, 16), size=512, stride=16, steps=30),
}
"""The models of the paper, as `dtls.training.presets` has them."""


def random_weights(shape: Shape, device: str) -> Weights:
    """Random weights, always the same, with a last layer under which a photograph's SR image fills [0, 1].

    Of the network as it is initialised the image would be nearly one grey, and its PSNR would say nothing.
    """
    torch.manual_seed(SEED)
    network = shape.plain().to(device)
    x = shape.degradation(images(1, shape.size).to(device), shape.steps)
    with torch.inference_mode():
        out = network(x, torch.full((1,), shape.steps, device=device))
    with torch.no_grad():
        variance, mean = torch.var_mean(out.clone(), dim=(0, 2, 3))
        scale = 0.2 / variance.sqrt()
        network.rgb.weight.mul_(scale[:, None, None, None])
        bias = network.rgb.bias
        assert bias is not None
        bias.copy_((bias - mean) * scale + 0.5)
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


def trained_weights(folder: Path) -> tuple[Shape, Weights]:
    """The model of a checkpoint and its weights; ValueError where it cannot be sampled by two calls."""
    from dtls.checkpoints.checkpoint import load_checkpoint  # these need more than torch
    from dtls.models.dtls import DTLS

    model = load_checkpoint(folder, DTLS)
    c = model.config
    if c.predicts != "x0":
        raise ValueError(f"{folder}: its network predicts {c.predicts}, so two calls do not do")
    if c.patch != 1:
        raise ValueError(f"{folder}: its network works on patches; the textbook's does not")
    return Shape(c.dim, c.multipliers, c.residual, c.size, c.stride, c.steps, c.protocol), model.unet.state_dict()


def images(count: int, size: int) -> Tensor:
    """`count` images (N, 3, S, S) in [0, 1]: a photograph shrunk to S, and its mirrored and turned views."""
    photograph = F.interpolate(_photograph(), (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    views = [photograph.rot90(turn, (-2, -1)) for turn in range(4)]
    views += [view.flip(-1) for view in views]
    return torch.cat([views[n % len(views)] for n in range(count)])


def images_are_real() -> bool:
    return find_spec("skimage") is not None


def _photograph() -> Tensor:
    """scikit-image's astronaut (1, 3, 512, 512); without scikit-image, smooth noise of that size."""
    if not images_are_real():
        noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(SEED))
        return F.interpolate(noise, (512, 512), mode="bicubic").clamp(0, 1)
    import skimage

    photograph = torch.from_numpy(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    return photograph.permute(2, 0, 1)[None].float() / 255


def plain_network(shape: Shape, weights: Weights, device: str) -> Network:
    """The textbook network: fp32, eager, NCHW."""
    network = shape.plain()
    network.load_state_dict(weights)
    return network.to(device).eval().requires_grad_(False)


def our_network(shape: Shape, weights: Weights, device: str, precision: Precision, *, compiled: bool) -> Network:
    network = shape.ours()
    network.load_state_dict(weights)
    return accelerated(network.eval().requires_grad_(False), device, precision, compiled=compiled)


@torch.inference_mode()
def once(network: Network, x: Tensor, t: Tensor) -> Tensor:
    """One call of the network."""
    return network(x, t)


def plain_sampler(network: Network, shape: Shape) -> Sample:
    """The paper's sampler: all T calls."""
    return torch.inference_mode()(lambda x: current(network, shape.degradation, x, shape.steps))


def our_sampler(network: Network, shape: Shape) -> Sample:
    return torch.inference_mode()(lambda x: two_call(network, shape.degradation, x, shape.steps))
