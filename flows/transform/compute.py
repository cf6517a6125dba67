"""What a method makes of loaded images of one size, with their transparency."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dtls.inference.alpha import bounded, fill, of_alpha
from dtls.inference.method import Method
from dtls.inference.pixels import to_pixels, to_unit
from flows.transform.loaded import LoadedImage, SizeOf, reason_of
from storage.images.photo import Samples
from storage.receipts.units import Row, failed
from storage.stores.errands import in_hand

TRANSPARENT = (2, 4)
"""Numbers of channels of images that have an alpha channel."""


def copied(method: Method, size_of: SizeOf, image: LoadedImage) -> LoadedImage:
    """The result of a method that computes no numbers."""
    started = time.perf_counter()
    photograph, size = image.photograph, size_of(image.shape)
    alpha = None if photograph.alpha is None else method.copied(photograph.alpha, size)
    return image.become(method.copied(photograph.pixels, size), alpha, time.perf_counter() - started)


def computed(method: Method, size_of: SizeOf, batch: Sequence[LoadedImage]) -> Iterator[LoadedImage | Row]:
    """The results of images of one kind, or the rows of their failures. A failing batch is tried image by image."""
    started = time.perf_counter()
    try:
        with in_hand(*(image.entry.key for image in batch)):
            colours, alphas = _results(method, batch, size_of(batch[0].shape))
    except Exception as error:  # models raise anything; torch, for want of memory, RuntimeError
        if len(batch) > 1:
            for image in batch:
                yield from computed(method, size_of, [image])
        else:
            yield failed(batch[0].entry, reason_of(batch[0].entry, error))
        return
    seconds = (time.perf_counter() - started) / len(batch)
    for image, pixels, alpha in zip(batch, colours, alphas, strict=True):
        if pixels is None:
            yield failed(image.entry, f"{method.name} gave pixels that are no numbers")
        else:
            yield image.become(pixels, alpha, seconds)


@torch.inference_mode()
def _results(
    method: Method, batch: Sequence[LoadedImage], size: tuple[int, int]
) -> tuple[Sequence[Samples | None], Sequence[Samples | None]]:
    """Colours and alphas of the results of images of one kind; no colours where they are no numbers."""
    photographs = [image.photograph for image in batch]
    dtype = photographs[0].pixels.dtype
    colours = to_unit(np.stack([photograph.pixels for photograph in photographs]))
    alphas: Sequence[Samples | None] = [photograph.alpha for photograph in photographs]
    if transparent := [alpha[..., None] for alpha in alphas if alpha is not None]:
        alpha = to_unit(np.stack(transparent))  # (N, 1, h, w)
        colours = fill(colours, alpha)
        if size != batch[0].shape:
            enlarged = of_alpha(method)(alpha, size).nan_to_num().cpu()
            alphas = list(to_pixels(bounded(enlarged, alpha), dtype)[..., 0])
    holes = [image.hole for image in batch if image.hole is not None]
    mask = torch.from_numpy(np.stack(holes)).float()[:, None] if holes else None  # (N, 1, h, w)
    if method.channelwise:  # each channel alone takes a third of the memory
        channels = [to_pixels(method(channel, size, mask), dtype) for channel in colours.split(1, dim=1)]
        made, finite = np.concatenate(channels, axis=-1), [True] * len(batch)
    else:
        results = method(colours, size, mask)
        finite = results.sum(dim=(1, 2, 3)).isfinite().tolist()
        made = to_pixels(results, dtype)
    found = [pixels if good else None for pixels, good in zip(made, finite, strict=True)]
    if made.shape[-1] in TRANSPARENT:
        return _parted(found, alphas)
    if holes:
        found = [
            None if pixels is None else np.where(hole[..., None], pixels, photograph.pixels)
            for pixels, hole, photograph in zip(found, holes, photographs, strict=True)
        ]
    return found, alphas


def _parted(
    made: Sequence[Samples | None], alphas: Sequence[Samples | None]
) -> tuple[Sequence[Samples | None], Sequence[Samples | None]]:
    """Colours, and alphas as small as both the results and their sources have them."""
    colours = [None if pixels is None else pixels[..., :-1] for pixels in made]
    own = [None if pixels is None else pixels[..., -1] for pixels in made]
    return colours, [
        one if alpha is None or one is None else np.minimum(one, alpha)
        for one, alpha in zip(own, alphas, strict=True)
    ]
