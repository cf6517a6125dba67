"""How images become noise: the KL divergence from N(0, 1) along a forward chain, and the schedules of a thesis.

Nothing is trained. The test images become squares x_0 in [−1, 1]; x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε (2006.11239, eq. 4),
where the noise of each image is of a seed of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from dtls.inference.pixels import to_pixels, to_unit
from dtls.models.diffusion import ChainConfig, Schedule, betas
from dtls.models.generative import GenerativeChainConfig
from flows.experiments.experiment import Document
from flows.experiments.options import ReproduceOptions
from flows.experiments.testbed import Testbed
from flows.inputs.contents import list_images
from flows.interface.options import command_line
from flows.interface.text import counted
from reports.figures.contact_sheet import contact_sheet_png
from reports.figures.gallery import GalleryImage, GalleryItem
from reports.figures.lines import Curve, Panel, lines_figure
from reports.figures.plots import figure_bytes
from reports.metrics.kl import kl_by_histogram, kl_by_moments, kl_of_exponential, noised_moments
from reports.tables.render import markdown_table
from storage.archives.source import open_source
from storage.images import decode
from storage.stores.location import Location

Values = NDArray[np.float64]
SLIDES_STEPS, THESIS_STEPS = 1000, 2000
"""T of the slides' chain, whose β are those of our generative models, and of the thesis'."""
PUBLISHED = {0: 1.8643, 250: 1.542, 500: 0.501, 750: 0.0993, 1000: 0.00101}
"""The slides' KL divergences along the chain, by t; how they are estimated is not said."""
RATE, PUBLISHED_EXPONENTIAL, DRAWS = 0.5, 3.7697, 1_000_000
"""λ of the noise that the slides start from instead, their KL divergence of it, and how many values we draw."""
SHOWN = 9
"""Noisy images in a row of the figure of schedules."""
POINTS = 41
"""Timesteps of a curve."""
PARTS = (0, 0.25, 0.5, 0.75, 1)


class Noising:
    """The KL divergence of noisy images from N(0, 1), by its closed form and by two estimates (document 001)."""

    default_size = 32

    def __init__(self, options: ReproduceOptions) -> None:
        self.options = options
        self.testbed = Testbed.of(options, options.size or self.default_size)

    def check(self) -> None:
        self.testbed.data.check(Location.of(self.options.out))

    def document(self) -> Document:
        kept = _kept(betas("linear", SLIDES_STEPS, GenerativeChainConfig.beta_times_t).double().numpy())
        images = self._images()
        times = {*PUBLISHED, *(round(i * SLIDES_STEPS / (POINTS - 1)) for i in range(POINTS))}
        at = {t: _divergences(images, kept[t]) for t in sorted(times)}
        figure = f"figure-{self.options.table}.png"
        return Document(
            f"# KL divergence from N(0, 1) along the forward chain\n\n{self._conditions(images)}\n\n"
            f"{_forward(at, kept)}\n\n## Exponential noise\n\n{_exponential()}\n\n"
            "Numbers are in nats, means over the images. The slides do not say by which estimate theirs are, so that "
            "they cannot be expected to agree with any of ours.\n\n"
            f"![KL divergence over t]({figure})\n",
            {figure: _curves(at)},
        )

    def _images(self) -> list[Values]:
        """The test images, (3, S, S) each in [−1, 1]."""
        self.testbed.make_hr()
        source = open_source(self.testbed.hr())
        pixels = (decode.decode(source.fetch(entry)) for entry in list_images(source))
        return [to_unit(np.array(image)[None])[0].double().numpy() * 2 - 1 for image in pixels]

    def _conditions(self, images: Sequence[Values]) -> str:
        """Of what the numbers are."""
        facts = [
            f"{counted(len(images), 'image')} of {self.testbed.data.tested}",
            f"{self.testbed.size}×{self.testbed.size} pixels",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ]
        return f"{' · '.join(facts)}\n\n`{command_line('reproduce', self.options)}`"


class Schedules(Noising):
    """The four schedules of the thesis, T = 2000: β, ᾱ and what becomes of an image (Fig. 4.1)."""

    default_size = 128

    def document(self) -> Document:
        kept = {name: _kept(betas(name, THESIS_STEPS).double().numpy()) for name in get_args(Schedule)}
        images = self._images()
        first, last = (beta / THESIS_STEPS for beta in ChainConfig.beta_times_t)
        lines = [
            [name, *(f"{values[round(part * THESIS_STEPS)]:.4g}" for part in PARTS), f"{_left(values[-1]):.1e}"]
            for name, values in kept.items()
        ]
        head = ["Schedule", *(f"ᾱ at t = {round(part * THESIS_STEPS)}" for part in PARTS), "KL at T"]
        curves, rows = f"figure-{self.options.table}.png", f"figure-{self.options.table}-images.png"
        return Document(
            f"# Thesis, Fig. 4.1: schedules\n\n{self._conditions(images[:1])}\n\n{markdown_table(head, lines)}\n\n"
            f"T is {THESIS_STEPS}, β goes from {first:g} to {last:g} where a schedule has such ends. KL is the "
            "closed form for x_T from N(0, 1), in nats, where x_0 is −1 everywhere.\n\n"
            f"![β and ᾱ over t]({curves})\n\n![Noisy images]({rows})\n",
            {curves: _schedules(kept), rows: _sheet(images[0], kept)},
        )


def _kept(spread: Values) -> Values:
    """ᾱ_0 … ᾱ_T, (T + 1,), of β_1 … β_T."""
    made: Values = np.concatenate((np.ones(1), np.cumprod(1 - spread)))
    return made


def _noised(image: Values, kept: float, seed: int) -> Values:
    """x_t of an x_0, in shares ᾱ."""
    noise = np.random.default_rng(seed).standard_normal(image.shape)
    made: Values = np.sqrt(kept) * image + np.sqrt(1 - kept) * noise
    return made


def _divergences(images: Iterable[Values], kept: float) -> dict[str, float]:
    """The means over images of KL at ᾱ: by moments, by the closed form, and by a histogram."""
    found = []
    for seed, image in enumerate(images):
        x = _noised(image, kept, seed)
        closed = kl_by_moments(*noised_moments(float(image.mean()), float(image.var()), kept))
        found.append((kl_by_moments(float(x.mean()), float(x.var())), closed, kl_by_histogram(x)))
    return dict(zip(("by moments", "closed form", "by histogram"), np.mean(found, axis=0).tolist(), strict=True))


def _left(kept: float) -> float:
    """KL at ᾱ of an image that is black."""
    return kl_by_moments(*noised_moments(-1, 0, kept))


def _forward(at: Mapping[int, Mapping[str, float]], kept: Values) -> str:
    names = list(next(iter(at.values())))
    lines = [
        [str(t), f"{kept[t]:.4g}", *(f"{at[t][name]:.4g}" for name in names), f"{value:g}"]
        for t, value in PUBLISHED.items()
    ]
    return markdown_table(["t", "ᾱ", *(f"KL {name}" for name in names), "slides"], lines)


def _exponential() -> str:
    x = np.random.default_rng(0).exponential(1 / RATE, DRAWS)
    moments, histogram = kl_by_moments(float(x.mean()), float(x.var())), kl_by_histogram(x)
    numbers = (kl_of_exponential(RATE), moments, histogram, PUBLISHED_EXPONENTIAL)
    head = ["Noise", "KL closed form", "KL by moments", "KL by histogram", "slides"]
    return markdown_table(head, [[f"Exp({RATE:g}), {DRAWS:,} draws", *(f"{number:.4f}" for number in numbers)]])


def _curves(at: Mapping[int, Mapping[str, float]]) -> bytes:
    names = list(next(iter(at.values())))
    curves = [Curve(name, list(at), [row[name] for row in at.values()]) for name in names]
    curves.append(Curve("slides", list(PUBLISHED), list(PUBLISHED.values()), joined=False))
    return figure_bytes(lines_figure([Panel("t", "KL from N(0, 1) (nats)", curves, log_y=True)]), "png")


def _schedules(kept: Mapping[str, Values]) -> bytes:
    times = range(THESIS_STEPS + 1)
    spread = [Curve(name, times[1:], (1 - values[1:] / values[:-1]).tolist()) for name, values in kept.items()]
    whole = [Curve(name, times, values.tolist()) for name, values in kept.items()]
    noise = [Curve(name, times[1:], (values[1:] / (1 - values[1:])).tolist()) for name, values in kept.items()]
    panels = [
        Panel("t", "β", spread, log_y=True),
        Panel("t", "ᾱ", whole),
        Panel("t", "ᾱ / (1 − ᾱ)", noise, log_y=True),
    ]
    return figure_bytes(lines_figure(panels), "png")


def _sheet(image: Values, kept: Mapping[str, Values]) -> bytes:
    """A row a schedule: one image from t = 0 to T, all with the same noise."""
    times = [round(i * THESIS_STEPS / (SHOWN - 1)) for i in range(SHOWN)]
    return contact_sheet_png(
        [
            GalleryItem(name, [GalleryImage(f"t = {t}", _png(_noised(image, values[t], 0))) for t in times])
            for name, values in kept.items()
        ]
    )


def _png(x: Any) -> bytes:
    from torch import from_numpy

    return decode.encode_png(to_pixels(from_numpy((x[None] + 1) / 2).clamp(0, 1), np.uint8)[0])
