"""What an image becomes in memory, as its header says: how many samples of how many bytes, and how many on the way.

The bytes a pixel that decoding takes at its peak were measured for each kind, at 10 megapixels, with all that
`images.decode` and `photo.open_photo` do on the way to an array.
"""

from dataclasses import dataclass
from typing import Self

from PIL import Image, ImageFile

from storage.images.samples import DEEP

RGB, OTHERS, WITH_ALPHA, OF_16_BITS, OF_WEBP, OF_WEBP_WITH_ALPHA = 11, 14, 16, 20, 20, 24
"""Bytes a pixel: as Pillow has it, and its copies in other modes and as arrays; WebP has two canvases besides."""
TRANSPARENT, SIXTEEN = ("LA", "La", "PA", "RGBA", "RGBa"), ";16"
GREY = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Extent:
    """What an image has: pixels, as stored; channels with alpha; bytes a sample.

    decoding: the bytes of memory that decoding takes at its peak, those of the file apart.
    """

    height: int
    width: int
    channels: int
    depth: int
    decoding: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        """That of an image that Pillow has opened, and need not have decoded."""
        packing = str(image.tile[0][3]) if isinstance(image, ImageFile.ImageFile) and image.tile else ""
        has_alpha = image.mode in TRANSPARENT or "transparency" in image.info
        is_grey = image.mode in GREY or image.mode.startswith(DEEP)
        if image.format == "WEBP":
            bytes_a_pixel = OF_WEBP_WITH_ALPHA if has_alpha else OF_WEBP
        elif SIXTEEN in packing or image.mode.startswith(DEEP):
            bytes_a_pixel = OF_16_BITS
        else:
            bytes_a_pixel = WITH_ALPHA if has_alpha else RGB if image.mode == "RGB" else OTHERS
        return cls(
            image.height,
            image.width,
            (1 if is_grey else 3) + has_alpha,
            2 if bytes_a_pixel == OF_16_BITS else 1,
            bytes_a_pixel * image.height * image.width,
        )

    @classmethod
    def of_deep(cls, height: int, width: int, channels: int, tile: int = 0) -> Self:
        """That of an image that Pillow cannot hold. tile: the pixels of a tile, which may be more than it has."""
        return cls(height, width, channels, 2, OF_16_BITS * max(height * width, tile))
