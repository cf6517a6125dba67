"""What latents of diffusion models look like (thesis, Fig. 4.2 and 4.3), and how near they are to N(0, 1).

The models are those of Table 5.1, so that what is trained for one serves the other.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from dtls.devices import best_device
from dtls.inference.pixels import to_pixels, to_unit
from dtls.inference.sampling import Sampling
from dtls.models.latent import Latent
from flows.experiments.experiment import Document, Experiment
from flows.experiments.options import ReproduceOptions
from flows.experiments.reproduction import Reproduction
from flows.inputs.contents import list_images
from flows.inputs.methods import load_checkpointed
from flows.interface.options import command_line
from reports.figures.contact_sheet import contact_sheet_png
from reports.figures.gallery import GalleryImage, GalleryItem
from reports.metrics.kl import kl_by_histogram, kl_by_moments
from reports.tables.render import markdown_table
from storage.archives.source import open_source
from storage.images import decode

MODELS = {"4.2": "VAE-DDPM", "4.3": "VQVAE-DDPM"}
ROWS = 6
"""Images in the figure."""
RANGE = 3.0
"""Standard deviations of a latent that are black, and white."""


class Encoded(NamedTuple):
    """An image (1, 3, S, S) in [0, 1], its latent (1, C, s, s), and the image that is decoded of that."""

    key: str
    image: Tensor
    latent: Tensor
    back: Tensor


class Latents:
    """The latents of one autoencoder."""

    def __init__(self, options: ReproduceOptions) -> None:
        self.options, self.label = options, MODELS[options.table]
        self.table = Reproduction(options.model_copy(update={"table": "5.1"}))
        self.testbed = self.table.testbed
        row = next(row for row in self.table.table.rows if row.label == self.label)
        self.training = self.table.training(row)

    def check(self) -> None:
        self.table.check()

    def document(self) -> Document:
        Experiment(self.testbed).train([self.training])
        found = list(self._encoded())
        size = self.testbed.size
        figure = f"figure-{self.options.table}.png"
        facts = [*self.testbed.counts(), f"{self.training.steps:,} steps", f"{datetime.now(UTC):%Y-%m-%d}"]
        said = " · ".join(facts)
        return Document(
            f"# Thesis, Fig. {self.options.table}: latents of {self.label} at {size}×{size} pixels\n\n"
            f"{said[0].upper()}{said[1:]}\n\n`{command_line('reproduce', self.options)}`\n\n{_table(found)}\n\n"
            "Latents are standardised by each channel's mean and deviation in training, as the diffusion model sees "
            f"them. KL is from N(0, 1), in nats. The figure has ±{RANGE:g} deviations from black to white.\n\n"
            f"![Images, channels of their latents, and what is decoded of these]({figure})\n",
            {figure: contact_sheet_png([_drawn(one) for one in found[:ROWS]])},
        )

    @torch.inference_mode()
    def _encoded(self) -> Iterator[Encoded]:
        """Every test image through the autoencoder."""
        device = best_device(self.options.device)
        model = cast(Latent, load_checkpointed(self.training.target, device, Sampling()).model)
        source = open_source(self.testbed.hr())
        for entry in list_images(source):
            image = to_unit(np.array(decode.decode(source.fetch(entry)))[None])
            latent = model.encoded(image.to(device))
            yield Encoded(entry.key, image, latent.cpu(), model.decoded(latent).clamp(0, 1).cpu())


def _table(found: list[Encoded]) -> str:
    """Means over the images, a line a channel."""
    lines = []
    for channel in range(found[0].latent.shape[1]):
        values = [one.latent[0, channel].double().numpy() for one in found]
        every = np.stack(values)
        mean, variance = float(every.mean()), float(every.var())
        numbers = (mean, variance, kl_by_moments(mean, variance), kl_by_histogram(every))
        lines.append([str(channel + 1), *(f"{number:.3f}" for number in numbers)])
    text = markdown_table(["Channel", "mean", "variance", "KL by moments", "KL by histogram"], lines)
    errors = [float((one.back - one.image).square().mean()) for one in found]
    psnr = np.mean([-10 * np.log10(max(error, 1e-10)) for error in errors])
    return f"{text}\n\nPSNR of what is decoded: {psnr:.2f} dB."


def _drawn(one: Encoded) -> GalleryItem:
    channels = ((one.latent / RANGE + 1) / 2).clamp(0, 1).split(1, dim=1)
    shown = [GalleryImage(f"channel {number}", _png(channel)) for number, channel in enumerate(channels, 1)]
    ends = GalleryImage("image", _png(one.image), role="lr"), GalleryImage("decoded", _png(one.back), role="hr")
    return GalleryItem(one.key, [ends[0], *shown, ends[1]])


def _png(x: Tensor) -> bytes:
    return decode.encode_png(to_pixels(x.expand(-1, 3, -1, -1).clone(), np.uint8)[0])
