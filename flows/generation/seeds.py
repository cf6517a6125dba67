"""Samples that come of seeds: their keys are numbers, and each seed follows from the run's seed and the key.

So an image does not depend on how many others there are, nor on which unit, process or machine makes it.
"""

import hashlib
import json
import math
from collections.abc import Sequence

from storage.stores.location import Entry

DIGITS = 8
MAX_COUNT = 10**DIGITS
BITS = 62
"""Of a seed, so that it fits the signed 64-bit integers of tables and of torch."""


GAUSSIAN, EXPONENTIAL = "gaussian", "exponential"
"""What noise images begin with: N(0, 1), or Exp(rate), which is written `exponential:0.5`."""


def is_noise(start: str) -> bool:
    """Whether images begin with noise, and not with the images at an address."""
    return start == GAUSSIAN or start.startswith(f"{EXPONENTIAL}:")


def checked_start(start: str) -> str:
    """What images begin with, in one way of writing; ValueError for noise that there is not."""
    kind, _, rate = start.partition(":")
    if kind != EXPONENTIAL:
        return start
    try:
        value = float(rate)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{start} has no rate above 0; say {EXPONENTIAL}:0.5")
    return f"{EXPONENTIAL}:{value:g}"


def key_of(number: int) -> str:
    """The key of a sample by its number, such as 00000042."""
    return f"{number:0{DIGITS}d}"


def seed_of(seed: int, key: str) -> int:
    """The seed of a sample, 0 … 2**62 − 1: the first 62 bits of the SHA-256 of "SEED/KEY"."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 64 - BITS


def seeded(seed: int, count: int) -> list[Entry]:
    """So many samples without a source; their tags are their seeds."""
    return [Entry(key, 0, str(seed_of(seed, key))) for key in map(key_of, range(count))]


def started_from(images: Sequence[Entry], seed: int, count: int) -> list[Entry]:
    """So many samples that start from images, each from the next one, and from the first again after the last.

    Their tags change with their images.
    """
    samples = []
    for number in range(count):
        key, image = key_of(number), images[number % len(images)]
        tag = json.dumps([seed_of(seed, key), *image.listed], ensure_ascii=False, separators=(",", ":"))
        samples.append(Entry(key, image.size, tag, parts=(image,)))
    return samples
