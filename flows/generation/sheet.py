"""The images of a mix beside each other, as in Figure D13 of the DTLS paper."""

from collections.abc import Callable, Sequence

import numpy as np

from storage.images import decode as codec
from storage.stores.location import Location

SHEET = "sheet.png"
GAP = 2
"""White pixels between two images."""


def write_sheet(target: Location, names: Sequence[str]) -> None:
    """Put `sheet.png`, a row of the target's images of these names, which are of one height, into the target.

    Those that failed are left out.
    """
    files = map(target.read_if_there, names)
    images = [codec.decode(data) for data in files if data is not None]
    if not images:
        return
    gap = np.full((len(images[0]), GAP, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    target.write(SHEET, codec.encode_png(np.concatenate(parts, axis=1)))


def sheet_of(target: Location, names: Sequence[str]) -> Callable[[], None]:
    """What writes the sheet once all images are there."""
    return lambda: write_sheet(target, names)
