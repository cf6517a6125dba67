"""Images without colour, for methods that give them one: of one channel, or of three equal ones."""

from dataclasses import replace

import numpy as np

from storage.images.formats import ImageError
from storage.images.photo import Photo

TOLERANCE = 2 / 255
"""By how much the channels of a pixel may differ in an image that counts as grey: JPEG's rounding."""
WAY_OUT = "dtls degrade FOLDER GREY --task colourise takes the colours out"


def without_colour(photograph: Photo) -> Photo:
    """A photograph of one channel, of one that is grey in one channel or in three; ImageError for one in colour."""
    pixels = photograph.pixels
    if pixels.shape[2] == 1:
        return photograph
    spread = int((pixels.max(axis=2) - pixels.min(axis=2)).max())
    if spread > TOLERANCE * np.iinfo(pixels.dtype).max:
        raise ImageError(f"it is in colour already, and only grey images are colourised; {WAY_OUT}")
    return replace(photograph, pixels=pixels[..., 1:2])
