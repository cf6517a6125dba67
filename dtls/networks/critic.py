"""The critic of a GAN stage: it tells true images from predicted ones, patch by patch, and is trained beside.

The losses are ESRGAN's relativistic ones (1809.00219 §3.2), the network is PatchGAN's (1611.07004).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

WIDTHS = (64, 128, 256)


class Critic(nn.Module):
    """How true each patch of images (N, 3, H, W) in [0, 1] looks: logits (N, 1, H / 8, W / 8)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x * 2 - 1)
        return logits

    def losses(self, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """The model's loss, which moves no weight of the critic, and the critic's, which moves none of the model."""
        frozen = {name: weight.detach() for name, weight in self.named_parameters()}
        of_predicted = functional_call(self, frozen, (predicted,))
        with torch.no_grad():
            of_true = functional_call(self, frozen, (true,))
        fooled = _told_apart(of_predicted, of_true)
        return fooled, _told_apart(self(true), self(predicted.detach()))


def _told_apart(more: Tensor, less: Tensor) -> Tensor:
    """Cross-entropy of `more` being truer than the average of `less`, and the other way round."""
    first, second = more - less.mean(), less - more.mean()
    return (F.softplus(-first).mean() + F.softplus(second).mean()).float() / 2
