"""Critics of GANs: they tell true images from made ones, and are trained beside the model that makes these."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

WIDTHS = (64, 128, 256)
SMALLEST = 4
"""Side of what the last layer of a critic of whole images sees, or somewhat more."""


class Critic(nn.Module):
    """How true images (N, C, H, W) in [0, 1] look: logits, higher for truer ones."""

    layers: nn.Sequential

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x * 2 - 1)
        return logits

    def losses(self, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """The model's loss, which moves no weight of the critic, and the critic's, which moves none of the model."""
        raise NotImplementedError

    def frozen(self) -> Callable[[Tensor], Tensor]:
        """The critic as a function that moves none of its weights."""
        weights = {name: weight.detach() for name, weight in self.named_parameters()}
        return lambda x: functional_call(self, weights, (x,))


class PatchCritic(Critic):
    """Of patches: logits (N, 1, H / 8, W / 8), for images that have a true one each.

    The losses are ESRGAN's relativistic ones (1809.00219 §3.2), the network is PatchGAN's (1611.07004).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 3, padding=1))

    def losses(self, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        frozen = self.frozen()
        of_predicted = frozen(predicted)
        with torch.no_grad():
            of_true = frozen(true)
        return _told_apart(of_predicted, of_true), _told_apart(self(true), self(predicted.detach()))


class ImageCritic(Critic):
    """Of whole images with sides of `size` pixels: logits (N, 1, 1, 1). Network and initial weights are DCGAN's
    (1511.06434, §3), with batch normalisation; the losses are those of GANs, for the model the one that does not
    saturate (1406.2661, §3).

    channels: of the images. width: of the first layer; each of the next has twice that of the one before.
    """

    def __init__(self, size: int, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        side = size // 2
        while side >= 2 * SMALLEST:
            layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width)]
            layers.append(nn.LeakyReLU(0.2))
            side, width = side // 2, 2 * width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, side))
        self.apply(small)

    def losses(self, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        fooled = F.softplus(-self.frozen()(predicted)).mean()
        mistaken = F.softplus(-self(true)).mean() + F.softplus(self(predicted.detach())).mean()
        return fooled.float(), mistaken.float()


def small(layer: nn.Module) -> None:
    """Give a layer the initial weights of DCGAN (1511.06434, §4)."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


def _told_apart(more: Tensor, less: Tensor) -> Tensor:
    """Cross-entropy of `more` being truer than the average of `less`, and the other way round."""
    first, second = more - less.mean(), less - more.mean()
    return (F.softplus(-first).mean() + F.softplus(second).mean()).float() / 2
